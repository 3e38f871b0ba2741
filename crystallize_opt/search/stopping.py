"""Conditions that end a search early: `optimize(..., stop=[...])`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from crystallize_opt.errors import UsageError
from crystallize_opt.runtime.checks import finite_number, whole_number
from crystallize_opt.trials.best import Criterion
from crystallize_opt.trials.best_so_far import BestSoFar
from crystallize_opt.trials.objective import Constraint, Objective
from crystallize_opt.trials.observation import Observation


class SearchState:
    """A running search, as a stop condition sees it.

    Args:
        criterion: What makes a trial the best: objectives, constraints, fidelity.

    Attributes:
        criterion: What makes a trial the best.
        observations: The trials of this search that have been reported to the optimizer, in order.
        trials_since_best: How many trials have been reported since the best trial last changed;
            with several objectives, since the Pareto front last changed.
        elapsed: Seconds since the search began.
    """

    def __init__(self, criterion: Criterion) -> None:
        self.criterion = criterion
        self.observations: list[Observation] = []
        self.trials_since_best = 0
        self.elapsed = 0.0
        self._best = BestSoFar(self.criterion)

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The objectives of the optimizer."""
        return self.criterion.objectives

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """The outcome constraints of the optimizer."""
        return self.criterion.constraints

    @property
    def best(self) -> Observation | None:
        """The best trial so far; None until a trial completes that satisfies the constraints."""
        return self._best.best

    def add(self, observation: Observation) -> None:
        """Add a finished trial."""
        self.observations.append(observation)
        self.trials_since_best = 0 if self._best.add(observation) else self.trials_since_best + 1


StopCondition = Callable[[SearchState], "str | bool | None"]
"""Called before each ask. If it returns a text (the reason) or True, the search ends."""


@dataclass(frozen=True)
class MaxTime:
    """Ask for no more trials after this many seconds; running trials finish."""

    seconds: float

    def __post_init__(self) -> None:
        seconds = finite_number("MaxTime: seconds", self.seconds, above=0)
        object.__setattr__(self, "seconds", seconds)

    def __call__(self, state: SearchState) -> str | None:
        return f"{self!r} has passed" if state.elapsed >= self.seconds else None


@dataclass(frozen=True)
class TargetValue:
    """End the search when a trial reaches this value of the objective, or a better one."""

    value: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", finite_number("TargetValue: value", self.value))

    def __call__(self, state: SearchState) -> str | None:
        if state.best is None:
            return None
        objective = state.objectives[0]
        reached = state.best[objective.metric]
        if objective.sign * reached > objective.sign * self.value:
            return None
        return f"{self!r} is reached: {objective.metric!r} is {reached!r}"


@dataclass(frozen=True)
class NoImprovement:
    """End the search after this many trials in a row without a new best trial."""

    trials: int

    def __post_init__(self) -> None:
        whole_number("NoImprovement: trials", self.trials)

    def __call__(self, state: SearchState) -> str | None:
        if state.trials_since_best < self.trials:
            return None
        return f"{self!r}: the last {state.trials_since_best} trials were not better"


def as_conditions(stop: Any, objectives: Sequence[Objective]) -> tuple[StopCondition, ...]:
    """Return one or several stop conditions as a tuple.

    Raises:
        UsageError: A condition is not callable, or takes one objective and there are several.
    """
    given = tuple(stop) if isinstance(stop, Iterable) else (stop,)
    for condition in given:
        if not callable(condition) or isinstance(condition, type):
            raise UsageError(
                "stop= takes conditions such as MaxTime(seconds=60), or functions of a "
                f"SearchState, not {condition!r}."
            )
        if isinstance(condition, (TargetValue, NoImprovement)) and len(objectives) > 1:
            raise UsageError(
                f"stop={condition!r} needs a single objective; there are {len(objectives)}. Give a "
                "function of a SearchState."
            )
    return given
