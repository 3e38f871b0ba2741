"""Which trial is best: the one rule for optimizers, histories, stop conditions and progress bars.

A trial is a candidate if it completed, satisfies every outcome constraint, and was not given up
after some of its replicates because another trial was better on the same seeds (`beaten_by`): a
mean over fewer seeds does not compare. If trials have a fidelity (a number of epochs, say), only
candidates of one fidelity are compared: of those that `ENOUGH` trials reached, the highest with a
candidate; before that, the highest with a candidate. Of the trials of a race (`raced`), only those
with the most replicates are compared. With one objective, the best is the candidate of lowest cost,
the first of equal ones. With several objectives, the best is a compromise: the candidate on the
Pareto front that is closest to the best value of every objective, each scaled to its range over the
front, and multiplied by its weight if weights are given.

If no trial satisfies the constraints, the nearest one is that with the smallest sum of violations,
each divided by the largest violation of its constraint among all completed trials.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter

from crystallize_opt.errors import ObjectiveError, UsageError
from crystallize_opt.runtime.shown import number
from crystallize_opt.space.parameter import same_value
from crystallize_opt.trials.objective import Constraint, Objective, Reduction, reductions_of
from crystallize_opt.trials.observation import Observation, Status
from crystallize_opt.trials.raced import joined
from crystallize_opt.trials.treatment import RacedReplicate

Costs = tuple[float, ...]
"""One finite number for each objective; lower is better."""

ENOUGH = 2
"""How many trials must have completed with a fidelity before the best is chosen among them.

