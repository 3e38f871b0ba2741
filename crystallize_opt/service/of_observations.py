"""Requests about observations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from crystallize_opt.service import wire
from crystallize_opt.service.given import Given, number_of, shown
from crystallize_opt.service.measured import (
    changed_observation,
    new_observation,
    progress_of,
    progressed,
    read_assignments,
    read_observation,
)
from crystallize_opt.service.pages import boolean, page_of, sorted_page
from crystallize_opt.service.refusal import Refusal, bad
from crystallize_opt.service.routing import Request, route
from crystallize_opt.service.service import Service
from crystallize_opt.service.store import ACTIVE, CLOSED, DELETED, Record

_MOST = 2500
"""How many observations one request creates at most."""


def create(service: Service, request: Request) -> wire.Json:
    """Take an observation."""
    with service.store.writing():
        experiment = _takes_observations(service, request.ids[0])
        record, is_new = add(service, experiment, request.data)
    if is_new:
        service.lives.observed(record.parent, record.id)
    return wire.observation(record)


def create_batch(service: Service, request: Request) -> wire.Json:
    """Take several observations, all or none."""
    given = request.given("the request")
    given.refuse_unknown({"observations", "no_optimize", "dry_run"})
    given.refuse_missing("observations")
    some, dry_run = given.array("observations") or [], given.boolean("dry_run")
    if len(some) > _MOST:
        raise bad(f"One request takes at most {_MOST} `observations`, not {len(some)}.")
    made: list[tuple[Record, bool]] = []
    try:
        with service.store.writing():
            for position, data in enumerate(some, 1):
                experiment = _takes_observations(service, request.ids[0])
                try:
                    made.append(add(service, experiment, data))
                except Refusal as refusal:
                    where = f"Observation {position} of {len(some)}"
                    raise Refusal(refusal.status, f"{where}: {refusal.message}") from None
            if dry_run:
                raise _DryRun
    except _DryRun:
        return wire.pagination([wire.observation(record) for record, _ in made])
    for record, is_new in made:
        if is_new:
            service.lives.observed(record.parent, record.id)
    return wire.pagination([wire.observation(record) for record, _ in made])


class _DryRun(Exception):  # noqa: N818  (never leaves this module)
    """Nothing is to be written."""


def _takes_observations(service: Service, text: str) -> Record:
    experiment = service.active_experiment(text)
    if experiment.data["runs_only"]:
        raise Refusal(
            403, f"The experiment {experiment.id} takes runs only: create a training run instead."
        )
    return experiment


def add(service: Service, experiment: Record, data: Mapping[str, Any]) -> tuple[Record, bool]:
    """Add an observation within `store.writing`.

    A request that says the same of the same suggestion once more is a repeated one: the client did
    not hear the answer to the first one.

    Returns:
        The record, and whether it is new.
    """
    store, given = service.store, Given(data, "the observation")
    said = read_observation(experiment.data, given)
    suggestion = _suggestion(service, experiment, given)
    if suggestion is None:
        assignments = read_assignments(experiment.data, given.data["assignments"])
    else:
        if (earlier := _earlier(service, suggestion, said)) is not None:
            return earlier, False
        assignments = suggestion.data["assignments"]
    is_first = suggestion is not None and suggestion.data["observation"] is None
    found = new_observation(said, assignments, suggestion, is_first=is_first)
    number = store.add("observation", experiment.id, ACTIVE, found)
    record = Record(number, experiment.id, ACTIVE, found)
    if suggestion is not None and is_first:
        state = DELETED if suggestion.state == DELETED else CLOSED
        of_suggestion = {**suggestion.data, "observation": record.id}
        store.put("suggestion", suggestion._replace(state=state, data=of_suggestion))
    service.touch(experiment, progress=progressed(experiment.data, record, store))
    return record, True


def _suggestion(service: Service, experiment: Record, given: Given) -> Record | None:
    if "suggestion" not in given:
        return None
    try:
        number = number_of(given.data["suggestion"], "suggestion")
    except Refusal as refusal:
        raise bad(refusal.message) from None
    suggestion = service.store.get("suggestion", number, experiment.id)
    if suggestion is None:
        raise bad(f"The experiment {experiment.id} has no suggestion {number}.")
    return suggestion


def _earlier(service: Service, suggestion: Record, said: Mapping[str, Any]) -> Record | None:
    """Return the observation that says the same of a suggestion, if there is one."""
    if suggestion.data["observation"] is None:
        return None
    record = service.store.get("observation", suggestion.data["observation"])
    if record is None or record.state != ACTIVE:
        return None
    return record if all(record.data[key] == said[key] for key in said) else None


def fetch(service: Service, request: Request) -> wire.Json:
    """Return one observation."""
    return wire.observation(_observation(service, request))


def _observation(service: Service, request: Request) -> Record:
    experiment = service.experiment(request.ids[0])
    return service.child("observation", request.ids[1], experiment.id)


def fetch_all(service: Service, request: Request) -> wire.Json:
    """Return a page of observations."""
    experiment, given = service.experiment(request.ids[0]), request.given()
    states = (DELETED,) if boolean(given, "deleted") else (ACTIVE,)
    sort = given.text("sort") or "id"
    if sort == "id":
        return page_of(given, service.store, "observation", experiment.id, states, wire.observation)
    key = _sort_key(experiment, sort)
    records = service.store.page("observation", experiment.id, states=states)
    return sorted_page(given, [(key(each), each.id, each) for each in records], wire.observation)


def _sort_key(experiment: Record, sort: str) -> Callable[[Record], Any]:
    """Return the key of a sort; what a record lacks comes last."""
    kind, _, name = sort.partition("-")
    if sort == "timestamp":
        return lambda each: each.data["created"]
    if kind in ("value", "value_stddev"):
        metric: str | None = name or experiment.data["metrics"][0]["name"]
        if all(each["name"] != metric for each in experiment.data["metrics"]):
            raise bad(f"`sort` names {shown(name)}, which is no metric.")
        return lambda each: _value(each, metric, kind)
    if kind == "parameter":
        if all(each["name"] != name for each in experiment.data["parameters"]):
            raise bad(f"`sort` names {shown(name)}, which is no parameter.")
        return lambda each: _rank(each.data["assignments"].get(name))
    raise bad(
        "`sort` is 'id', 'timestamp', 'value', 'value-METRIC', 'value_stddev', "
        f"'value_stddev-METRIC' or 'parameter-NAME', not {shown(sort)}."
    )


def _value(record: Record, metric: str | None, key: str) -> tuple[int, Any]:
    for each in record.data["values"]:
        if each["name"] == metric:
            return _rank(each[key])
    return _rank(None)


def _rank(value: Any) -> tuple[int, Any]:
    return (1, math.inf) if value is None else (0, value)


def update(service: Service, request: Request) -> wire.Json:
    """Change an observation."""
    store = service.store
    with store.writing():
        experiment = service.experiment(request.ids[0])
        before = service.child("observation", request.ids[1], experiment.id)
        given = request.given("the observation")
        suggestion = _suggestion(service, experiment, given)
        after = changed_observation(experiment.data, before, given, suggestion)
        store.put("observation", after)
        is_learned = _learned(before) != _learned(after)
        if is_learned:
            revise(service, experiment)
    if is_learned:
        service.lives.changed(experiment.id, is_revised=True)
    return wire.observation(after)


def _learned(record: Record) -> list[Any]:
    return [record.data[key] for key in ("assignments", "values", "failed")]


def revise(service: Service, experiment: Record) -> None:
    """Note, within `store.writing`, that an optimizer has learned what is no longer so."""
    service.touch(
        experiment,
        revision=experiment.data["revision"] + 1,
        progress=progress_of(experiment.data, experiment.id, service.store),
    )


def delete(service: Service, request: Request) -> wire.Json:
    """Delete an observation."""
    with service.store.writing():
        record = _observation(service, request)
        experiment = service.experiment(record.parent)
        if record.state != DELETED:
            service.store.put("observation", record._replace(state=DELETED))
            revise(service, experiment)
    service.lives.changed(experiment.id, is_revised=True)
    return {}


def delete_all(service: Service, request: Request) -> wire.Json:
    """Delete all observations of an experiment."""
    request.given().refuse_unknown(())  # It does not delete some of them.
    store = service.store
    with store.writing():
        experiment = service.experiment(request.ids[0])
        for record in store.page("observation", experiment.id, states=(ACTIVE,)):
            store.put("observation", record._replace(state=DELETED))
        revise(service, experiment)
    service.lives.changed(experiment.id, is_revised=True)
    return {}


ROUTES = (
    route("POST", "experiments/{}/observations", create, status=201, is_quick=True),
    route("POST", "experiments/{}/observations/batch", create_batch, status=201),
    route("GET", "experiments/{}/observations", fetch_all),
    route("GET", "experiments/{}/observations/{}", fetch, is_quick=True),
    route("PUT", "experiments/{}/observations/{}", update),
    route("DELETE", "experiments/{}/observations/{}", delete),
    route("DELETE", "experiments/{}/observations", delete_all),
)
