"""Requests about suggestions, and about suggestions that clients queue themselves."""

from __future__ import annotations

import time
from concurrent.futures import Future
from typing import Any

from crystallize_opt.errors import InvalidParametersError
from crystallize_opt.service import wire
from crystallize_opt.service.given import Given, metadata_of, number_of
from crystallize_opt.service.measured import read_assignments
from crystallize_opt.service.pages import boolean, page_of, page_of_records
from crystallize_opt.service.problem import space_of
from crystallize_opt.service.refusal import Refusal, bad
from crystallize_opt.service.routing import Request, route
from crystallize_opt.service.service import Service
from crystallize_opt.service.store import CLOSED, DELETED, OPEN, Record


def create(service: Service, request: Request) -> Future[Record]:
    """Ask for a suggestion; with assignments, for one of them."""
    experiment = service.active_experiment(request.ids[0])
    if experiment.data["runs_only"]:
        raise Refusal(
            403, f"The experiment {experiment.id} takes runs only: create a training run instead."
        )
    return suggest(service, experiment, request.given("the suggestion"))


def suggest(service: Service, experiment: Record, given: Given) -> Future[Record]:
    """Ask for a suggestion of an experiment."""
    given.refuse_unknown({"assignments", "metadata", "task"})
    if "task" in given:
        raise bad("`task` is for experiments with tasks, which this service does not support.")
    data: dict[str, Any] = {"metadata": metadata_of(given)}
    if "assignments" in given:
        data["assignments"] = points_of(experiment, given.data["assignments"])
    return service.lives.suggest(experiment.id, data)


def points_of(experiment: Record, data: Any) -> dict[str, Any]:
    """Return assignments that are a point of the experiment's space.

    Raises:
        Refusal: They are none.
    """
    assignments = read_assignments(experiment.data, data)
    try:
        return space_of(experiment.data).validate(assignments)
    except InvalidParametersError as error:
        raise bad(f"`assignments` of a suggestion lie within the bounds: {error}") from error


def fetch(service: Service, request: Request) -> wire.Json:
    """Return one suggestion."""
    experiment = service.experiment(request.ids[0])
    return wire.suggestion(service.child("suggestion", request.ids[1], experiment.id))


def fetch_all(service: Service, request: Request) -> wire.Json:
    """Return a page of suggestions: of one state, deleted ones, or some by their ids."""
    experiment, given = service.experiment(request.ids[0]), request.given()
    state = given.choice("state", ("open", "closed"))
    wanted = given.data.get("id")
    if boolean(given, "deleted"):
        records = service.store.page("suggestion", experiment.id, states=(DELETED,))
        if state is not None:
            records = [each for each in records if wire.suggestion(each)["state"] == state]
    elif wanted is not None:
        numbers = [number_of(each, "suggestion") for each in str(wanted).split(",")]
        states = (OPEN, CLOSED) if state is None else (state,)
        records = [
            each
            for each in service.store.page("suggestion", experiment.id, states=states)
            if each.id in numbers
        ]
    else:
        states = (OPEN, CLOSED) if state is None else (state,)
        return page_of(given, service.store, "suggestion", experiment.id, states, wire.suggestion)
    return page_of_records(given, records, wire.suggestion)


def update(service: Service, request: Request) -> wire.Json:
    """Change the metadata of a suggestion."""
    given = request.given("the suggestion")
    given.refuse_unknown({"metadata", "state"})
    given.choice("state", ("open", "closed"))
    with service.store.writing():
        experiment = service.experiment(request.ids[0])
        record = service.child("suggestion", request.ids[1], experiment.id)
        if "metadata" in given.data:
            record = record._replace(data={**record.data, "metadata": metadata_of(given)})
            service.store.put("suggestion", record)
    return wire.suggestion(record)


def delete(service: Service, request: Request) -> wire.Json:
    """Delete a suggestion: nobody will evaluate it."""
    with service.store.writing():
        experiment = service.experiment(request.ids[0])
        record = service.child("suggestion", request.ids[1], experiment.id)
        service.store.put("suggestion", record._replace(state=DELETED))
    service.lives.given_up(experiment.id, record.id)
    return {}


def delete_all(service: Service, request: Request) -> wire.Json:
    """Delete all suggestions, or the open ones."""
    given = request.given()
    given.refuse_unknown({"state"})  # A misspelt one would delete all.
    state = given.choice("state", ("open",))
    with service.store.writing():
        experiment = service.experiment(request.ids[0])
        states = (OPEN, CLOSED) if state is None else (state,)
        records = service.store.page("suggestion", experiment.id, states=states)
        for record in records:
            service.store.put("suggestion", record._replace(state=DELETED))
    for record in records:
        service.lives.given_up(experiment.id, record.id)
    return {}


# Queued ones --------------------------------------------------------------------------------------


def queue(service: Service, request: Request) -> wire.Json:
    """Take a suggestion that comes before those of the optimizer, in order."""
    given = request.given("the queued suggestion")
    given.refuse_unknown({"assignments", "task"})
    if "task" in given:
        raise bad("`task` is for experiments with tasks, which this service does not support.")
    given.refuse_missing("assignments")
    with service.store.writing():
        experiment = service.active_experiment(request.ids[0])
        data = {
            "assignments": points_of(experiment, given.data["assignments"]),
            "created": time.time(),
        }
        number = service.store.add("queued", experiment.id, OPEN, data)
    return wire.queued(Record(number, experiment.id, OPEN, data))


def fetch_queued(service: Service, request: Request) -> wire.Json:
    """Return one queued suggestion."""
    return wire.queued(_queued(service, request))


def fetch_all_queued(service: Service, request: Request) -> wire.Json:
    """Return a page of queued suggestions."""
    experiment = service.experiment(request.ids[0])
    return page_of(request.given(), service.store, "queued", experiment.id, (OPEN,), wire.queued)


def delete_queued(service: Service, request: Request) -> wire.Json:
    """Delete a queued suggestion."""
    with service.store.writing():
        record = _queued(service, request)
        service.store.put("queued", record._replace(state=DELETED))
    return {}


def _queued(service: Service, request: Request) -> Record:
    experiment = service.experiment(request.ids[0])
    record = service.child("queued", request.ids[1], experiment.id)
    if record.state != OPEN:
        raise Refusal(404, f"The queued suggestion {record.id} was handed out or deleted.")
    return record


ROUTES = (
    route(
        *("POST", "experiments/{}/suggestions", create),
        status=201,
        shown=wire.suggestion,
        is_quick=True,
    ),
    route("GET", "experiments/{}/suggestions", fetch_all),
    route("GET", "experiments/{}/suggestions/{}", fetch, is_quick=True),
    route("PUT", "experiments/{}/suggestions/{}", update),
    route("DELETE", "experiments/{}/suggestions/{}", delete),
    route("DELETE", "experiments/{}/suggestions", delete_all),
    route("POST", "experiments/{}/queued_suggestions", queue, status=201),
    route("GET", "experiments/{}/queued_suggestions", fetch_all_queued),
    route("GET", "experiments/{}/queued_suggestions/{}", fetch_queued),
    route("DELETE", "experiments/{}/queued_suggestions/{}", delete_queued),
)
