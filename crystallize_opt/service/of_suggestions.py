"""Requests about suggestions."""

from __future__ import annotations

from concurrent.futures import Future

from crystallize_opt.service import wire
from crystallize_opt.service.given import metadata_of
from crystallize_opt.service.pages import page_of
from crystallize_opt.service.refusal import bad
from crystallize_opt.service.routing import Request, route
from crystallize_opt.service.service import Service
from crystallize_opt.service.store import CLOSED, DELETED, OPEN, Record


def create(service: Service, request: Request) -> Future[Record]:
    """Ask for a suggestion."""
    experiment = service.experiment(request.ids[0])
    if experiment.state == DELETED:
        raise bad(f"The experiment {experiment.id} is deleted. Update its state to 'active' first.")
    given = request.given("the suggestion")
    return service.lives.of(experiment.id).suggest({"metadata": metadata_of(given)})


def fetch(service: Service, request: Request) -> wire.Json:
    """Return one suggestion."""
    experiment = service.experiment(request.ids[0])
    return wire.suggestion(service.child("suggestion", request.ids[1], experiment.id))


def fetch_all(service: Service, request: Request) -> wire.Json:
    """Return a page of suggestions."""
    experiment = service.experiment(request.ids[0])
    return page_of(
        request.given(),
        service.store,
        "suggestion",
        experiment.id,
        (OPEN, CLOSED),
        wire.suggestion,
    )


ROUTES = (
    route("POST", "experiments/{}/suggestions", create, status=201, shown=wire.suggestion),
    route("GET", "experiments/{}/suggestions", fetch_all),
    route("GET", "experiments/{}/suggestions/{}", fetch),
)
