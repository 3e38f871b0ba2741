"""How a search reacts to failed trials."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

from crystallize_opt.errors import UsageError
from crystallize_opt.runtime.checks import whole_number
from crystallize_opt.trials.observation import Observation, Status


@dataclass(frozen=True)
class Failures:
    """How a search reacts to trials that fail: that raise, time out, or lack a finite objective.

    Args:
        then: `"tell"`: report the failure to the optimizer and continue. `"raise"`: report it, and
            end the search with an error.
        give_up_after: End the search with an error if all of the first this many trials fail. None:
            never.
        retries: How often to retry a trial that raised, timed out, ran out of memory or whose
            worker died. Only the last outcome is reported to the optimizer.

    Raises:
        UsageError: An argument is out of its range.

    Example:
        >>> Failures(give_up_after=None, retries=1).then
        'tell'
    """

    then: Literal["tell", "raise"] = "tell"
    give_up_after: int | None = 10
    retries: int = 0

    def __post_init__(self) -> None:
        if self.then not in ("tell", "raise"):
            raise UsageError(f"Failures: then= is 'tell' or 'raise', not {self.then!r}.")
        if self.give_up_after is not None:
            whole_number("Failures: give_up_after", self.give_up_after)
        whole_number("Failures: retries", self.retries, 0)

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
    """The failures among the finished trials of a search.

    Attributes:
        finished: How many trials have finished.
        failed: The observations of the failed trials.
    """

    def __init__(self, failures: Failures) -> None:
        self.finished = 0
        self.failed: list[Observation] = []
        self._limit = failures.give_up_after

    def add(self, observation: Observation) -> None:
        """Count one more finished trial."""
        self.finished += 1
        if observation.status is not Status.COMPLETED and observation.status.has_failed:
            self.failed.append(observation)

    @property
    def all_failed(self) -> bool:
        """Whether every trial has failed, and their number has reached `give_up_after`."""
        return len(self.failed) == self.finished and (
            self._limit is not None and self.finished >= self._limit
        )

    def causes(self) -> str:
        """Return a text that lists each cause of failure and how often it occurred."""
        causes: dict[str, int] = {}
        for failure in self.failed:
            # Errors contain the trial's name; without it, equal causes are counted together.
            error = f"{failure.error}".replace(repr(failure.treatment.name), "<trial>")
            cause = f"{failure.status.value}: {error}"
            causes[cause] = causes.get(cause, 0) + 1
        lines = [f"  {count} x {cause}" for cause, count in causes.items()]
        return f"Every one of the first {len(self.failed)} trials failed:\n" + "\n".join(lines)
