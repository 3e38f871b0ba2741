"""One search of a comparison as it is kept, and what the comparison is about."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from crystallize_opt.history.history import History
from crystallize_opt.trials.best_so_far import BestSoFar


@dataclass(frozen=True)
class Goal:
    """What is compared in an experiment.

    Attributes:
        metric: The metric of the objective; "hypervolume" with several objectives.
        direction: "minimize" or "maximize".
    """

    metric: str
    direction: str

    @property
    def sign(self) -> int:
        """1 to minimize, -1 to maximize: a value times its sign is a cost."""
        return 1 if self.direction == "minimize" else -1


def goal_of(history: History) -> Goal:
    """Return what is compared of searches with the objectives of a history.

    Raises:
        UsageError: There are several objectives, and not all have thresholds.
    """
    if len(history.objectives) == 1:
        return Goal(history.objectives[0].metric, history.objectives[0].direction)
    history.hypervolume()  # Raises if a threshold is missing.
    return Goal("hypervolume", "maximize")


@dataclass(frozen=True)
class Cell:
    """One search: an optimizer on an experiment with a seed.

    Attributes:
        experiment: The name of the experiment.
        optimizer: The name of the optimizer.
        seed: The seed.
        best: The best value so far after each trial; None before the first trial that may be best.
        seconds: The seconds since the search began at the end of each trial, with the asks.
        asks: The seconds from the end of the trial before to the start of each trial: the time that
            the optimizer took to learn and to suggest.
        failures: How many trials failed.
        confirmed: The mean of the winner on fresh seeds, if the experiment is noisy.
        error: Why the search has no result, or None.
    """

    experiment: str
    optimizer: str
    seed: int
    best: Sequence[float | None] = ()
    seconds: Sequence[float] = ()
    asks: Sequence[float] = ()
    failures: int = 0
    confirmed: float | None = None
    error: str | None = None

    @property
    def searched(self) -> float | None:
        """The best value as the search saw it; None if there is none."""
        return self.best[-1] if self.best and self.error is None else None

    @property
    def final(self) -> float | None:
        """The value that counts: on fresh seeds if the experiment is noisy; None without one."""
        return self.searched if self.confirmed is None else self.confirmed


class After(NamedTuple):
    """How far a search is after a trial.

    Attributes:
        best: The best value so far, or the hypervolume with several objectives; None for none.
        ask: The seconds from the end of the trial before to the start of this one.
        seconds: The seconds of all trials and asks so far.
    """

    best: float | None
    ask: float
    seconds: float


def course_of(
    history: History,
    ended: Callable[[int, float | None], float | None] = lambda _, end: end,
) -> Iterator[After]:
    """Yield how far a search was after each of its trials.

    Args:
        history: The trials.
        ended: Returns when the ask before a trial began, for the trial's index and the end of the
            trial before; None if that time is no ask.
    """
    several = len(history.objectives) > 1
    volumes = history.hypervolume_trace() if several else []
    best = BestSoFar(history.criterion)
    elapsed, end = 0.0, None
    for index, each in enumerate(history):
        value = volumes[index] if several else None
        if not several:
            best.add(each)
            value = None if best.best is None else best.best[history.objectives[0].metric]
        since, start, duration = ended(index, end), each.started_at, each.duration or 0.0
        ask = 0.0 if start is None or since is None else max(0.0, start - since)
        end = end if start is None else start + duration
        elapsed += ask + duration
        yield After(value, ask, elapsed)


def cell_of(history: History, trials: int, experiment: str, optimizer: str, seed: int) -> Cell:
    """Return the first trials of a run as one search of a comparison."""
    course = [*course_of(history)][:trials]
    return Cell(
        experiment,
        optimizer,
        seed,
        best=[each.best for each in course],
        seconds=[each.seconds for each in course],
        asks=[each.ask for each in course],
        failures=sum(each.status.has_failed for each in history[:trials]),
        error=None if course and course[-1].best is not None else "No trial has a value.",
    )
