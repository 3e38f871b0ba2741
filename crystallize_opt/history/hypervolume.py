"""The hypervolume: how much of the space of objectives the Pareto front of a run dominates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from crystallize_opt.errors import ObjectiveError, UsageError
from crystallize_opt.runtime.extras import needs
from crystallize_opt.trials.best import Criterion
from crystallize_opt.trials.best_so_far import BestSoFar
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status


def hypervolume_trace(
    criterion: Criterion,
    observations: Sequence[Observation],
    reference: Mapping[str, float] | None = None,
) -> list[float]:
    """Return the hypervolume of the Pareto front after each observation.

    Args:
        criterion: What makes a trial a candidate for the front.
        observations: The observations, in order.
        reference: A value of each objective; None for the objectives' thresholds.

    Raises:
        ObjectiveError: There is one objective only.
        UsageError: There is no reference value for each objective.
        MissingExtraError: moocore is not installed.
    """
    worst = _reference(criterion, observations, reference)
    with needs("The hypervolume needs", "moocore", "numpy", extra="analysis"):
        import moocore
    so_far = BestSoFar(criterion)
    trace, value = [], 0.0
    for observation in observations:
        if so_far.add(observation):  # The front has changed.
            costs = [
                each
                for each in so_far.front_costs
                if all(cost < limit for cost, limit in zip(each, worst, strict=True))
            ]
            value = float(moocore.hypervolume(costs, ref=worst)) if costs else 0.0
        trace.append(value)
    return trace


def _reference(
    criterion: Criterion, observations: Sequence[Observation], given: Mapping[str, float] | None
) -> list[float]:
    """Return the reference point as costs."""
    names = [each.metric for each in criterion.objectives]
    if len(names) < 2:
        raise ObjectiveError(f"A hypervolume is of several objectives; here is one: {names[0]!r}.")
    values = {each.metric: each.threshold for each in criterion.objectives} | dict(given or {})
    for metric, value in values.items():
        known = metric in names
        if not (known and isinstance(value, (int, float)) and math.isfinite(value)):
            raise UsageError(
                f"The hypervolume is measured from one finite value of each objective, {names!r}; "
                f"{metric!r} has {value!r}. Give Objective(..., threshold=), or reference= with a "
                "value that is worse than those of interest, and the same for all runs that you "
                f"compare.{_worst_values(criterion, observations)}"
            )
    return [each.sign * float(values[each.metric] or 0.0) for each in criterion.objectives]


def _worst_values(criterion: Criterion, observations: Sequence[Observation]) -> str:
    completed = [each for each in observations if each.status is Status.COMPLETED]
    if not completed:
        return ""
    worst = {
        each.metric: each.sign * max(each.sign * o[each.metric] for o in completed)
        for each in criterion.objectives
    }
    return f" The worst values of this run are {worst!r}."
