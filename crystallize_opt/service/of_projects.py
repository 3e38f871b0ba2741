"""Requests about clients and their projects."""

from __future__ import annotations

import re
import time

from crystallize_opt.service import wire
from crystallize_opt.service.given import LONGEST_NAME, Given, metadata_of, shown
from crystallize_opt.service.pages import boolean, page_of_records
from crystallize_opt.service.refusal import Refusal, bad, missing
from crystallize_opt.service.routing import Request, route
from crystallize_opt.service.service import Service
from crystallize_opt.service.store import ACTIVE, DELETED, Record

_ID = re.compile(r"[a-z0-9\-_.]{1,32}")


def fetch_client(_: Service, request: Request) -> wire.Json:
    """Return the client that asks."""
    client = wire.number(request.access.client)
    return {
        "object": "client",
        "id": client,
        "name": f"Client {client}",
        "organization": client,
        "created": None,
    }


def create(service: Service, request: Request) -> wire.Json:
    """Create a project, whose id the client chooses."""
    given = request.given("the project")
    given.refuse_unknown({"id", "name", "metadata"})
    given.refuse_missing("id", "name")
    name = given.text("id") or ""
    if not _ID.fullmatch(name):
        raise given.error("id", "1 to 32 of the characters a-z, 0-9, '-', '_' and '.'")
    now = time.time()
    data = {
        "id": name,
        "name": given.text("name", longest=LONGEST_NAME),
        "metadata": metadata_of(given),
        "created": now,
        "updated": now,
    }
    with service.store.writing():
        client = request.access.client
        if service.project(name, client) is not None:
            raise Refusal(409, f"There is a project {name!r} already.")
        number = service.store.add("project", client, ACTIVE, data)
    return wire.project(Record(number, client, ACTIVE, data), service.store)


def project_of(service: Service, request: Request) -> Record:
    """Return the project that a request is about.

    Raises:
        Refusal: There is none.
    """
    record = service.project(request.ids[1], request.access.client)
    if record is None:
        raise missing(
            f"There is no project {shown(request.ids[1])}. With the client: "
            "sigopt.create_project() creates it."
        )
    return record


def fetch(service: Service, request: Request) -> wire.Json:
    """Return one project."""
    return wire.project(project_of(service, request), service.store)


def fetch_all(service: Service, request: Request) -> wire.Json:
    """Return a page of projects."""
    given = request.given()
    states = (DELETED,) if boolean(given, "deleted") else (ACTIVE,)
    records = service.store.page("project", request.access.client, states=states)
    return page_of_records(given, records, lambda each: wire.project(each, service.store))


def update(service: Service, request: Request) -> wire.Json:
    """Change a project."""
    given: Given = request.given("the project")
    given.refuse_unknown({"name", "metadata", "deleted"})
    with service.store.writing():
        record = project_of(service, request)
        data = {**record.data, "updated": time.time()}
        if "name" in given.data:
            if "name" not in given:
                raise bad("`name` of a project cannot be null.")
            data["name"] = given.text("name", longest=LONGEST_NAME)
        if "metadata" in given.data:
            data["metadata"] = metadata_of(given)
        deleted = given.boolean("deleted")
        state = record.state if deleted is None else DELETED if deleted else ACTIVE
        record = record._replace(data=data, state=state)
        service.store.put("project", record)
    return wire.project(record, service.store)


ROUTES = (
    route("GET", "clients/{}", fetch_client),
    route("POST", "clients/{}/projects", create, status=201),
    route("GET", "clients/{}/projects", fetch_all),
    route("GET", "clients/{}/projects/{}", fetch),
    route("PUT", "clients/{}/projects/{}", update),
)
