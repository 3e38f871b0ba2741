"""Requests about experiments that take training runs only: SigOpt's `aiexperiments`."""

from __future__ import annotations

from crystallize_opt.service import wire
from crystallize_opt.service.definition import read_experiment
from crystallize_opt.service.of_experiments import create_experiment, page_of_experiments
from crystallize_opt.service.of_experiments import delete as delete_experiment
from crystallize_opt.service.of_experiments import update as update_experiment
from crystallize_opt.service.of_projects import project_of
from crystallize_opt.service.of_runs import best_runs, create_run
from crystallize_opt.service.refusal import bad, missing
from crystallize_opt.service.routing import Request, route
from crystallize_opt.service.service import Service
from crystallize_opt.service.store import Record


def create_for_project(service: Service, request: Request) -> wire.Json:
    """Create an experiment that takes runs only."""
    project = project_of(service, request)
    given = request.given("the experiment")
    for key in ("project", "observation_budget", "runs_only"):
        if key in given.data:
            raise bad(f"`{key}` is not for an experiment that takes runs only: leave it out.")
    data = {**request.data, "project": project.data["id"], "runs_only": True}
    return create_experiment(service, read_experiment(data), request.access)


def fetch_all(service: Service, request: Request) -> wire.Json:
    """Return a page of the experiments that take runs only."""
    return page_of_experiments(service, request.given(), request.access, runs_only=True)


def fetch_all_of_project(service: Service, request: Request) -> wire.Json:
    """Return a page of the experiments of a project that take runs only."""
    name = project_of(service, request).data["id"]
    return page_of_experiments(
        service, request.given(), request.access, project=name, runs_only=True
    )


def classic_of_project(service: Service, request: Request) -> wire.Json:
    """Return a page of the other experiments of a project."""
    name = project_of(service, request).data["id"]
    return page_of_experiments(service, request.given(), request.access, project=name)


def fetch(service: Service, request: Request) -> wire.Json:
    """Return an experiment that takes runs only."""
    return wire.experiment(_experiment(service, request.ids[0]), service.store)


def _experiment(service: Service, text: str) -> Record:
    record = service.experiment(text)
    if not record.data["runs_only"]:
        raise missing(f"The experiment {record.id} takes no runs: see `experiments/{record.id}`.")
    return record


def update(service: Service, request: Request) -> wire.Json:
    """Change an experiment that takes runs only."""
    _experiment(service, request.ids[0])
    if "observation_budget" in request.data:
        raise bad("The budget of an experiment that takes runs only is called `budget`.")
    return update_experiment(service, request)


def delete(service: Service, request: Request) -> wire.Json:
    """Delete an experiment that takes runs only."""
    _experiment(service, request.ids[0])
    return delete_experiment(service, request)


_OF_PROJECT = "clients/{}/projects/{}"
ROUTES = (
    route("POST", f"{_OF_PROJECT}/aiexperiments", create_for_project, status=201),
    route("GET", f"{_OF_PROJECT}/aiexperiments", fetch_all_of_project),
    route("GET", f"{_OF_PROJECT}/experiments", classic_of_project),
    route("GET", "aiexperiments", fetch_all),
    route("GET", "aiexperiments/{}", fetch),
    route("PUT", "aiexperiments/{}", update),
    route("DELETE", "aiexperiments/{}", delete),
    route("POST", "aiexperiments/{}/training_runs", create_run, status=201, shown=wire.run),
    route("GET", "aiexperiments/{}/best_training_runs", best_runs),
)
