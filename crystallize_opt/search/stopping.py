"""When a search ends before its number of trials: conditions for `optimize(..., stop=[...])`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from crystallize_opt.errors import UsageError
from crystallize_opt.trials.objective import Constraint, Objective
from crystallize_opt.trials.observation import Observation, Status


@dataclass
class SearchState:
    """A running search, as a stop condition sees it.

    Attributes:
        objectives: The objectives of the optimizer.
        observations: The trials of this search that have been told, in order.
        best: The best of them, of the first objective; None before a trial completed.
        trials_since_best: How many trials have been told since then.
        elapsed: Seconds since the search began.
    """

    objectives: Sequence[Objective]
    constraints: Sequence[Constraint] = ()
    observations: list[Observation] = field(default_factory=list)
    best: Observation | None = None
    trials_since_best: int = 0
    elapsed: float = 0.0

    def add(self, observation: Observation) -> None:
        """Take in one more finished trial."""
        self.observations.append(observation)
        self.trials_since_best += 1
        if observation.status is not Status.COMPLETED or any(
            each.violation(observation[each.metric]) > 0 for each in self.constraints
        ):
            return
        objective = self.objectives[0]
        value = objective.sign * observation[objective.metric]
        if self.best is None or value < objective.sign * self.best[objective.metric]:
            self.best, self.trials_since_best = observation, 0


StopCondition = Callable[[SearchState], "str | bool | None"]
"""Called before each ask. A text (the reason) or True ends the search."""


@dataclass(frozen=True)
class MaxTime:
    """Ask for no trial after so many seconds. Trials that are running then are waited for."""

    seconds: float

    def __post_init__(self) -> None:
        _check("MaxTime", "seconds", self.seconds, above=0.0)

    def __call__(self, state: SearchState) -> str | None:
        return f"{self!r} has passed" if state.elapsed >= self.seconds else None


@dataclass(frozen=True)
class TargetValue:
    """End when a trial has reached this value of the objective, or a better one."""

    value: float

    def __post_init__(self) -> None:
        _check("TargetValue", "value", self.value)

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
    """End when so many trials in a row have not been better than the best before them."""

    trials: int

    def __post_init__(self) -> None:
        _check("NoImprovement", "trials", self.trials, above=0)

    def __call__(self, state: SearchState) -> str | None:
        if state.trials_since_best < self.trials:
            return None
        return f"{self!r}: the last {state.trials_since_best} trials were not better"


def as_conditions(stop: Any, objectives: Sequence[Objective]) -> tuple[StopCondition, ...]:
    """Return stop conditions, given as one or as several, as a tuple.

    Raises:
        UsageError: One is not callable, or needs a single objective where there are several.
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


def _check(owner: str, name: str, value: Any, above: float = -math.inf) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not above < value < math.inf:
        what = "a finite number" if above == -math.inf else f"a number above {above:g}"
        raise UsageError(f"{owner}: {name} is {what}, not {value!r}.")
