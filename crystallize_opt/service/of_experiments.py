"""Requests about experiments."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from crystallize_opt.service import wire
from crystallize_opt.service.access import Access
from crystallize_opt.service.changes import is_learned, read_changes
from crystallize_opt.service.definition import Definition, read_experiment
from crystallize_opt.service.given import Given
from crystallize_opt.service.measured import progress_of
from crystallize_opt.service.pages import sorted_page
from crystallize_opt.service.problem import problem_of
from crystallize_opt.service.refusal import bad
from crystallize_opt.service.routing import Request, route
from crystallize_opt.service.service import Service
from crystallize_opt.service.store import ACTIVE, DELETED, Record

NO_PROGRESS: Mapping[str, Any] = {"count": 0, "first": None, "last": None, "best": None}
_STATES = {"active": (ACTIVE,), "deleted": (DELETED,), "all": (ACTIVE, DELETED)}


def create(service: Service, request: Request) -> wire.Json:
    """Create an experiment."""
    definition = read_experiment(request.data)
    if definition["runs_only"] and definition["project"] is None:
        raise bad("An experiment that takes runs only belongs to a `project`: name it.")
    return create_experiment(service, definition, request.access)


def create_experiment(service: Service, definition: Definition, access: Access) -> wire.Json:
    """Create an experiment whose definition has been checked."""
    check_project(service, definition["project"], access.client)
    definition["optimizer"] = service.settings.optimizer  # Also when the server has another one.
    problem_of(definition).build()  # Refuse what nobody can search.
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
        store.add("experiment", access.client, ACTIVE, data, number)
    return wire.experiment(service.experiment(number), store)


def check_project(service: Service, name: str | None, client: int) -> None:
    """Check that a client has a project.

    Raises:
        Refusal: There is none.
    """
    if name is not None and service.project(name, client) is None:
        raise bad(f"There is no project {name!r}. Create it first.")


def fetch(service: Service, request: Request) -> wire.Json:
    """Return one experiment."""
    return wire.experiment(service.experiment(request.ids[0]), service.store)


def fetch_all(service: Service, request: Request) -> wire.Json:
    """Return a page of the experiments."""
    return page_of_experiments(service, request.given(), request.access)


def page_of_experiments(
    service: Service,
    given: Given,
    access: Access,
    *,
    project: str | None = None,
    runs_only: bool = False,
) -> wire.Json:
    """Return a page of experiments, or of those that take runs only.

    Args:
        service: The service.
        given: `state`, `search`, `sort` and which page.
        access: Which experiments the client may see.
        project: The project of the experiments; None for all.
        runs_only: Whether to list experiments that take runs only, and no others.
    """
    store = service.store
    states = _STATES[given.choice("state", [*_STATES]) or "active"]
    search, sort = given.text("search"), given.choice("sort", ("id", "recent")) or "id"
    everything = str(given.data.get("include_ai", "")).lower() in ("true", "1")

    def is_wanted(record: Record) -> bool:
        data = record.data
        return (
            access.experiment in (None, record.id)
            and (everything or data["runs_only"] == runs_only)
            and project in (None, data["project"])
            and (not search or search.lower() in data["name"].lower())
        )

    found = [
        each for each in store.page("experiment", access.client, states=states) if is_wanted(each)
    ]
    key = "updated" if sort == "recent" else "created"
    ranked = [(each.data[key] if sort == "recent" else 0, each.id, each) for each in found]
    return sorted_page(given, ranked, lambda each: wire.experiment(each, store))


def update(service: Service, request: Request) -> wire.Json:
    """Change an experiment."""
    store = service.store
    before = service.experiment(request.ids[0])
    after, _ = _changed(service, before, request)
    if is_learned(before.data, after):  # Not while nobody else can write: it may take seconds.
        problem_of(after).build()
    with store.writing():
        before = service.experiment(request.ids[0])
        after, changes = _changed(service, before, request)
        if is_learned(before.data, after):
            changes["revision"] = before.data["revision"] + 1
            changes["progress"] = progress_of(after, before.id, store)
        state = request.given().choice("state", ("active", "deleted")) or before.state
        service.touch(before._replace(state=state), **changes)
    service.lives.changed(before.id, is_revised="revision" in changes)
    return wire.experiment(service.experiment(before.id), store)


def _changed(
    service: Service, before: Record, request: Request
) -> tuple[Definition, dict[str, Any]]:
    """Return what becomes of an experiment, and what of it changes."""
    changes = read_changes(before.data, request.data)
    given = request.given("the experiment")
    if "project" in given.data:
        changes["project"] = given.text("project")
        check_project(service, changes["project"], before.parent)
        if before.data["runs_only"] and changes["project"] != before.data["project"]:
            raise bad("The project of an experiment that takes runs only cannot be changed.")
    return {**before.data, **changes}, changes


def delete(service: Service, request: Request) -> wire.Json:
    """Delete an experiment; updating its state to active brings it back."""
    given = request.given()
    given.refuse_unknown({"include_runs"})
    option = given.choice("include_runs", ("true", "false"))
    with service.store.writing():
        record = service.experiment(request.ids[0])
        service.touch(record._replace(state=DELETED))
        if option == "true":
            for run in service.store.page("training_run", record.id, states=(ACTIVE,)):
                service.store.put("training_run", run._replace(state=DELETED))
    return {}


def create_for_client(service: Service, request: Request) -> wire.Json:
    """Create an experiment."""
    return create(service, request)


def fetch_all_of_client(service: Service, request: Request) -> wire.Json:
    """Return a page of the experiments."""
    return fetch_all(service, request)


ROUTES = (
    route("POST", "experiments", create, status=201),
    route("GET", "experiments", fetch_all),
    route("GET", "experiments/{}", fetch, is_quick=True),
    route("PUT", "experiments/{}", update),
    route("DELETE", "experiments/{}", delete),
    route("POST", "clients/{}/experiments", create_for_client, status=201),
    route("GET", "clients/{}/experiments", fetch_all_of_client),
)
