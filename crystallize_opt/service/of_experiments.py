"""Requests about experiments."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from crystallize_opt.service import wire
from crystallize_opt.service.definition import read_experiment
from crystallize_opt.service.pages import page_of
from crystallize_opt.service.problem import problem_of
from crystallize_opt.service.routing import Request, route
from crystallize_opt.service.service import Service
from crystallize_opt.service.store import ACTIVE

NO_PROGRESS: Mapping[str, Any] = {"count": 0, "first": None, "last": None, "best": None}


def create(service: Service, request: Request) -> wire.Json:
    """Create an experiment."""
    definition = read_experiment(request.data)
    problem_of(definition, service.settings.optimizer).build()  # Refuse what nobody can search.
    now = time.time()
    store = service.store
    with store.writing():
        taken, number = {*store.runs()}, store.next_id("experiment")
        while str(number) in taken:  # A run of optimize() has the name.
            number += 1
        data = {
            **definition,
            "run": str(number),
            "revision": 0,
            "created": now,
            "updated": now,
            "progress": NO_PROGRESS,
        }
        store.add("experiment", 0, ACTIVE, data, number)
    return wire.experiment(service.experiment(number), store)


def fetch(service: Service, request: Request) -> wire.Json:
    """Return one experiment."""
    return wire.experiment(service.experiment(request.ids[0]), service.store)


def fetch_all(service: Service, request: Request) -> wire.Json:
    """Return a page of the experiments."""
    given = request.given()
    store = service.store
    return page_of(
        given, store, "experiment", None, (ACTIVE,), lambda each: wire.experiment(each, store)
    )


ROUTES = (
    route("POST", "experiments", create, status=201),
    route("GET", "experiments", fetch_all),
    route("GET", "experiments/{}", fetch),
)
