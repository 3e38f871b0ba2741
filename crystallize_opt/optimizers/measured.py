"""What has been measured so far: the extremes, which stand for failed trials."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from crystallize_opt.trials.best import Criterion
from crystallize_opt.trials.noise import SharedSeeds
from crystallize_opt.trials.objective import Constraint
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status


class Measured:
    """The extremes of the measured values of completed trials; the worst stand for failed trials.

    Args:
        criterion: The objectives and constraints.
    """

    def __init__(self, criterion: Criterion) -> None:
        self._worst: dict[str, Observation] = {}
        self._most_violating: dict[str, Observation] = {}
        self._costs: list[tuple[float, float]] = []
        # Completed trials that are not in the extremes yet: many backends never ask for those.
        self._waiting: list[Observation] = []
        # The metric and sign of each objective, looked up once instead of for every trial.
        self._objectives = [(each.metric, each.sign) for each in criterion.objectives]
        self._criterion = criterion
        self._constraints: dict[str, list[Constraint]] | None = None  # With absolute bounds.
        self._violations: dict[str, float] = {}
        self._corrections: list[Callable[[], None]] = []
        self._seeds = SharedSeeds()

    def teach(
        self, learn: Callable[[Any, Observation], None], handle: Any, observation: Observation
    ) -> None:
        """Report a trial to a backend; if an extreme has changed, correct its failed trials.

        The backend gets no standard errors of noise that trials share: see `SharedSeeds`.

        Args:
            learn: The backend's `_learn`.
            handle: The backend's handle of the trial.
            observation: The trial's outcome.
        """
        if len(observation.replicates) > 1 or observation.shared_noise:
            observation = self.as_told(observation)
        changed = False
        if observation.status is Status.COMPLETED:
            if self._corrections:
                changed = self._add(observation)
            else:
                self._waiting.append(observation)
        learn(handle, observation)
        if changed:
            for correct in self._corrections:
                correct()

    def as_told(self, observation: Observation) -> Observation:
        """Return a trial as a backend learns it, without standard errors of shared noise."""
        return self._seeds.told(observation)

    def when_changed(self, correct: Callable[[], None]) -> None:
        """Call `correct` after each change of an extreme, to report failed trials again."""
        self._add_waiting()
        self._corrections.append(correct)

    @property
    def worst(self) -> dict[str, Observation]:
        """For each objective's metric, the observation with the highest cost."""
        self._add_waiting()
        return self._worst

    @property
    def most_violating(self) -> dict[str, Observation]:
        """For each constrained metric, the observation that violates the constraints most."""
        self._add_waiting()
        return self._most_violating

    @property
    def costs(self) -> list[tuple[float, float]]:
        """For each objective, the lowest and the highest cost; empty until a trial completes."""
        self._add_waiting()
        return self._costs

    def _add_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for observation in waiting:
            self._add(observation)

    def _add(self, observation: Observation) -> bool:
        """Add a trial if it completed; return whether an extreme has changed."""
        changed = False
        if self._constraints is None:  # The bounds may be known only after the baseline.
            self._constraints = {}
            for limit in self._criterion.limits.values():
                self._constraints.setdefault(limit.metric, []).append(limit)
            self._violations = dict.fromkeys(self._constraints, -math.inf)
        if not self._costs:
            self._costs = [(math.inf, -math.inf)] * len(self._objectives)
        for position, (metric, sign) in enumerate(self._objectives):
            cost = sign * observation.metrics[metric]
            low, high = self._costs[position]
            if low <= cost <= high:  # the usual case
                continue
            changed = True
            if cost > high:
                self._worst[metric] = observation
            self._costs[position] = min(low, cost), max(high, cost)
        for metric, constraints in self._constraints.items():
            violation = max([each.violation(observation[metric]) for each in constraints])
            if violation > self._violations[metric]:
                self._violations[metric], changed = violation, True
                self._most_violating[metric] = observation
        return changed

    @property
    def worst_values(self) -> list[float]:
        """The worst value of each objective; empty until a trial completes."""
        return [
            sign * high for (_, sign), (_, high) in zip(self._objectives, self.costs, strict=False)
        ]
