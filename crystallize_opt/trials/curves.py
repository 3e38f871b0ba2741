"""Learning curves: the values of a metric at the steps of a replicate, and who hears of them.

Only this module decides what a point is, which points an optimizer hears of, and what the value of
a replicate is that ends early:

- A step is a whole number, at least 0. A replicate reports each step of a metric once, in any
  order. A value is a number; nan and the infinities are points, too, because a diverged training is
  what a pruner should see.
- An optimizer that ends trials early hears of one curve for each trial: that of its only objective,
  in the first replicate. The other replicates have other seeds, so their values cannot be compared
  with those of the first one. A curve appended to the first one would begin again at a high loss,
  for which a pruner with a threshold or with patience would end every trial.
- The value of a metric in a pruned replicate is the value at the highest step that it reported, as
  in Optuna; nothing if that value is not finite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from crystallize_opt.errors import UsageError
from crystallize_opt.runtime.checks import whole_number

Curve = tuple[tuple[int, float], ...]
"""The points of one metric, in the order in which they were reported: step and value."""

Curves = Mapping[str, Curve]
"""The curves of a replicate by the names of their metrics."""

HEARD_REPLICATE = 0
"""The replicate whose curve an optimizer hears of."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Hears the points of one trial's curve while the trial runs.

    Attributes:
        metric: The only metric whose points are heard.
        report: Takes step and value of a point; returns whether the trial should end there.
        replicate: The only replicate whose points are heard.
    """

    metric: str
    report: Callable[[int, float], bool]
    replicate: int = HEARD_REPLICATE

    def hears(self, metric: str, replicate: int | None) -> bool:
        """Whether the points of a metric in a replicate are heard."""
        return metric == self.metric and replicate == self.replicate


def checked_step(metric: str, step: Any) -> int:
    """Return a step as a plain `int`.

    Raises:
        UsageError: It is not a whole number, at least 0.
    """
    if type(step) is int and step >= 0:
        return step
    return whole_number(f"The step of {metric!r}", step, low=0)


def refuse_repeated_step(metric: str, step: int) -> UsageError:
    """Return the error for a step that was reported before."""
    return UsageError(
        f"Step {step} of {metric!r} has been reported before. Report each step once, for example "
        "with the number of the epoch as its step."
    )


def last_value(curve: Curve) -> float | None:
    """Return the value at the highest step; None if there is none, or it is not finite."""
    if not curve:
        return None
    _, value = max(curve, key=lambda point: point[0])
    return value if math.isfinite(value) else None


def until(curves: Curves, metric: str, step: int) -> dict[str, Curve]:
    """Return the curves of a replicate that ends where it reports a step of a metric.

    Of the other metrics, the steps up to that one are kept: their order is not known.
    """
    kept: dict[str, Curve] = {}
    for name, curve in curves.items():
        if name == metric:
            count = next(number for number, point in enumerate(curve, 1) if point[0] == step)
            kept[name] = curve[:count]
        else:
            kept[name] = tuple([point for point in curve if point[0] <= step])
    return kept