A single trial is the best of nothing. It may be an enqueued or attached one that no other trial was
compared with, and it would displace the winner of all trials of a lower fidelity.
"""

_BLOCK = 4096  # How many points are compared at once, as the bits of one integer.


@dataclass(frozen=True)
class Criterion:
    """The rule that decides which trial is the best.

    Args:
        objectives: The objectives, at least one.
        constraints: The outcome constraints.
        fidelity: The name of the parameter that is the fidelity of a trial, or None.

    A constraint that is relative to the baseline can be judged only after `set_baseline`, which is
    called once, before the first trial. All that share a criterion then know the baseline.

    Attributes:
        metrics: The metrics that a completed trial must have, of objectives and constraints.
        reductions: For each of these metrics, the value that counts if a replicate has several.

    Raises:
        ObjectiveError: An objective and a constraint reduce the same metric differently.

    Example:
        >>> criterion = Criterion((Objective("loss", "minimize"),))
        >>> from crystallize_opt.trials.treatment import Treatment
        >>> trials = [Observation(Treatment(f"t_{x}"), {"loss": x}) for x in (3.0, 1.0, 2.0)]
        >>> criterion.best(trials)["loss"]
        1.0
    """

    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...] = ()
    fidelity: str | None = None
    metrics: tuple[str, ...] = field(init=False, compare=False, repr=False)
    reductions: Mapping[str, Reduction | None] = field(init=False, compare=False, repr=False)
    # Constraint as text -> the same with an absolute bound; None while there is no baseline.
    _limits: Mapping[str, Constraint] | None = field(
        init=False, compare=False, repr=False, default=None
    )

    def __post_init__(self) -> None:
        metrics = [o.metric for o in self.objectives] + [c.metric for c in self.constraints]
        object.__setattr__(self, "metrics", tuple(metrics))
        reductions = reductions_of(self.objectives, self.constraints)
        object.__setattr__(self, "reductions", reductions)
        if not self.is_relative:
            object.__setattr__(self, "_limits", {each.text: each for each in self.constraints})

    @property
    def is_relative(self) -> bool:
        """Whether a constraint is relative to the baseline."""
        return any(each.relative_to_baseline for each in self.constraints)

    @property
    def lacks_baseline(self) -> bool:
        """Whether a constraint is relative to a baseline that is not known."""
        return self._limits is None

    @property
    def limits(self) -> Mapping[str, Constraint]:
        """The text of each constraint, and the constraint with an absolute bound.

        Raises:
            UsageError: A constraint is relative to a baseline that is not known.
        """
        if self._limits is None:
            texts = [each.text for each in self.constraints if each.relative_to_baseline]
            raise UsageError(
                f"{texts[0]!r} is relative to a baseline, and none is known. Give "
                "optimize(..., baseline=True), or baseline=Treatment('default', {...}); by hand "
                "call optimizer.set_baseline(observation) before the first ask or attach; a "
                "history takes History(..., baseline=observation)."
            )
        return self._limits

    @property
    def absolute(self) -> Criterion:
        """This criterion with absolute bounds instead of relative ones.

        Raises:
            UsageError: A constraint is relative to a baseline that is not known.
        """
        if not self.is_relative:
            return self
        return Criterion(self.objectives, tuple(self.limits.values()), self.fidelity)

    def set_baseline(self, baseline: Observation) -> None:
        """From now on, judge constraints that are relative to the baseline by this one.

        Raises:
            ObjectiveError: The baseline's mean of a metric is 0, of which there are no percents.
            UsageError: Another baseline is known, or this one lacks the metric of a constraint.
        """
        if not self.is_relative:
            return
        baseline = baseline.checked([c.metric for c in self.constraints if c.relative_to_baseline])
        if baseline.status is not Status.COMPLETED:
            raise UsageError(
                f"The baseline is {baseline.status.value}, so that nothing can be relative to it: "
                f"{baseline.error}"
            )
        limits = {
            each.text: each.against(baseline[each.metric]) if each.relative_to_baseline else each
            for each in self.constraints
        }
        if self._limits not in (None, limits):
            raise UsageError(
                "The trials so far were judged by another baseline: then "
                f"{[c.text for c in (self._limits or {}).values()]!r}, now "
                f"{[c.text for c in limits.values()]!r}. Build a fresh optimizer."
            )
        object.__setattr__(self, "_limits", limits)

    def is_candidate(self, observation: Observation) -> bool:
        """Whether a trial may be the best: it ran, completed and satisfies the constraints."""
        if not has_completed(observation) or observation.beaten_by is not None:
            return False
        return not self.constraints or all(
            each.violation(observation[each.metric]) <= 0 for each in self.limits.values()
        )

    def violations(self, observation: Observation) -> dict[str, float]:
        """Return by how much a completed trial violates each constraint; 0 or less: it does not."""
        return {
            text: each.violation(observation[each.metric]) for text, each in self.limits.items()
        }

    def costs(self, observation: Observation) -> Costs:
        """Return the costs of a completed trial, one for each objective."""
        return tuple([each.sign * observation[each.metric] for each in self.objectives])

    def level(self, observation: Observation) -> float:
        """Return the fidelity of a trial; 0 if trials have no fidelity."""
        if self.fidelity is None:
            return 0.0
        return float(observation.treatment.params[self.fidelity])

    def candidates(self, observations: Iterable[Observation]) -> list[Observation]:
        """Return the candidates of the fidelity that counts, in order."""
        if self.fidelity is None:
            return _with_most_replicates([each for each in observations if self.is_candidate(each)])
        return _with_most_replicates(self._candidates_of_level(observations)[1])

    def level_that_counts(self, observations: Iterable[Observation]) -> float | None:
        """Return the fidelity of the trials among which the best is; None if there are none."""
        return self._candidates_of_level(observations)[0]

    def _candidates_of_level(
        self, observations: Iterable[Observation]
    ) -> tuple[float | None, list[Observation]]:
        reached: dict[float, int] = {}
        found: dict[float, list[Observation]] = {}
        for each in observations:
            if has_completed(each):
                level = self.level(each)
                reached[level] = reached.get(level, 0) + 1
                if self.is_candidate(each):
                    found.setdefault(level, []).append(each)
        if not found:
            return None, []
        counts = max(found, key=lambda level: (reached[level] >= ENOUGH, level))
        return counts, found[counts]

    def front(self, observations: Iterable[Observation]) -> list[Observation]:
        """Return the candidates that no other candidate dominates, in order.

        With one objective: the best observation and all equal ones.
        """
        candidates = self.candidates(observations)
        costs = [self.costs(each) for each in candidates]
        kept = non_dominated(costs)
        return [each for each, cost in zip(candidates, costs, strict=True) if cost in kept]

    def best(self, observations: Iterable[Observation]) -> Observation | None:
        """Return the best observation, or None if there is no candidate."""
        if len(self.objectives) == 1:
            return min(self.candidates(observations), key=self.costs, default=None)
        return self.compromise(self.front(observations))

    def compromise(
        self, front: Sequence[Observation], weights: Mapping[str, float] | None = None
    ) -> Observation | None:
        """Return the observation of a Pareto front that is closest to the best of every objective.

        Each objective is scaled to its range over the front. The first of equally close ones wins.

        Args:
            front: The observations of a Pareto front.
            weights: How much the scaled distance in an objective counts, by metric; 1 where it is
                left out.

        Raises:
            ObjectiveError: There is one objective only; or a weight names none, is negative or is
                not finite; or all are 0.
        """
        distances = self._distances(front, weights)
        return min(zip(front, distances, strict=True), key=itemgetter(1), default=(None,))[0]

    def top(self, observations: Iterable[Observation], count: int) -> list[Observation]:
        """Return the best observations, the best first; of equal parameters only the first.

        With one objective, these are the candidates of lowest cost. With several objectives, those
        on the Pareto front that are closest to the best of every objective.
        """
        if len(self.objectives) == 1:
            ranked = sorted(self.candidates(observations), key=self.costs)
        else:
            front = self.front(observations)
            pairs = zip(self._distances(front, None), front, strict=True)
            ranked = [each for _, each in sorted(pairs, key=itemgetter(0))]
        found: list[Observation] = []
        for each in ranked:
            known = each.params and any(same_value(each.params, o.params) for o in found)
            if len(found) < count and not known:
                found.append(each)
        return found

    def _distances(
        self, front: Sequence[Observation], weights: Mapping[str, float] | None
    ) -> list[float]:
        """Return how far each observation of a front is from the best of every objective."""
        factors = self._checked_weights(weights)
        if not front:
            return []
        costs = [self.costs(each) for each in front]
        lows = [min(column) for column in zip(*costs, strict=True)]
        # Subtract halves, because the difference of two large floats may overflow.
        spans = [max(c) / 2 - min(c) / 2 for c in zip(*costs, strict=True)]

        def distance(cost: Costs) -> float:
            return math.hypot(
                *(
                    factor * ((c / 2 - low / 2) / span)
                    for c, low, span, factor in zip(cost, lows, spans, factors, strict=True)
                    if span
                )
            )

        return [distance(cost) for cost in costs]

    def _checked_weights(self, weights: Mapping[str, float] | None) -> list[float]:
        """Return the weight of each objective, the largest of them 1."""
        metrics = [each.metric for each in self.objectives]
        if weights is None:
            return [1.0] * len(metrics)
        if len(metrics) == 1:
            raise ObjectiveError(
                f"Weights are for several objectives; here is one: {metrics[0]!r}."
            )
        for metric, weight in weights.items():
            known = metric in metrics
            if not (known and isinstance(weight, (int, float)) and 0 <= weight < math.inf):
                raise ObjectiveError(
                    "weights= takes finite numbers, at least 0, for objectives of the search, "
                    f"{metrics!r}, not {metric!r}: {weight!r}."
                )
        factors = [float(weights.get(metric, 1.0)) for metric in metrics]
        if not (largest := max(factors)):
            raise ObjectiveError(f"weights={dict(weights)!r} leaves no objective to choose by.")
        return [factor / largest for factor in factors]

    def nearest(self, observations: Iterable[Observation]) -> Observation | None:
        """Return the completed trial that comes nearest to satisfying the constraints.

        That is the first one with the smallest sum of violations, each divided by the largest
        violation of that constraint; None if no trial completed.
        """
        found = [
            (each, [max(value, 0.0) for value in self.violations(each).values()])
            for each in observations
            if each.status is Status.COMPLETED and each.repeats is None
        ]
        if not found:
            return None
        largest = [max(column) for column in zip(*(each for _, each in found), strict=True)]
        return min(
            found,
            key=lambda pair: math.fsum(
                value / most for value, most in zip(pair[1], largest, strict=True) if most
            ),
        )[0]

    def why_none(self, observations: Sequence[Observation]) -> str:
        """Return, in words, why none of these observations is a best one."""
        if not observations:
            return "nothing has been told yet."
        nearest = self.nearest(observations)
        if nearest is None:
            last = observations[-1]
            return (
                f"none of {len(observations)} trials completed. The last, {last.treatment.name!r}, "
                f"is {last.status.value}: {last.error}"
            )
        broken = [
            f"{text} by {number(value)}"
            for text, value in self.violations(nearest).items()
            if value > 0
        ]
        if not broken:
            beaten_by = nearest.beaten_by
            return f"{nearest.treatment.name!r} was beaten by {beaten_by!r}, which is not here."
        return (
            f"no completed trial satisfies {[each.text for each in self.constraints]!r}. The "
            f"nearest, {nearest.treatment.name!r}, violates {' and '.join(broken)}."
        )


def has_completed(observation: Observation) -> bool:
    """Whether a trial ran and completed; a known outcome that is reported again did not run."""
    return observation.status is Status.COMPLETED and observation.repeats is None


def _with_most_replicates(candidates: list[Observation]) -> list[Observation]:
    """Leave out the trials of a race that have fewer replicates than another one."""
    most = max([len(each.replicates) for each in candidates if each.raced], default=0)
    if not most:
        return candidates
    return [each for each in candidates if not each.raced or len(each.replicates) == most]


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
            self._levels[level] = _Level(level, replace(self.criterion, fidelity=None))
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


def dominates(costs: Costs, others: Costs) -> bool:
    """Whether no cost is greater than the other one, and at least one is less."""
    return costs != others and all(a <= b for a, b in zip(costs, others, strict=True))


def non_dominated(costs: Sequence[Costs]) -> set[Costs]:
    """Return the costs that no other costs dominate.

    A set of points is one integer with a bit for each point, so one operation compares a point with
    thousands of others: 3,000 points with three objectives take about 10 ms.
    """
    points = sorted(set(costs))
    if not points:
        return set()
    kept = points
    for start in range(0, len(points), _BLOCK):
        block = {
            point: 1 << position for position, point in enumerate(points[start : start + _BLOCK])
        }
        # For each point: the points of the block that are worse in no objective, itself included.
        not_worse = dict.fromkeys(kept, -1)
        for objective in range(len(points[0])):
            _keep_not_worse(not_worse, block, objective)
        kept = [point for point in kept if not not_worse[point] & ~block.get(point, 0)]
    return set(kept)


def _keep_not_worse(not_worse: dict[Costs, int], block: dict[Costs, int], objective: int) -> None:
    """Remove from each set in `not_worse` the points that are worse in one objective."""
    ordered = sorted(block, key=lambda point: point[objective])
    position, passed = 0, 0
    for point in sorted(not_worse, key=lambda point: point[objective]):
        while position < len(ordered) and ordered[position][objective] <= point[objective]:
            passed |= block[ordered[position]]
            position += 1
        not_worse[point] &= passed
