"""One run of the pipeline, and its record for an optimizer."""

from __future__ import annotations

import dataclasses
import math
import traceback
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from crystallize_opt.errors import ObjectiveError, Pruned
from crystallize_opt.pipeline.fault import Fault
from crystallize_opt.trials.curves import Curves, last_value
from crystallize_opt.trials.objective import Reduction
from crystallize_opt.trials.observation import Replicate, Status
from crystallize_opt.trials.values import as_number, mean_of, value_and_type


@dataclass(slots=True)
class ReplicateRun:
    """The outcome of one run of the pipeline.

    Attributes:
        index: The number of the replicate, from 0.
        seed: The seed of the replicate, or None without a `SeedPlugin`.
        metrics: Every recorded metric with all its values, also those from before an error.
        data: The data that the last step returned.
        error: The exception that ended the replicate, or None.
        started_at: When the replicate began, in seconds since the epoch.
        duration: How long the replicate took, in seconds.
        returned: The number that the last step returned, or a text about it or about a mapping;
            None if it returned neither. Such a step probably forgot to record its number.
        asked_for: The context keys that the steps asked for; None if unknown, for example because a
            child was forked meanwhile, in which the steps may have asked for more.
        fault: What is known of `error`, as plain data.
        curves: The learning curves, by metric.
    """

    index: int
    seed: int | None
    metrics: Mapping[str, tuple[Any, ...]]
    data: Any
    error: BaseException | None
    started_at: float
    duration: float
    returned: float | str | None = None
    asked_for: Collection[str] | None = None
    fault: Fault | None = None
    curves: Curves = field(default_factory=dict)

    def drop_data(self) -> None:
        """Forget the data, and note whether it was a number or a mapping."""
        data, self.data = self.data, None
        last = data[1] if type(data) is tuple and len(data) == 2 else data
        if type(last) is float or type(last) is int:
            self.returned = last
        elif not self.metrics and (isinstance(last, Mapping) or as_number(last) is not None):
            self.returned = value_and_type(last)

    def summary(self) -> Replicate:
        """Return the record for an optimizer: numbers only, and the error as text.

        An exception would keep every frame it passed through alive, with all data.
        """
        metrics: dict[str, float] = {}
        for name, values in self.metrics.items():
            if len(values) == 1:
                if (number := as_number(values[0])) is not None:
                    metrics[name] = number
                continue
            numbers = [number for value in values if (number := as_number(value)) is not None]
            if len(numbers) == len(values):
                metrics[name] = mean_of(numbers)
        status, message, trace = Status.COMPLETED, None, None
        if isinstance(self.error, Pruned):
            status, message = Status.PRUNED, str(self.error) or None
            for name, curve in self.curves.items():
                metrics.pop(name, None)
                if (value := last_value(curve)) is not None:
                    metrics[name] = value
        elif self.error is not None:
            memory = isinstance(self.error, MemoryError)
            status = Status.OUT_OF_MEMORY if memory else Status.FAILED
            message = "".join(traceback.format_exception_only(self.error)).strip()
            trace = "".join(traceback.format_exception(self.error))
        return Replicate(
            self.index,
            self.seed,
            metrics,
            status,
            message,
            trace,
            self.started_at,
            self.duration,
            self.curves,
        )


def recorded_instead(runs: Sequence[ReplicateRun], metric: str) -> str:
    """Return a sentence about what was recorded or returned instead of a number, or "".

    Args:
        runs: The replicates of a trial.
        metric: A metric that one of them did not record as a number.
    """
    for run in runs:
        for value in run.metrics.get(metric, ()):
            if as_number(value) is None:
                return f"Recorded as {metric!r}: {value_and_type(value)}. Record one number."
        if metric in run.curves and metric not in run.metrics:
            return (
                f"Its intermediate values were reported: record the final value as well, with "
                f"ctx.metrics.add({metric!r}, value)."
            )
    returned = next((run.returned for run in runs if run.returned is not None), None)
    if returned is None:
        return ""
    shown = returned if isinstance(returned, str) else value_and_type(returned)
    return (
        f"The last step returned {shown}: record it with ctx.metrics.add({metric!r}, value), or "
        f"return (data, {{{metric!r}: value}})."
    )


def reduced(
    run: ReplicateRun, replicate: Replicate, reductions: Mapping[str, Reduction | None]
) -> Replicate:
    """Return the record of a run with one value for each metric of objectives and constraints.

    Args:
        run: The run, with every recorded value.
        replicate: Its record, in which a metric that was recorded several times has its mean.
        reductions: For each metric, the value that counts.

    Raises:
        ObjectiveError: A completed replicate has several values of a metric without a reduction.
    """
    if replicate.status is not Status.COMPLETED:
        return replicate
    metrics = None
    for metric, how in reductions.items():
        values = run.metrics.get(metric)
        if values is not None and len(values) > 1:
            if how is None:
                raise ObjectiveError(
                    f"Replicate {run.index} recorded the metric {metric!r} {len(values)} times. "
                    "Say which value counts: Objective(..., reduce='last'), or 'mean', 'min' or "
                    "'max'; for a constraint: Constraint(..., reduce='last'). Or record the "
                    "metric once."
                )
            metrics = {**replicate.metrics} if metrics is None else metrics
            metrics.pop(metric, None)
            if (number := _one_of(values, how)) is not None:
                metrics[metric] = number
    return replicate if metrics is None else dataclasses.replace(replicate, metrics=metrics)


def _one_of(values: tuple[Any, ...], how: Reduction) -> float | None:
    """Reduce several values to one number; None if one that counts is no number."""
    if how == "last":
        return as_number(values[-1])
    numbers = [number for value in values if (number := as_number(value)) is not None]
    if len(numbers) < len(values):
        return None
    if any(map(math.isnan, numbers)):  # `min` and `max` would depend on the order.
        return math.nan
    if how == "mean":
        return mean_of(numbers)
    return min(numbers) if how == "min" else max(numbers)


def run_of(replicate: Replicate) -> ReplicateRun:
    """Return the run that a stored replicate describes; each metric has its one (mean) value."""
    error = None
    if replicate.status is not Status.COMPLETED:
        error = RuntimeError(replicate.error or str(replicate.status))
    return ReplicateRun(
        replicate.index,
        replicate.seed,
        {metric: (value,) for metric, value in replicate.metrics.items()},
        None,
        error,
        replicate.started_at or 0.0,
        replicate.duration or 0.0,
        curves=replicate.curves,
    )
