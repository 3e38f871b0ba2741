"""Requests about the results of an experiment: best assignments, importances, when to stop."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from crystallize_opt.errors import MissingExtraError, UsageError
from crystallize_opt.service import wire
from crystallize_opt.service.measured import criterion_of, measured
from crystallize_opt.service.problem import metric_name, space_of
from crystallize_opt.service.refusal import Refusal
from crystallize_opt.service.routing import Request, route
from crystallize_opt.service.service import Service
from crystallize_opt.service.store import ACTIVE, Record
from crystallize_opt.trials.front import non_dominated
from crystallize_opt.trials.objective import Objective
from crystallize_opt.trials.observation import Observation

_LOOKBACK, _TOP = 5, 5
"""An experiment stagnates if its last 5 observations for each dimension beat none of the best 5."""


def best(service: Service, request: Request) -> wire.Json:
    """Return the best assignments; several of them for several metrics or solutions."""
    experiment = service.experiment(request.ids[0])
    return wire.pagination([_assignments(each) for each in best_records(service, experiment)])


def best_records(service: Service, experiment: Record) -> list[Record]:
    """Return the best observations, the best first."""
    definition = experiment.data
    records = _records(service, experiment)
    criterion = criterion_of(definition)
    some = [measured(criterion, each) for each in records.values()]
    optimized = [each for each in definition["metrics"] if each["strategy"] == "optimize"]
    if not optimized:
        found = criterion.candidates(some)  # Whatever is within the bounds.
    elif len(optimized) > 1:
        # A threshold says what an optimized metric must reach to be of use.
        useful = [each for each in some if _reaches(each, criterion.objectives, optimized)]
        found = criterion.front(useful)
    else:
        count = definition["num_solutions"] or 1
        found = criterion.top(some, count)  # Distinct points first.
        names = {each.treatment.name for each in found}
        others = [each for each in criterion.candidates(some) if each.treatment.name not in names]
        found += sorted(others, key=criterion.costs)[: count - len(found)]
    found = sorted(found, key=lambda each: criterion.costs(each)[0])
    return [records[each.treatment.name] for each in found]


def _reaches(
    trial: Observation, objectives: Sequence[Objective], metrics: Sequence[Mapping[str, Any]]
) -> bool:
    """Whether an observation reaches the thresholds of the optimized metrics that have one."""
    return not trial.status.has_failed and all(
        metric["threshold"] is None
        or objective.sign * trial[objective.metric] <= objective.sign * metric["threshold"]
        for objective, metric in zip(objectives, metrics, strict=True)
    )


def _records(service: Service, experiment: Record) -> dict[str, Record]:
    records = service.store.page("observation", experiment.id, states=(ACTIVE,))
    return {str(each.id): each for each in records}


def _assignments(record: Record) -> wire.Json:
    shown = wire.observation(record)
    keys = ("id", "assignments", "values", "value", "value_stddev")
    return {"object": "best_assignments", **{key: shown[key] for key in keys}}


def importances(service: Service, request: Request) -> wire.Json:
    """Return the importances of the parameters for the first metric."""
    experiment = service.experiment(request.ids[0])
    metric = next(each for each in experiment.data["metrics"] if each["strategy"] != "store")
    return {"object": "importances", "importances": _importances(service, experiment, metric)}


def metric_importances(service: Service, request: Request) -> wire.Json:
    """Return the importances of the parameters for each metric that has enough values."""
    experiment = service.experiment(request.ids[0])
    found: list[wire.Json] = []
    refusals: list[Refusal] = []
    for metric in sorted(experiment.data["metrics"], key=lambda each: each["name"] or ""):
        try:
            shares = _importances(service, experiment, metric)
        except Refusal as refusal:
            refusals.append(refusal)
            continue
        found.append(
            {"object": "metric_importances", "metric": metric["name"], "importances": shares}
        )
    if not found:
        raise refusals[0]
    return wire.pagination(found)


def _importances(
    service: Service, experiment: Record, metric: Mapping[str, Any]
) -> dict[str, float | None]:
    names = [each["name"] for each in experiment.data["parameters"]]
    if len(names) == 1:
        return {names[0]: 1.0}
    name = metric_name(metric)
    criterion = criterion_of(experiment.data)
    trials = [measured(criterion, each) for each in _records(service, experiment).values()]
    trials = [each for each in trials if name in each]  # A stored metric may be missing.
    try:
        # Imported when needed: it brings matplotlib.
        from crystallize_opt.history.plots import importances as shares

        found = shares(trials, space_of(experiment.data), Objective(name, metric["objective"]))
    except UsageError as error:
        raise Refusal(422, str(error)) from error
    except MissingExtraError as error:
        raise Refusal(501, f"On the server: {error}") from error
    return {each: found.get(each) for each in names}


def stopping_criteria(service: Service, request: Request) -> wire.Json:
    """Say whether it is time to stop, and why."""
    experiment = service.experiment(request.ids[0])
    budget = experiment.data["budget"]
    used_up = budget is not None and experiment.data["progress"]["count"] > budget
    reasons = ["possible_stagnation"] if _stagnates(service, experiment, used_up) else []
    reasons += ["observation_budget_reached"] if used_up else []
    return {"object": "stopping_criteria", "should_stop": bool(reasons), "reasons": reasons}


def _stagnates(service: Service, experiment: Record, used_up: bool) -> bool:
    definition = experiment.data
    criterion = criterion_of(definition)
    trials = [measured(criterion, each) for each in _records(service, experiment).values()]
    recent = _LOOKBACK * len(definition["parameters"])
    if len(trials) < recent + _TOP:
        return False
    worst = (math.inf,) * len(criterion.objectives)
    costs = [criterion.costs(each) if each.status.has_value else worst for each in trials]
    optimized = [each for each in definition["metrics"] if each["strategy"] == "optimize"]
    if not optimized:
        return False
    if len(optimized) > 1 or (definition["num_solutions"] or 1) > 1:
        return used_up and {*non_dominated(costs[:-recent])} == {*non_dominated(costs)}
    return sorted(costs[:-recent])[_TOP - 1] <= min(costs[-recent:])


ROUTES = (
    route("GET", "experiments/{}/best_assignments", best),
    route("GET", "experiments/{}/importances", importances),
    route("GET", "experiments/{}/metric_importances", metric_importances),
    route("GET", "experiments/{}/stopping_criteria", stopping_criteria),
)
