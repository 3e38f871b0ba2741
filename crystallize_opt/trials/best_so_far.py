"""The best trial and the front while trials come in, without a look at all of them each time."""

from __future__ import annotations

import math

from crystallize_opt.trials.best import ENOUGH, Criterion, has_completed
from crystallize_opt.trials.front import Costs, dominates
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.raced import joined
from crystallize_opt.trials.treatment import RacedReplicate


class BestSoFar:
    """The best of the trials added so far.

    Args:
        criterion: The rule that decides which trial is the best.
    """

    def __init__(self, criterion: Criterion) -> None:
        self.criterion = criterion
        self._several = len(criterion.objectives) > 1
        self._metric, self._sign = criterion.objectives[0].metric, criterion.objectives[0].sign
        self._cost = math.inf
        self._best: Observation | None = None
        # With several objectives; `best` chooses from the front when it is read.
        self._front: list[tuple[Costs, Observation]] = []
        self._raced: dict[str, Observation] = {}  # Every trial of a race, by name.
        self._levels: dict[float, _Level] = {}
        self._counts: _Level | None = None  # The fidelity among whose trials the best is.

    def add(self, observation: Observation) -> bool:
        """Take one more trial into account.

        Returns:
            Whether the best has changed; with several objectives, whether the Pareto front has.
        """
        criterion = self.criterion
        if observation.raced or isinstance(observation.treatment, RacedReplicate):
            return self._add_raced(observation)
        if not has_completed(observation):
            return False
        if criterion.fidelity is not None:
            return self._add_to_level(observation)
        if observation.beaten_by is not None:
            return False
        if criterion.constraints and not criterion.is_candidate(observation):
            return False
        if self._several:
            return self._add_to_front(observation)
        cost = self._sign * observation.metrics[self._metric]
        if self._best is not None and cost >= self._cost:
            return False
        self._best, self._cost = observation, cost
        return True

    def _add_raced(self, observation: Observation) -> bool:
        """Take a trial of a race into account, or one more replicate of it."""
        before, treatment = self.best, observation.treatment
        name = treatment.name
        if isinstance(treatment, RacedReplicate):
            name = treatment.condition
            observation = joined(self._raced.get(name), observation)
        self._raced[name] = observation
        return self.best is not before

    def _add_to_level(self, observation: Observation) -> bool:
        level = self.criterion.level(observation)
        if level not in self._levels:
            self._levels[level] = _Level(level, self.criterion.changed(fidelity=None))
        changed = self._levels[level]
        is_new = changed.add(observation)
        counts = self._counts
        if changed is counts:
            return is_new
        if changed.best.best is None or (counts is not None and changed.rank < counts.rank):
            return False
        self._counts = changed
        return True

    def _add_to_front(self, observation: Observation) -> bool:
        costs = self.criterion.costs(observation)
        if any(dominates(other, costs) for other, _ in self._front):
            return False
        self._front = [pair for pair in self._front if not dominates(costs, pair[0])]
        self._front.append((costs, observation))
        self._best = None
        return True

    @property
    def front_costs(self) -> list[Costs]:
        """With several objectives: the costs of the trials on the Pareto front."""
        if self._counts is not None:
            return self._counts.best.front_costs
        return [costs for costs, _ in self._front]

    @property
    def best(self) -> Observation | None:
        """The best trial, or None if there is no candidate."""
        if self._counts is not None:
            return self._counts.best.best
        if self._raced:
            return self.criterion.best([*self._raced.values(), *self._others])
        if self._several and self._best is None:
            self._best = self.criterion.compromise([each for _, each in self._front])
        return self._best

    @property
    def front(self) -> list[Observation]:
        """The Pareto front; with one objective, the best trial alone."""
        if self._counts is not None:
            return self._counts.best.front
        return self._others

    @property
    def _others(self) -> list[Observation]:
        """The front, or the best, of the trials that are not of a race."""
        if self._several:
            return [each for _, each in self._front]
        return [] if self._best is None else [self._best]


class _Level:
    """The trials that completed with one fidelity.

    Args:
        level: The fidelity.
        criterion: The rule that decides which of these trials is the best.

    Attributes:
        best: The best of them.
    """

    def __init__(self, level: float, criterion: Criterion) -> None:
        self.best = BestSoFar(criterion)
        self._level = level
        self._completed = 0

    def add(self, observation: Observation) -> bool:
        """Add a completed trial; return whether the best of this fidelity has changed."""
        self._completed += 1
        return self.best.add(observation)

    @property
    def rank(self) -> tuple[bool, float]:
        """Of several fidelities, the one of the highest rank counts."""
        return self._completed >= ENOUGH, self._level
