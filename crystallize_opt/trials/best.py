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
from typing import Any

from crystallize_opt.errors import ObjectiveError, UsageError
from crystallize_opt.runtime.shown import number
from crystallize_opt.space.parameter import same_value
from crystallize_opt.trials.front import Costs, non_dominated
from crystallize_opt.trials.objective import Constraint, Objective, Reduction, reductions_of
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status

ENOUGH = 2
"""How many trials must have completed with a fidelity before the best is chosen among them.

A single trial is the best of nothing. It may be an enqueued or attached one that no other trial was
compared with, and it would displace the winner of all trials of a lower fidelity.
"""


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

    def changed(self, **changes: Any) -> Criterion:
        """Return this criterion with other fields; it knows the same baseline.

        Args:
            **changes: The fields, as for `dataclasses.replace`, but for the constraints.
        """
        other = replace(self, **changes)
        object.__setattr__(other, "_limits", self._limits)
        return other

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
            if len(found) == count:
                break
            if not (each.params and any(same_value(each.params, o.params) for o in found)):
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
                f"is {last.status.value}{'.' if last.error is None else f': {last.error}'}"
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
