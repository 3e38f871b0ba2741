"""Objectives, outcome constraints and outcomes in Ax' words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from crystallize_opt.optimizers.ledger import Measured
from crystallize_opt.trials.objective import Constraint, Objective
from crystallize_opt.trials.observation import Observation, as_number

# Metric to its mean, and its standard error where that is told.
Outcome = Mapping[str, tuple[float, float | None]]


class AxMetrics:
    """The metrics that Ax models, by private names: `m0`, `m1` and so on.

    Ax models metrics in alphabetical order, so the private names are in that of the user's names.

    Args:
        objectives: The objectives.
        constraints: The outcome constraints.

    Attributes:
        objective: What `Client.configure_optimization` takes as `objective`.
        outcome_constraints: What it takes as `outcome_constraints`.
    """

    def __init__(self, objectives: Sequence[Objective], constraints: Sequence[Constraint]) -> None:
        used = [each.metric for each in objectives] + [each.metric for each in constraints]
        metrics = sorted(set(used))
        width = len(str(len(metrics)))
        private = {metric: f"m{index:0{width}}" for index, metric in enumerate(metrics)}
        # Private name -> the user's metric.
        self._metrics = {name: metric for metric, name in private.items()}
        self._objectives = {private[each.metric]: each for each in objectives}
        constrained: dict[str, list[Constraint]] = {}
        thresholds = _thresholds(objectives, constraints)
        for constraint in constraints:
            name = private[constraint.metric]
            if name in self._objectives and constraint not in thresholds:
                name += "_constrained"  # a copy, because Ax refuses this on an objective
                self._metrics[name] = constraint.metric
            constrained.setdefault(name, []).append(constraint)
        self.objective = ", ".join(
            f"-{name}" if each.direction == "minimize" else name
            for name, each in self._objectives.items()
        )
        self.outcome_constraints = [
            f"{name} {comparison} {bound!r}"
            for name, group in constrained.items()
            for comparison, bound in _tightest(group).items()
        ]

    def outcome_of(self, observation: Observation) -> Outcome | None:
        """Return what is told of an observation; None where a metric is not a finite number."""
        outcome: dict[str, tuple[float, float | None]] = {}
        for name, metric in self._metrics.items():
            mean = as_number(observation.get(metric))
            if mean is None or not math.isfinite(mean):
                return None
            outcome[name] = (mean, _told(observation, metric)[1])
        return outcome

    def stand_in(self, measured: Measured) -> Outcome | None:
        """Return the outcome that is told for a failed trial; None before a trial completed.

        Of each metric it is the worst: of a constrained one, what violates most.
        """
        if not measured.costs:
            return None
        outcome = {}
        for name, metric in self._metrics.items():
            is_objective = name in self._objectives
            worst = measured.worst[metric] if is_objective else measured.most_violating[metric]
            outcome[name] = _told(worst, metric)
        return outcome


def _told(observation: Observation, metric: str) -> tuple[float, float | None]:
    sem = as_number(observation.sem.get(metric))
    is_known = sem is not None and math.isfinite(sem) and sem >= 0
    return observation[metric], sem if is_known else None


def without_sems(outcome: Outcome) -> Outcome:
    """Return the means only."""
    return {name: (mean, None) for name, (mean, _) in outcome.items()}


def _thresholds(
    objectives: Sequence[Objective], constraints: Sequence[Constraint]
) -> list[Constraint]:
    """Return the constraints that Ax takes on objectives: of several, on the side of the worse.

    Beside other constraints only where every objective has one: else Ax computes the others, which
    ends in a ValueError while no point is feasible.
    """
    if len(objectives) == 1:
        return []
    sides = {each.metric: "<=" if each.direction == "minimize" else ">=" for each in objectives}
    found = [each for each in constraints if sides.get(each.metric) == each.comparison]
    every_objective = {each.metric for each in found} == set(sides)
    return found if every_objective or len(found) == len(constraints) else []


def _tightest(constraints: Sequence[Constraint]) -> dict[str, float]:
    """Return the bound for each comparison: two constraints of a kind are an error to Ax."""
    bounds: dict[str, float] = {}
    for each in constraints:
        bound, known = float(each.bound), bounds.get(each.comparison)
        if known is not None:
            bound = min(bound, known) if each.comparison == "<=" else max(bound, known)
        bounds[each.comparison] = bound
    return bounds
