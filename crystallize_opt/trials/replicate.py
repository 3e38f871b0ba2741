"""One run of the pipeline as it is told, and what several runs say together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from crystallize_opt.errors import printable
from crystallize_opt.runtime.shown import cut, number
from crystallize_opt.trials.curves import Curves
from crystallize_opt.trials.status import Status, as_status
from crystallize_opt.trials.values import mean_of


class Outcome(Mapping[str, float]):
    """A read-only mapping of metric to value: the base of `Replicate` and `Observation`."""

    __slots__ = ()
    metrics: Mapping[str, float]

    def __getitem__(self, metric: str) -> float:
        return self.metrics[metric]

    def __iter__(self) -> Iterator[str]:
        return iter(self.metrics)

    def __len__(self) -> int:
        return len(self.metrics)

    def _shown(self, name: str, status: Status, error: str | None, sem: Mapping[str, Any]) -> str:
        """Return the outcome in one line."""
        parts = [
            f"{metric}={number(value)}"
            + ("" if sem.get(metric) is None else f" ± {sem[metric]:.2g}")
            for metric, value in self.metrics.items()
        ]
        parts.append(str(status))
        if error:
            parts.append(cut(error.splitlines()[0]))
        return printable(f"{type(self).__name__} {name}: {', '.join(parts)}")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Replicate(Outcome):
    """One run of the pipeline. A read-only mapping of metric to its (mean) value.

    Attributes:
        index: The number of the replicate in its treatment, from 0.
        seed: The seed of the replicate, or None without a `SeedPlugin`.
        metrics: Metric name to value; only metrics that are numbers.
        status: How the replicate ended.
        error: What went wrong, `"ValueError: ..."`, or None.
        traceback: The text of the traceback, or None.
        started_at: When the replicate began, in seconds since the epoch.
        duration: How long it took, in seconds.
        curves: The learning curves that `ctx.report` recorded: metric to its points, each a step
            and a value, in the order in which they were reported.
    """

    index: int
    seed: int | None
    metrics: Mapping[str, float]
    status: Status = Status.COMPLETED
    error: str | None = None
    traceback: str | None = None
    started_at: float | None = None
    duration: float | None = None
    curves: Curves = field(default_factory=dict)

    def __post_init__(self) -> None:
        if type(self.status) is not Status:  # All code compares by identity.
            object.__setattr__(self, "status", as_status(self.status))

    def __repr__(self) -> str:
        return f"<{self._shown(str(self.index), self.status, self.error, {})}>"


_TOLERATED = (Status.FAILED, Status.INVALID, Status.OUT_OF_MEMORY, Status.WORKER_DIED)
"""How a replicate may fail if not all must complete. A time limit is one for the whole trial."""


def tolerated_failures(replicates: int, min_share: float) -> int:
    """Return how many of so many replicates may fail if a share of them must complete.

    Example:
        >>> tolerated_failures(10, 0.7), tolerated_failures(5, 0.9), tolerated_failures(3, 1.0)
        (3, 0, 0)
    """
    # 10 * 0.7 is a little above 7.
    return replicates - math.ceil(replicates * min_share - 1e-9)


def is_tolerated(replicate: Replicate) -> bool:
    """Whether a trial may go on after such a replicate, if not all must complete."""
    return replicate.status in _TOLERATED


def tolerates(replicates: Sequence[Replicate], min_share: float) -> bool:
    """Whether the trial completed in spite of replicates that did not."""
    others = [each for each in replicates if each.status is not Status.COMPLETED]
    allowed = min(tolerated_failures(len(replicates), min_share), len(replicates) - 1)
    return len(others) <= allowed and all(map(is_tolerated, others))


def total_duration(replicates: Sequence[Replicate]) -> float | None:
    """Return how long replicates took together; None if that of one is not known."""
    durations = [r.duration for r in replicates if r.duration is not None]
    return math.fsum(durations) if len(durations) == len(replicates) else None


def means(
    replicates: Sequence[Replicate],
) -> tuple[dict[str, float], dict[str, float | None]]:
    """Return the mean of each metric over the replicates that have it, and its standard error."""
    names = dict.fromkeys(name for replicate in replicates for name in replicate)
    means: dict[str, float] = {}
    sems: dict[str, float | None] = {}
    for name in names:
        values = [replicate[name] for replicate in replicates if name in replicate]
        means[name] = mean = mean_of(values)
        sems[name] = None
        if (count := len(values)) > 1:
            # `hypot` takes the root of the sum of squares without an overflow of the squares.
            deviation = math.hypot(*(value - mean for value in values))
            sems[name] = deviation / math.sqrt(count * (count - 1))
    return means, sems
