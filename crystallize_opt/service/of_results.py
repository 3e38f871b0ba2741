"""Requests about the results of an experiment: the best assignments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from crystallize_opt.service import wire
from crystallize_opt.service.measured import criterion_of, measured
from crystallize_opt.service.routing import Request, route
from crystallize_opt.service.service import Service
from crystallize_opt.service.store import ACTIVE, Record
from crystallize_opt.trials.objective import Objective
from crystallize_opt.trials.observation import Observation


def best(service: Service, request: Request) -> wire.Json:
    """Return the best assignments; several of them for several metrics or solutions."""
    experiment = service.experiment(request.ids[0])
    return wire.pagination([_assignments(each) for each in best_records(service, experiment)])


def best_records(service: Service, experiment: Record) -> list[Record]:
    """Return the best observations, the best first."""
    definition = experiment.data
    records = {
        str(each.id): each
        for each in service.store.page("observation", experiment.id, states=(ACTIVE,))
    }
    criterion = criterion_of(definition)
    some = [measured(definition, each) for each in records.values()]
    optimized = [each for each in definition["metrics"] if each["strategy"] == "optimize"]
    if not optimized:
        found = criterion.candidates(some)  # Whatever is within the bounds.
    elif len(optimized) > 1:
        # A threshold says what an optimized metric must reach to be of use.
        useful = [each for each in some if _reaches(each, criterion.objectives, optimized)]
        found = criterion.front(useful)
    else:
        found = criterion.top(some, definition["num_solutions"] or 1)
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


def _assignments(record: Record) -> wire.Json:
    shown = wire.observation(record)
    keys = ("id", "assignments", "values", "value", "value_stddev")
    return {"object": "best_assignments", **{key: shown[key] for key in keys}}


ROUTES = (route("GET", "experiments/{}/best_assignments", best),)
