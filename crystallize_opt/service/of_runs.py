"""Requests about training runs: what SigOpt's newer face makes of suggestions and observations."""

from __future__ import annotations

import json
import time
from concurrent.futures import Future
from typing import Any

from crystallize_opt.service import wire
from crystallize_opt.service.given import Given, number_of
from crystallize_opt.service.measured import read_assignments
from crystallize_opt.service.of_observations import add as add_observation
from crystallize_opt.service.of_projects import project_of
from crystallize_opt.service.of_results import best_records
from crystallize_opt.service.of_suggestions import points_of
from crystallize_opt.service.pages import page_of, page_of_records, sorted_page
from crystallize_opt.service.refusal import Refusal, bad, missing
from crystallize_opt.service.routing import Request, route
from crystallize_opt.service.service import Service
from crystallize_opt.service.store import ACTIVE, CLOSED, DELETED, Record
from crystallize_opt.service.training import (
    KNOWN,
    NOTHING,
    by_optimizer,
    check_meta,
    matches,
    merged,
    of_parameters,
    outcome,
    read_run,
)

_MOST_RUNS = 10_000


def create_run(service: Service, request: Request) -> Future[Record] | wire.Json:
    """Create a run of an experiment, with assignments that the optimizer suggests."""
    experiment = service.active_experiment(request.ids[0])
    if not experiment.data["runs_only"]:
        raise Refusal(
            403,
            f"The experiment {experiment.id} takes no runs. Create suggestions and observations, "
            "or an experiment with `runs_only`.",
        )
    data = _new_run(request.given("the run"), experiment.data["project"], experiment.parent)
    if data["state"] != "active":
        return _finished_run(service, experiment, data)
    wanted: dict[str, Any] = {"metadata": None}
    if chosen := of_parameters(experiment.data, data["assignments"]):
        try:
            wanted["assignments"] = points_of(experiment, chosen)
        except Refusal:  # The run is kept, and says nothing to the optimizer.
            return wire.run(_added(service, experiment.id, data))

    def add(suggestion: Record) -> Record:
        found = by_optimizer(data, suggestion.data["assignments"])
        found["suggestion"] = suggestion.id
        return _added(service, experiment.id, found)

    return service.lives.suggest(experiment.id, wanted, add)


def _new_run(given: Given, project: str | None, client: int) -> dict[str, Any]:
    given.refuse_unknown(KNOWN)
    given.refuse_missing("name")
    said = read_run(given, merges=False)
    now = time.time()
    found = {
        **NOTHING,
        **{key: NOTHING[key] if value is None else value for key, value in said.items()},
        "project": project,
        "client": client,
        "suggestion": None,
        "observation": None,
        "checkpoint_count": 0,
        "created": now,
        "updated": now,
        "completed": None if said.get("state", "active") == "active" else now,
    }
    found["deleted"] = said.get("deleted", False)
    check_meta(found)
    return found


def _added(service: Service, experiment: int, data: dict[str, Any]) -> Record:
    with service.store.writing():
        number = service.store.add("training_run", experiment, _state_of(data), data)
    return Record(number, experiment, _state_of(data), data)


def _state_of(data: dict[str, Any]) -> str:
    if data["deleted"]:
        return DELETED
    return ACTIVE if data["completed"] is None else CLOSED


def _finished_run(service: Service, experiment: Record, data: dict[str, Any]) -> wire.Json:
    """Add a run that has ended elsewhere, and its observation, if it makes one."""
    said = outcome(experiment.data, data)
    chosen = of_parameters(experiment.data, data["assignments"])
    observation: Record | None = None
    with service.store.writing():
        try:
            said["assignments"] = read_assignments(experiment.data, chosen)
            observation, _ = add_observation(service, experiment, said)
            data = {**data, "observation": observation.id}
        except Refusal:  # The run is kept, and says nothing to the optimizer.
            pass
        record = _added(service, experiment.id, data)
    if observation is not None:
        service.lives.observed(experiment.id, observation.id)
    return wire.run(record)


def create_run_of_project(service: Service, request: Request) -> wire.Json:
    """Create a run that belongs to no experiment."""
    project = project_of(service, request)
    data = _new_run(request.given("the run"), project.data["id"], project.parent)
    return wire.run(_added(service, 0, data))


def create_runs_of_project(service: Service, request: Request) -> wire.Json:
    """Create several runs that belong to no experiment, all or none."""
    project = project_of(service, request)
    given = request.given("the request")
    given.refuse_unknown({"runs", "fields"})
    name, client = project.data["id"], project.parent
    runs = given.each("runs", lambda each: _new_run(Given(each, "the run"), name, client))
    if len(runs) > _MOST_RUNS:
        raise bad(f"One request takes at most {_MOST_RUNS} `runs`, not {len(runs)}.")
    with service.store.writing():
        records = [_added(service, 0, each) for each in runs]
    return wire.pagination([wire.run(each) for each in records])


def fetch_run(service: Service, request: Request) -> wire.Json:
    """Return one run."""
    return wire.run(run_of(service, request))


