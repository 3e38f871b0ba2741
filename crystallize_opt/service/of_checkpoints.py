"""Requests about checkpoints of training runs: values while a run goes on."""

from __future__ import annotations

import time
from typing import Any

from crystallize_opt.service import wire
from crystallize_opt.service.given import Given, metadata_of
from crystallize_opt.service.of_runs import run_of
from crystallize_opt.service.pages import page_of
from crystallize_opt.service.refusal import Refusal
from crystallize_opt.service.routing import Request, route
from crystallize_opt.service.service import Service
from crystallize_opt.service.store import ACTIVE, Record

_MOST = 200
"""How many checkpoints a run takes."""


def create(service: Service, request: Request) -> wire.Json:
    """Take a checkpoint of a run: values while it runs."""
    given = request.given("the checkpoint")
    given.refuse_unknown({"values", "metadata"})
    given.refuse_missing("values")
    values = given.each("values", _value)
    data = {"values": values, "metadata": metadata_of(given), "created": time.time()}
    store = service.store
    with store.writing():
        run = run_of(service, request)
        if run.data["observation"] is not None:
            raise Refusal(403, f"The run {run.id} has ended: it takes no checkpoints.")
        count = run.data["checkpoint_count"] + 1
        if count > _MOST:
            raise Refusal(403, f"A run takes at most {_MOST} checkpoints.")
        number = store.add("checkpoint", run.id, ACTIVE, data)
        counted = {**run.data, "checkpoint_count": count, "updated": time.time()}
        store.put("training_run", run._replace(data=counted))
    return wire.checkpoint(Record(number, run.id, ACTIVE, data))


def _value(data: Any) -> dict[str, Any]:
    given = Given(data, "an entry of `values`")
    given.refuse_unknown({"name", "value", "value_stddev", "object"})
    given.refuse_missing("name", "value")
    keys = ("value", "value_stddev")
    return {"name": given.text("name"), **{key: given.number(key) for key in keys}}


def fetch(service: Service, request: Request) -> wire.Json:
    """Return one checkpoint."""
    run = run_of(service, request, -2)
    return wire.checkpoint(service.child("checkpoint", request.ids[-1], run.id))


def fetch_all(service: Service, request: Request) -> wire.Json:
    """Return a page of the checkpoints of a run."""
    run = run_of(service, request)
    return page_of(request.given(), service.store, "checkpoint", run.id, (ACTIVE,), wire.checkpoint)


ROUTES = tuple(
    each
    for path in ("training_runs", "experiments/{}/training_runs")
    for each in (
        route("POST", f"{path}/{{}}/checkpoints", create, status=201),
        route("GET", f"{path}/{{}}/checkpoints", fetch_all),
        route("GET", f"{path}/{{}}/checkpoints/{{}}", fetch),
    )
)
