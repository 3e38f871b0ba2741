"""How a search reacts to failed trials."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from crystallize_opt.errors import TrialsFailedError, UsageError
from crystallize_opt.pipeline.fault import Fault, place_of
from crystallize_opt.runtime.checks import finite_number, whole_number
from crystallize_opt.runtime.shown import cut
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.replicate import Replicate, is_tolerated, tolerated_failures
from crystallize_opt.trials.status import Status


@dataclass(frozen=True)
class Failures:
    """How a search reacts to trials that fail: that raise, time out, or lack a finite objective.

    Args:
        then: `"tell"`: report the failure to the optimizer and continue. `"raise"`: report it, and
            end the search with an error.
        give_up_after: End the search with an error if all of the first this many trials fail.
            Until a trial completes, a search also ends at an error that can only come from the
            program itself: a `NameError`, `ImportError` or `SyntaxError`, or a missing parameter.
            None: never end the search.
        give_up_after_same: End the search with an error if the first this many trials fail with the
            same error at the same line, or lack the same metric. None: do not compare errors.
        retries: How often to retry a trial that raised, timed out, ran out of memory or whose
            worker died. Only the last outcome is reported to the optimizer.
        min_share: The share of a trial's replicates that must complete: by default all. With 0.8,
            a trial of ten replicates completes if at most two of them fail; its means are over the
            others, and `Observation.failed_replicates` has those that failed. A replicate fails if
            it raises, its worker dies, or a metric is missing or not finite.
        unread: `"raise"`: end the search with an error if no step reads a parameter in the first
            completed trial that has the parameter. `"ignore"`: do not check.

    Raises:
        UsageError: An argument is out of its range.

    Example:
        >>> Failures(give_up_after=None, retries=1).then
        'tell'
    """

    then: Literal["tell", "raise"] = "tell"
    give_up_after: int | None = 10
    retries: int = 0
    unread: Literal["raise", "ignore"] = "raise"
    give_up_after_same: int | None = 3
    min_share: float = 1.0

    def __post_init__(self) -> None:
        if self.then not in ("tell", "raise"):
            raise UsageError(f"Failures: then= is 'tell' or 'raise', not {self.then!r}.")
        if self.give_up_after is not None:
            whole_number("Failures: give_up_after", self.give_up_after)
        if self.give_up_after_same is not None:
            whole_number("Failures: give_up_after_same", self.give_up_after_same)
        whole_number("Failures: retries", self.retries, 0)
        min_share = finite_number("Failures: min_share", self.min_share, above=0)
        if min_share > 1:
            raise UsageError(f"Failures: min_share is at most 1, not {self.min_share!r}.")
        object.__setattr__(self, "min_share", min_share)
        if self.unread not in ("raise", "ignore"):
            raise UsageError(f"Failures: unread= is 'raise' or 'ignore', not {self.unread!r}.")

    def tolerates(self, done: Sequence[Replicate], wanted: int) -> bool:
        """Whether a trial whose last replicate failed may still complete.

        Args:
            done: The trial's replicates so far.
            wanted: How many replicates it has at most.
        """
        failed = sum(each.status is not Status.COMPLETED for each in done)
        return is_tolerated(done[-1]) and failed <= tolerated_failures(wanted, self.min_share)

    @classmethod
    def of(cls, short: Any) -> Self:
        """Return the `Failures` for None (the default), "tell" or "raise", or those given.

        Raises:
            UsageError: It is none of these.
        """
        if isinstance(short, cls):
            return short
        if short is None:
            return cls()
        if not isinstance(short, str):
            raise UsageError(
                f"failures= takes Failures(...), 'tell' or 'raise', not {short!r}; for example "
                "failures=Failures(give_up_after=3)."
            )
        return cls(short)  # type: ignore[arg-type]


class FailureCount:
    """The failures among the finished trials of a search, and whether they end the search.

    Args:
        failures: The settings.
        required: The metrics of objectives and constraints.

    Attributes:
        settings: The settings.
        finished: How many trials have finished.
    """

    def __init__(self, failures: Failures, required: Collection[str] = ()) -> None:
        self.finished = 0
        self._required = required
        self.settings = failures
        self._failed: list[Observation] = []
        self._last: Fault | None = None
        self._same: Any = None  # What all failures have in common; None if nothing.

    def add(self, observation: Observation, fault: Fault | None = None) -> None:
        """Count one more finished trial.

        Args:
            observation: The trial's outcome.
            fault: What is known of the exception that ended the trial; None if there was none, or
                if the trial comes from a stored run.
        """
        self.finished += 1
        if not observation.status.has_failed:
            return
        same = self._reason_of(observation)
        self._same = same if not self._failed or same == self._same else None
        self._last = fault
        self._failed.append(observation)

    def _reason_of(self, observation: Observation) -> Any:
        """Return what failures for the same reason have in common; None if that is unknown.

        Only what a stored trial has, too, so that a resumed search gives up as a fresh one does.
        """
        if observation.status is Status.INVALID:
            # A metric that is missing is an error of the program; nan may be a fact about the
            # parameters.
            return tuple(each for each in self._required if each not in observation) or None
        if observation.error is None or observation.traceback is None:
            return None
        kind = observation.error.splitlines()[0].partition(":")[0]
        return kind, place_of(observation.traceback)

    def may_be_retried(self, replicate: Replicate, fault: Fault | None, attempt: int) -> bool:
        """Whether a trial whose replicate failed is to be run again."""
        if attempt > self.settings.retries or not replicate.status.may_be_retried:
            return False
        return fault is None or not fault.is_bug  # The program does not change meanwhile.

    def end_search(
        self, observation: Observation, error: BaseException | None, *, all_run: bool
    ) -> None:
        """Raise if the settings say that the failures so far end the search.

        Args:
            observation: The trial that failed last.
            error: The exception that ended the trial; it becomes the cause of the error.
            all_run: Whether all trials of the last ask have been run. They are one step of the
                search, which does not give up in between, except for an error of the program.

        Raises:
            TrialsFailedError: The failures end the search.
        """
        settings, fault, count = self.settings, self._last, len(self._failed)
        if settings.then == "raise":
            treatment = observation.treatment
            params = cut(repr(dict(treatment.params)))
            why = f" with\n{fault.text}" if fault else f", {observation.error}"
            raise TrialsFailedError(
                f"Trial {treatment.name!r}, {params}: {observation.status.value}{why}"
            ) from error
        if count < self.finished or settings.give_up_after is None:
            return
        if fault is not None and fault.is_bug:
            raise TrialsFailedError(
                f"{observation.treatment.name!r} failed with an error of the program itself, which "
                f"other trials would meet as well:\n{fault.text}\nTo continue in spite of such "
                "errors: failures=Failures(give_up_after=None)."
            )
        if self._same is not None and count >= (settings.give_up_after_same or math.inf):
            where = "for the same reason" if observation.traceback is None else "at the same line"
            raise TrialsFailedError(
                f"The first {count} trials failed {where}:\n"
                f"{fault.text if fault else observation.error}\nTo continue in spite of that: "
                "failures=Failures(give_up_after_same=None)."
            )
        if all_run and count >= settings.give_up_after:
            raise TrialsFailedError(self._causes())

    def _causes(self) -> str:
        """Return a text that lists each cause of failure and how often it occurred."""
        causes: dict[str, int] = {}
        for failure in self._failed:
            # Errors contain the trial's name; without it, equal causes are counted together.
            error = f"{failure.error}".replace(repr(failure.treatment.name), "<trial>")
            cause = f"{failure.status.value}: {error}"
            causes[cause] = causes.get(cause, 0) + 1
        lines = [f"  {count} x {cause}" for cause, count in causes.items()]
        return f"Every one of the first {len(self._failed)} trials failed:\n" + "\n".join(lines)
