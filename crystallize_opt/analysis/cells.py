"""One search of a comparison as it is kept, and what the comparison is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


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
