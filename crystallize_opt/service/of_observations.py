"""Requests about observations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crystallize_opt.service import wire
from crystallize_opt.service.given import Given, number_of
from crystallize_opt.service.measured import (
    new_observation,
    progressed,
    read_assignments,
    read_observation,
)
from crystallize_opt.service.pages import page_of
from crystallize_opt.service.refusal import bad
from crystallize_opt.service.routing import Request, route
from crystallize_opt.service.service import Service
from crystallize_opt.service.store import ACTIVE, CLOSED, DELETED, Record


def create(service: Service, request: Request) -> wire.Json:
    """Take an observation."""
    with service.store.writing():
        experiment = _active(service, request.ids[0])
        record, is_new = add(service, experiment, request.data)
    if is_new:
        service.lives.of(record.parent).observed(record.id)
    return wire.observation(record)


def _active(service: Service, text: str) -> Record:
    experiment = service.experiment(text)
    if experiment.state == DELETED:
        raise bad(f"The experiment {experiment.id} is deleted. Update its state to 'active' first.")
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
    suggestion = None
    if "suggestion" in given:
        number = number_of(given.data["suggestion"], "suggestion")
        suggestion = store.get("suggestion", number, experiment.id)
        if suggestion is None:
            raise bad(f"The experiment {experiment.id} has no suggestion {number}.")
        earlier = _earlier(service, suggestion, said)
        if earlier is not None:
            return earlier, False
        assignments = suggestion.data["assignments"]
    else:
        assignments = read_assignments(experiment.data, given.data["assignments"])
    found = new_observation(said, assignments, suggestion)
    if suggestion is not None and suggestion.data["observation"] is not None:
        found |= {"trial": None, "revision": None}  # A further one: the trial has its outcome.
    number = store.add("observation", experiment.id, ACTIVE, found)
    record = Record(number, experiment.id, ACTIVE, found)
    if suggestion is not None and suggestion.data["observation"] is None:
        state = DELETED if suggestion.state == DELETED else CLOSED
        of_suggestion = {**suggestion.data, "observation": record.id}
        store.put("suggestion", suggestion._replace(state=state, data=of_suggestion))
    service.touch(experiment, progress=progressed(experiment.data, record, store))
    return record, True


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
    experiment = service.experiment(request.ids[0])
    return wire.observation(service.child("observation", request.ids[1], experiment.id))


def fetch_all(service: Service, request: Request) -> wire.Json:
    """Return a page of observations."""
    experiment = service.experiment(request.ids[0])
    return page_of(
        request.given(), service.store, "observation", experiment.id, (ACTIVE,), wire.observation
    )


ROUTES = (
    route("POST", "experiments/{}/observations", create, status=201),
    route("GET", "experiments/{}/observations", fetch_all),
    route("GET", "experiments/{}/observations/{}", fetch),
)
