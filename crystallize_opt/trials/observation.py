"""The outcome of a treatment: metrics over the replicates, and how the trial ended."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from crystallize_opt.errors import UsageError, printable
from crystallize_opt.runtime.shown import html_table, listed
from crystallize_opt.trials.curves import last_value, until
from crystallize_opt.trials.objective import metric_name
from crystallize_opt.trials.replicate import Outcome, Replicate, means, tolerates, total_duration
from crystallize_opt.trials.status import Status, as_status
from crystallize_opt.trials.treatment import Params, Treatment
from crystallize_opt.trials.values import as_number, value_and_type


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Observation(Outcome):
    """The outcome of a treatment: a read-only mapping of metric to its mean over the replicates.

    Args:
        treatment: The treatment that was tried.
        metrics: Metric name to its mean over the replicates, a plain float.
        status: How the trial ended, a `Status` or its text.
        sem: Metric name to the standard error of the mean (sample standard deviation divided by
            the square root of the number of replicates); None with fewer than two replicates.
        replicates: The single replicates.
        error: What went wrong, `"ValueError: ..."`, or None.
        traceback: The text of the traceback, or None.
        started_at: When the trial began, in seconds since the epoch.
        duration: How long the trial took, in seconds.
        repeats: None for a trial that ran. Else the name of the trial that tried the same point on
            the same seeds: its outcome was reported again, and nothing ran.
        beaten_by: The name of the trial that was significantly better on the same seeds, so that
            this one got no further replicates (`replicates_per_trial=Adaptive(...)`); or None. Such
            a trial is never the best: its mean is over fewer seeds.
        raced: Whether an optimizer asked for the trial's replicates one by one, so that trials have
            different numbers of them. Only those with the most are compared for the best.
        shared_noise: Whether the standard errors are known to be, or may be, of noise that other
            trials share, although there are no replicates with seeds that show it. They are then
            not told to an optimizer.

    Raises:
        UsageError: An argument is of the wrong kind, there is no such status, or a standard error
            is negative or that of a metric which is not given.

    Example:
        >>> observation = Observation(Treatment("a", {"x": 1}), {"loss": 0.25})
        >>> observation["loss"], observation.status.value
        (0.25, 'completed')
    """

    treatment: Treatment
    metrics: Mapping[str, float]
    status: Status
    sem: Mapping[str, float | None]
    replicates: Sequence[Replicate]
    error: str | None
    traceback: str | None
    started_at: float | None
    duration: float | None
    repeats: str | None
    shared_noise: bool
    beaten_by: str | None
    raced: bool

    def __init__(
        self,
        treatment: Treatment,
        metrics: Mapping[str, float] | None = None,
        status: Status = Status.COMPLETED,
        sem: Mapping[str, float | None] | None = None,
        replicates: Sequence[Replicate] = (),
        error: str | None = None,
        traceback: str | None = None,
        started_at: float | None = None,
        duration: float | None = None,
        repeats: str | None = None,
        shared_noise: bool = False,
        beaten_by: str | None = None,
        raced: bool = False,
    ) -> None:
        if type(treatment) is not Treatment and not isinstance(treatment, Treatment):
            raise UsageError(
                "An observation is of a Treatment, which an optimizer's ask() returns, not of "
                f"{value_and_type(treatment)}. For parameters of your own: Treatment('mine', "
                "{'x': 1})."
            )
        if type(status) is not Status:  # All code compares by identity.
            status = as_status(status)
        if not replicates:  # The caller built it by hand.
            metrics = {} if metrics is None else _plain("metrics", metrics)
            sem = {} if sem is None else _checked_errors(_plain("sem", sem), metrics)
        # What `dataclass` writes for a frozen class takes three times as long; it was the largest
        # item of this package in an ask and tell by hand.
        own = self.__dict__
        own["treatment"] = treatment
        own["metrics"] = {} if metrics is None else metrics
        own["status"] = status
        own["sem"] = {} if sem is None else sem
        own["replicates"] = replicates
        own["error"] = error
        own["traceback"] = traceback
        own["started_at"] = started_at
        own["duration"] = duration
        own["repeats"] = repeats
        own["shared_noise"] = shared_noise
        own["beaten_by"] = beaten_by
        own["raced"] = raced

    @property
    def params(self) -> Params:
        """The parameters of the treatment, read-only."""
        return self.treatment.params

    @property
    def failed_replicates(self) -> list[Replicate]:
        """The replicates that failed; the means are over the others."""
        return [each for each in self.replicates if each.status.has_failed]

    def __repr__(self) -> str:
        shown = self._shown(self.treatment.name, self.status, self.error, self.sem)
        count, failed = len(self.replicates), len(self.failed_replicates)
        if count > 1:
            shown += f", {count} replicates"
            if failed and self.status is Status.COMPLETED:
                shown += f", {failed} of them failed"
        if self.beaten_by is not None:
            shown += printable(f", beaten by {self.beaten_by}")
        if self.repeats is not None:
            shown += printable(f", repeats {self.repeats}")
        return f"<{shown}>"

    def __dir__(self) -> list[str]:
        return listed(self, ("checked", "ended_after", "ended_at", "ended_early", "of_replicates"))

    def _repr_html_(self) -> str:
        """Show the outcome, with the parameters, in a notebook."""
        head = ["parameter", "value"]
        return html_table(
            repr(self)[1:-1], head, [[name, repr(value)] for name, value in self.params.items()]
        )

    @classmethod
    def of_replicates(
        cls, treatment: Treatment, replicates: Sequence[Replicate], min_share: float = 1.0
    ) -> Observation:
        """Average over replicates.

        A failed replicate never silently leaves the mean. Unless the share of completed replicates
        is large enough, the trial takes the status and error of the first one that failed, and its
        metrics are, for the record only, the means over the replicates that have them.

        Args:
            treatment: The treatment that was tried.
            replicates: Its replicates, at least one.
            min_share: The share of replicates that must complete. The means are then over those;
                `failed_replicates` has the others.

        Raises:
            UsageError: There are no replicates.
        """
        if not replicates:
            raise UsageError(f"There are no replicates of {treatment.name!r} to average over.")
        first, ended = replicates[0], replicates[-1]
        for each in replicates:  # `next` with a generator takes four times the time.
            if each.status is not Status.COMPLETED:
                if tolerates(replicates, min_share):
                    of_completed = [r for r in replicates if r.status is Status.COMPLETED]
                    return dataclasses.replace(
                        cls.of_replicates(treatment, of_completed),
                        replicates=tuple(replicates),
                        started_at=first.started_at,
                        duration=total_duration(replicates),
                    )
                ended = each
                break
        if len(replicates) == 1:
            metrics, sem = first.metrics, dict.fromkeys(first.metrics)
            duration = first.duration
        else:
            metrics, sem = means(replicates)
            duration = total_duration(replicates)
        if first.started_at is None:
            duration = None
        return cls(
            treatment,
            metrics,
            ended.status,
            sem,
            tuple(replicates),
            ended.error,
            ended.traceback,
            first.started_at,
            duration,
        )

    def checked(
        self, required: Collection[str], instead: Callable[[str], str] | None = None
    ) -> Self:
        """Return this observation, as `INVALID` if a required metric is not a finite number.

        Args:
            required: The metrics of objectives and constraints; their values become plain floats.
            instead: Returns, for a metric that was not recorded as a number, a sentence about what
                was recorded instead, or "".
        """
        if self.status is not Status.COMPLETED:
            return self
        metrics: Mapping[str, Any] = self.metrics
        for metric in required:
            value = metrics.get(metric)
            if type(value) is not float or value - value != 0:  # nan or infinite
                break
        else:
            if len(self.replicates) < 2:
                return self  # The usual case: this test takes a tenth of the time of the next.
        reasons = [reason for metric in required if (reason := self._why_invalid(metric, instead))]
        if not reasons:
            return self
        # Replicates built by hand may hold ints or numpy numbers.
        numbers = {
            metric: number
            for metric in required
            if type(value := self.metrics.get(metric)) is not float
            and (number := as_number(value)) is not None
        }
        if numbers:
            return dataclasses.replace(self, metrics={**self.metrics, **numbers}).checked(
                required, instead
            )
        sem = self.sem
        if not self.replicates:  # Built by hand; the error names what was no number.
            metrics = {m: value for m, value in metrics.items() if as_number(value) is not None}
            sem = {metric: error for metric, error in sem.items() if metric in metrics}
        return dataclasses.replace(
            self, metrics=metrics, sem=sem, status=Status.INVALID, error=" ".join(reasons)
        )

    def repeated_by(self, treatment: Treatment) -> Self:
        """Return this outcome as that of a suggestion of the same point that did not run."""
        return dataclasses.replace(
            self,
            treatment=treatment,
            repeats=self.treatment.name,
            started_at=None,
            duration=None,
        )

    def ended_after(self, count: int) -> Self:
        """Return this observation as `PRUNED` after so many of its replicates."""
        first = self.of_replicates(self.treatment, self.replicates[:count])
        return dataclasses.replace(
            self,
            metrics=first.metrics,
            sem=first.sem,
            replicates=first.replicates,
            status=Status.PRUNED,
        )

    def ended_at(self, metric: str, step: int) -> Self:
        """Return this observation as `PRUNED` where its first replicate reported a step."""
        first = self.replicates[0]
        curves = until(first.curves, metric, step)
        metrics = {name: last_value(curve) for name, curve in curves.items()}
        replicate = dataclasses.replace(
            first,
            metrics={name: value for name, value in metrics.items() if value is not None},
            status=Status.PRUNED,
            curves=curves,
        )
        return dataclasses.replace(
            self,
            metrics=replicate.metrics,
            sem=dict.fromkeys(replicate.metrics),
            replicates=(replicate,),
            status=Status.PRUNED,
        )

    def ended_early(self) -> Self:
        """Return this observation, as `PRUNED` if it completed: the backend ended the trial."""
        if self.status is not Status.COMPLETED:
            return self
        return dataclasses.replace(self, status=Status.PRUNED)

    def _why_invalid(self, metric: str, instead: Callable[[str], str] | None) -> str | None:
        # Every replicate must have the metric; a mean over the others would hide the failure.
        several = [each for each in self.replicates if each.status is Status.COMPLETED]
        if len(self.replicates) < 2:
            several = []
        lacking = next((each for each in several if metric not in each.metrics), None)
        if lacking is not None or metric not in self.metrics:
            where = "" if lacking is None else f" in replicate {lacking.index}"
            recorded = self.metrics if lacking is None else lacking.metrics
            reason = (
                f"The metric {metric!r} was not recorded as a number{where}. Recorded numbers: "
                f"{', '.join(map(repr, recorded)) or 'none'}."
            )
            return f"{reason} {'' if instead is None else instead(metric)}".rstrip()
        value = self.metrics[metric]
        if type(value) is float and math.isfinite(value):
            return None
        what = repr(value) if type(value) is float else value_and_type(value)
        return f"The metric {metric!r} is {what}, not a finite number."


def as_observations(given: Any) -> list[Observation]:
    """Return one or several observations as a list.

    Raises:
        UsageError: They are none.
    """
    observations = [given]
    if isinstance(given, Iterable) and not isinstance(given, Mapping):
        observations = list(given)
    for each in observations:
        if not isinstance(each, Observation):
            raise UsageError(
                f"An observation is Observation(treatment, metrics), not {value_and_type(each)}. "
                "Those of another optimizer are optimizer.history; of a file, History.load(path); "
                "of an Optuna study, history_from_optuna(study)."
            )
    return observations


def _plain(argument: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a mapping, which the caller may change later, with plain names and numbers.

    A value that is not a number is kept: the error of `checked` then shows it.
    """
    if type(given) is not dict and not isinstance(given, Mapping):
        raise UsageError(
            f"{argument}= takes a mapping of metric to number, {{'loss': 0.25}}, not "
            f"{value_and_type(given)}."
        )
    plain = {}
    for name, value in given.items():
        metric = name if type(name) is str else metric_name(name)
        number = value if type(value) is float else as_number(value)
        plain[metric] = value if number is None else number
    return plain


def _checked_errors(sem: dict[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return standard errors that were given by hand."""
    for metric, error in sem.items():
        if metric not in metrics and error is not None:
            raise UsageError(
                f"sem= has a standard error of {metric!r}, but metrics= has no such metric. "
                f"Metrics: {', '.join(map(repr, metrics)) or 'none'}."
            )
        if error is not None and (type(error) is not float or error < 0):
            raise UsageError(
                f"The standard error of {metric!r} is a number, at least 0, or None, not "
                f"{value_and_type(error)}."
            )
    return sem