def run_of(service: Service, request: Request, position: int = -1) -> Record:
    """Return the run with an id, which the client may see, and which is of the experiment named."""
    text = request.ids[position]
    record = service.store.get("training_run", number_of(text, "training run"))
    if record is None or record.data["client"] != request.access.client:
        raise missing(f"There is no training run {text}.")
    of_experiment = request.ids[: len(request.ids) + position]
    if of_experiment and of_experiment[0] != str(record.parent):
        raise missing(f"The training run {text} is of another experiment.")
    return record


def replace_run(service: Service, request: Request) -> wire.Json:
    """Change a run: a field that is given takes the place of the known one."""
    return _update_run(service, request, merges=False)


def merge_run(service: Service, request: Request) -> wire.Json:
    """Change a run: a field that is given is merged with the known one."""
    return _update_run(service, request, merges=True)


def _update_run(service: Service, request: Request, *, merges: bool) -> wire.Json:
    given = request.given("the run")
    given.refuse_unknown({*KNOWN, "project"})
    said = read_run(given, merges=merges)
    store = service.store
    observation = None
    with store.writing():
        record = run_of(service, request)
        data = {**record.data, "updated": time.time()}
        for key, value in said.items():
            data[key] = merged(data[key], value) if merges else value
            if data[key] is None:
                data[key] = NOTHING[key]
        check_meta(data)
        if "project" in given.data:
            name = given.text("project") or ""
            if service.project(name, data["client"]) is None:
                raise bad(f"There is no project {name!r}. Create it first.")
            data["project"] = name
        if data["state"] != "active":
            data["completed"] = data["completed"] or time.time()
            observation = _observed(service, record, data)
        record = record._replace(data=data, state=_state_of(data))
        store.put("training_run", record)
    if observation is not None:
        service.lives.observed(observation.parent, observation.id)
    return wire.run(record)


def _observed(service: Service, record: Record, data: dict[str, Any]) -> Record | None:
    """Add the observation of a run that has ended, unless it has one."""
    if data["observation"] is not None or data["suggestion"] is None:
        return None
    experiment = service.experiment(record.parent)
    said = {"suggestion": data["suggestion"], **outcome(experiment.data, data)}
    observation, is_new = add_observation(service, experiment, said)
    data["observation"] = observation.id
    return observation if is_new else None


def delete_run(service: Service, request: Request) -> wire.Json:
    """Delete a run; its observation stays."""
    with service.store.writing():
        record = run_of(service, request)
        data = {**record.data, "deleted": True, "updated": time.time()}
        record = record._replace(data=data, state=DELETED)
        service.store.put("training_run", record)
    return wire.run(record)


def fetch_runs_of_project(service: Service, request: Request) -> wire.Json:
    """Return a page of the runs of a project, in experiments or not."""
    project = project_of(service, request)
    name, client = project.data["id"], project.parent
    given = request.given()
    try:
        filters = json.loads(given.text("filters") or "[]")
    except ValueError as error:
        raise bad(f"`filters` is no JSON: {error}") from error
    if not isinstance(filters, list):
        raise bad("`filters` is a JSON array of filters.")
    search = (given.text("search") or "").lower()

    def is_wanted(record: Record) -> bool:
        data = record.data
        if (data["client"], data["project"]) != (client, name):
            return False
        if search not in data["name"].lower():
            return False
        shown = wire.run(record)
        return all(matches(shown, each) for each in filters)

    found = [each for each in service.store.page("training_run") if is_wanted(each)]
    return page_of_records(given, found, wire.run)


def fetch_runs_of_experiment(service: Service, request: Request) -> wire.Json:
    """Return a page of the runs of an experiment."""
    experiment = service.experiment(request.ids[0])
    states = (ACTIVE, CLOSED)
    return page_of(request.given(), service.store, "training_run", experiment.id, states, wire.run)


def best_runs(service: Service, request: Request) -> wire.Json:
    """Return the runs of the best observations, the best first."""
    experiment = service.experiment(request.ids[0])
    runs = {
        each.data["observation"]: each
        for each in service.store.page("training_run", experiment.id)
        if each.data["observation"] is not None
    }
    found = [runs[each.id] for each in best_records(service, experiment) if each.id in runs]
    ranked = [(-rank, each.id, each) for rank, each in enumerate(found)]
    return sorted_page(request.given(), ranked, wire.run)


_OF_PROJECT = "clients/{}/projects/{}"
ROUTES = (
    route("POST", f"{_OF_PROJECT}/training_runs", create_run_of_project, status=201),
    route("POST", f"{_OF_PROJECT}/training_runs/batch", create_runs_of_project, status=201),
    route("GET", f"{_OF_PROJECT}/training_runs", fetch_runs_of_project),
    route("GET", "experiments/{}/best_training_runs", best_runs),
    *(
        each
        for path in ("training_runs", "experiments/{}/training_runs")
        for each in (
            route("GET", f"{path}/{{}}", fetch_run),
            route("PUT", f"{path}/{{}}", replace_run),
            route("MERGE", f"{path}/{{}}", merge_run),
            route("DELETE", f"{path}/{{}}", delete_run),
        )
    ),
    route("POST", "experiments/{}/training_runs", create_run, status=201, shown=wire.run),
    route("GET", "experiments/{}/training_runs", fetch_runs_of_experiment),
)
