"""Converts objectives, outcome constraints and outcomes to the form that Ax takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from crystallize_opt.optimizers.measured import Measured
from crystallize_opt.trials.best import Criterion
from crystallize_opt.trials.objective import Constraint, Objective
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.values import as_number

# Metric -> its mean, and its standard error or None.
Outcome = Mapping[str, tuple[float, float | None]]


class AxMetrics:
    """The metrics that Ax models, under private names: `m0`, `m1` and so on.

    Ax models metrics in alphabetical order, so the private names keep that order of the user's.

    Args:
        objectives: The objectives.
        constraints: The outcome constraints.

    Attributes:
        names: Private name -> the user's metric.
        objective: The argument `objective` of `Client.configure_optimization`.
        outcome_constraints: Its argument `outcome_constraints`.
    """

    def __init__(self, objectives: Sequence[Objective], constraints: Sequence[Constraint]) -> None:
        used = [each.metric for each in objectives] + [each.metric for each in constraints]
        metrics = sorted(set(used))
        width = len(str(len(metrics)))
        private = {metric: f"m{index:0{width}}" for index, metric in enumerate(metrics)}
        self.names = {name: metric for metric, name in private.items()}
        self._objectives = {private[each.metric]: each for each in objectives}
        constrained: dict[str, list[Constraint]] = {}
        thresholds = _thresholds(objectives, constraints)
        for constraint in constraints:
            name = private[constraint.metric]
            if name in self._objectives and constraint not in thresholds:
                name += "_constrained"  # A copy: Ax refuses this constraint on an objective.
                self.names[name] = constraint.metric
            constrained.setdefault(name, []).append(constraint)
        self.objective = ", ".join(
            f"-{name}" if each.direction == "minimize" else name
            for name, each in self._objectives.items()
        )
        # Ax reads a constraint on one of several objectives as the threshold of that objective.
        self.outcome_constraints = [
            f"{name} {_worse_side(each)} {float(each.threshold)!r}"
            for name, each in self._objectives.items()
            if each.threshold is not None
        ] + [
            f"{name} {comparison} {bound}"
            for name, group in constrained.items()
            for comparison, bound in _tightest(group).items()
        ]

    def outcome_of(self, observation: Observation) -> Outcome | None:
        """Return the outcome that Ax gets; None if a metric is not a finite number."""
        outcome: dict[str, tuple[float, float | None]] = {}
        for name, metric in self.names.items():
            mean = as_number(observation.get(metric))
            if mean is None or not math.isfinite(mean):
                return None
            outcome[name] = (mean, _told(observation, metric)[1])
        return outcome

    def stand_in(self, measured: Measured) -> Outcome | None:
        """Return the outcome that Ax gets for a failed trial; None until a trial completes.

        It has the worst value of each objective, and for other constrained metrics the value that
        violates the constraints most.
        """
        if not measured.costs:
            return None
        outcome = {}
        for name, metric in self.names.items():
            is_objective = name in self._objectives
            worst = measured.worst[metric] if is_objective else measured.most_violating[metric]
            outcome[name] = _told(worst, metric)
        return outcome


def _told(observation: Observation, metric: str) -> tuple[float, float | None]:
    sem = as_number(observation.sem.get(metric))
    is_known = sem is not None and math.isfinite(sem) and sem >= 0
    return observation[metric], sem if is_known else None


def without_sems(outcome: Outcome) -> Outcome:
    """Return the outcome without standard errors."""
    return {name: (mean, None) for name, (mean, _) in outcome.items()}


def _thresholds(
    objectives: Sequence[Objective], constraints: Sequence[Constraint]
) -> list[Constraint]:
    """Return the constraints that Ax takes on objectives: with several, those on the worse side.

    If there are other constraints, every objective must have one: otherwise Ax computes the missing
    thresholds, which raises a ValueError while no point is feasible. If the objectives have
    thresholds of their own, there is no place for others.
    """
    if len(objectives) == 1 or objectives[0].threshold is not None:
        return []
    sides = {each.metric: _worse_side(each) for each in objectives}
    found = [each for each in constraints if sides.get(each.metric) == each.comparison]
    every_objective = {each.metric for each in found} == set(sides)
    return found if every_objective or len(found) == len(constraints) else []


def _worse_side(objective: Objective) -> str:
    """Return the comparison that a limit on the worse values of an objective has."""
    return "<=" if objective.direction == "minimize" else ">="


def native_constraints(criterion: Criterion, *, has_status_quo: bool) -> tuple[Constraint, ...]:
    """Return the outcome constraints as Ax gets them, once the baseline is known.

    Ax takes those that are relative to its status quo. It compares all bounds of a metric with each
    other, so that these are all relative, or all absolute.

    Args:
        criterion: Objectives and constraints.
        has_status_quo: Whether the baseline is a point that Ax can have as its status quo. If not,
            all bounds become absolute.
    """
    relative: dict[str, list[bool]] = {}
    for each in criterion.constraints:
        relative.setdefault(each.metric, []).append(each.relative_to_baseline)
    return tuple(
        each if has_status_quo and all(relative[each.metric]) else criterion.limits[each.text]
        for each in criterion.constraints
    )


def _tightest(constraints: Sequence[Constraint]) -> dict[str, str]:
    """Return one bound for each comparison, because Ax refuses two constraints of the same kind.

    The constraints are all relative to the baseline, or none of them is.
    """
    bounds: dict[str, float] = {}
    for each in constraints:
        bound, known = float(each.bound), bounds.get(each.comparison)
        if known is not None:
            bound = min(bound, known) if each.comparison == "<=" else max(bound, known)
        bounds[each.comparison] = bound
    if not constraints[0].relative_to_baseline:
        return {comparison: repr(bound) for comparison, bound in bounds.items()}
    return {comparison: f"{1 + bound / 100!r} * baseline" for comparison, bound in bounds.items()}
