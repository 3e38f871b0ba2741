"""One run of the pipeline, and its record for an optimizer."""

from __future__ import annotations

import dataclasses
import math
import traceback
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crystallize_opt.errors import ObjectiveError, Pruned
from crystallize_opt.pipeline.fault import Fault
from crystallize_opt.trials.curves import Curves, last_value
from crystallize_opt.trials.objective import Reduction
from crystallize_opt.trials.replicate import Replicate
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.values import as_number, mean_of, value_and_type


@dataclass(slots=True)
class ReplicateRun:
    """The outcome of one run of the pipeline.

    Attributes:
        record: The record for an optimizer: numbers only, and the error as text.
        metrics: Every recorded metric with all its values, also those from before an error.
        error: The exception that ended the replicate, or None.
        data: The data that the last step returned.
        asked_for: The context keys that the steps asked for; None if unknown, for example because a
            child was forked meanwhile, in which the steps may have asked for more.
        fault: What is known of `error`, as plain data.
        returned: The number that the last step returned, or a text about it or about a mapping;
            None if it returned neither. Such a step probably forgot to record its number.
    """

    record: Replicate
    metrics: Mapping[str, tuple[Any, ...]]
    error: BaseException | None
    data: Any = None
    asked_for: Collection[str] | None = None
    fault: Fault | None = None
    returned: float | str | None = None

    def drop_data(self) -> None:
        """Forget the data, and note whether it was a number or a mapping."""
        last, self.data = self.data, None
        kind = type(last)
        if kind is tuple and len(last) == 2:
            last = last[1]
            kind = type(last)
        if kind is float or kind is int:
            self.returned = last
        elif not self.metrics and (isinstance(last, Mapping) or as_number(last) is not None):
            self.returned = value_and_type(last)

    def reduce(self, reductions: Mapping[str, Reduction | None]) -> None:
        """Give the record one value for each metric of objectives and constraints.

        Until then, a metric that was recorded several times has its mean.

        Args:
            reductions: For each metric, the value that counts.

        Raises:
            ObjectiveError: A completed replicate has several values of a metric without a
                reduction.
        """
        for metric, how in reductions.items():
            values = self.metrics.get(metric, ())
            if len(values) > 1 and self.record.status is Status.COMPLETED:
                if how is None:
                    raise ObjectiveError(
                        f"Replicate {self.record.index} recorded the metric {metric!r} "
                        f"{len(values)} times. Say which value counts: Objective(..., "
                        "reduce='last'), or 'mean', 'min' or 'max'; for a constraint: "
                        "Constraint(..., reduce='last'). Or record the metric once."
                    )
                metrics = {**self.record.metrics}
                metrics.pop(metric, None)
                if (number := _one_of(values, how)) is not None:
                    metrics[metric] = number
                self.record = dataclasses.replace(self.record, metrics=metrics)


def record_of(
    index: int,
    seed: int | None,
    values: Mapping[str, tuple[Any, ...]],
    error: BaseException | None,
    started_at: float,
    duration: float,
    curves: Curves,
) -> Replicate:
    """Return the record of a run for an optimizer: numbers only, and the error as text.

    An exception would keep every frame it passed through alive, with all data.
    """
    metrics: dict[str, float] = {}
    for name, recorded in values.items():
        if len(recorded) == 1:
            value = recorded[0]
            number = value if type(value) is float else as_number(value)
            if number is not None:
                metrics[name] = number
            continue
        numbers = [number for value in recorded if (number := as_number(value)) is not None]
        if len(numbers) == len(recorded):
            metrics[name] = mean_of(numbers)
    status, message, trace = Status.COMPLETED, None, None
    if error is not None:
        status, message, trace = _ended_by(error)
        if status is Status.PRUNED:
            for name, curve in curves.items():
                metrics.pop(name, None)
                if (last := last_value(curve)) is not None:
                    metrics[name] = last
    return Replicate(index, seed, metrics, status, message, trace, started_at, duration, curves)


def _ended_by(error: BaseException) -> tuple[Status, str | None, str | None]:
    """Return the status, message and traceback of a replicate that an exception ended."""
    if isinstance(error, Pruned):
        return Status.PRUNED, str(error) or None, None
    status = Status.OUT_OF_MEMORY if isinstance(error, MemoryError) else Status.FAILED
    message = "".join(traceback.format_exception_only(error)).strip()
    return status, message, "".join(traceback.format_exception(error))


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
        if metric in run.record.curves and metric not in run.metrics:
            return (
                f"Its intermediate values were reported: record the final value as well, with "
                f"ctx.metrics.add({metric!r}, value)."
            )
    returned = next((run.returned for run in runs if run.returned is not None), None)
    if returned is None:
        return ""
    shown = returned if isinstance(returned, str) else value_and_type(returned)
    for name, values in (each for run in runs for each in run.metrics.items()):
        # The function of `Experiment.of` is recorded under its own name.
        if any(as_number(each) == returned for each in values):
            return (
                f"The number that the last step returned, {shown}, is recorded as {name!r}: search "
                f"for Objective({name!r}, ...), or give Experiment.of(..., metric={metric!r})."
            )
    return (
        f"The last step returned {shown}: record it with ctx.metrics.add({metric!r}, value), or "
        f"return (data, {{{metric!r}: value}})."
    )


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
    values = {metric: (value,) for metric, value in replicate.metrics.items()}
    return ReplicateRun(replicate, values, error)
