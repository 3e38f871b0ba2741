"""What a backend that ends trials early has heard of each pending trial.

A backend hears of one number at each step of a trial, in order. Only this module decides which:

- the points of the curve that `trials/curves.py` names, if the trial reports any;
- else, after each replicate, the running mean of the objective over the replicates so far, at the
  replicate's index; or, for a pruner that compares replicates in pairs, the replicate's own value.

A backend hears of a step once. A trial that begins again, after a crash or as a retry, reports its
steps again, and gets the answers that it got before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from crystallize_opt.errors import ObjectiveError
from crystallize_opt.trials.curves import HEARD_REPLICATE, Curve, checked_step
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.values import checked_value

Report = Callable[[int, float], bool]
"""Reports a step and its value to the backend; returns whether it would end the trial there."""


@dataclass(slots=True)
class Heard:
    """What was reported of one pending trial.

    Attributes:
        answers: The steps of which the backend has heard, and whether it would prune there.
        has_curve: Whether these are steps of a curve, not replicates.
        replicates: How many replicates have been reported.
        curves: The points that were given to `SpaceOptimizer.report`, by metric.
        mean: The running mean over the replicates, and their number.
    """

    answers: dict[int, bool] = field(default_factory=dict)
    has_curve: bool = False
    replicates: int = 0
    curves: dict[str, dict[int, float]] = field(default_factory=dict)
    mean: tuple[float, int] = (0.0, 0)

    def add(
        self, step: int, value: float | Mapping[str, float], metric: str | None
    ) -> tuple[int, Mapping[str, float], list[str]]:
        """Keep a point that was reported by hand.

        Args:
            step: The step.
            value: A mapping of metrics to values, or the value of `metric`.
            metric: The objective's metric; None if there are several objectives.

        Returns:
            The step, the values by metric, and the metrics that had no value at this step before.

        Raises:
            UsageError: The step is not a whole number, or a value is not a number.
            ObjectiveError: One value is given, but there are several objectives.
        """
        if isinstance(value, Mapping):
            given = value
        elif metric is None:
            raise ObjectiveError(
                "With several objectives, report() takes a mapping of metrics to values, not "
                f"{value!r}."
            )
        else:
            given = {metric: value}
        step = checked_step(metric or ", ".join(given), step)
        points = {name: checked_value(name, each) for name, each in given.items()}
        new = [name for name in points if step not in self.curves.get(name, ())]
        for name in new:
            self.curves.setdefault(name, {})[step] = points[name]
        return step, points, new

    def point(self, step: int, value: float, report: Report) -> bool:
        """Report a point of the trial's curve, unless the backend has heard of the step."""
        self.has_curve = True
        if step not in self.answers:
            self.answers[step] = report(step, value)
        return self.answers[step]

    def replicate(self, index: int, value: float, report: Report, *, paired: bool) -> bool:
        """Report a finished replicate, unless the backend hears of the trial's curve."""
        self.replicates = index + 1
        if self.has_curve or not math.isfinite(value):
            return False
        if index not in self.answers:
            mean, count = self.mean
            mean += (value - mean) / (count + 1)
            self.mean = mean, count + 1
            self.answers[index] = report(index, value if paired else mean)
        return self.answers[index]

    def rest(self, observation: Observation, metric: str, report: Report, *, paired: bool) -> None:
        """Report what the backend has not heard of a trial that has ended, or is attached."""
        replicates = observation.replicates
        if not (paired and (len(replicates) > 1 or (self.replicates and not self.has_curve))):
            for step, value in heard_curve(observation, metric):
                self.point(step, value, report)
        for replicate in replicates[self.replicates :]:
            value = replicate.metrics.get(metric, math.nan)
            self.replicate(replicate.index, value, report, paired=paired)


def heard_curve(observation: Observation, metric: str) -> Curve:
    """Return the curve of a trial of which a backend hears; it may be empty."""
    for replicate in observation.replicates:
        if replicate.index == HEARD_REPLICATE:
            return replicate.curves.get(metric, ())
    return ()
