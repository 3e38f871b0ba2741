"""What the pages show of an experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crystallize_opt.analysis.report import Section, Table, overview, page
from crystallize_opt.analysis.svg import legend, svg_of
from crystallize_opt.history.history import History
from crystallize_opt.history.trace import traces
from crystallize_opt.service.problem import problem_of
from crystallize_opt.service.served_run import observation_of
from crystallize_opt.service.service import Service
from crystallize_opt.service.store import ACTIVE, OPEN, Record
from crystallize_opt.trials.treatment import Treatment

_LAST = 20
"""How many of the last trials a page shows, and how many open ones."""


def rendered(template: str, **values: Any) -> str:
    """Return a page of the service."""
    return page(template, package="crystallize_opt.service", **values)


def history_of(service: Service, experiment: Record) -> History:
    """Return the observations of an experiment, each named by its number."""
    problem = problem_of(experiment.data)
    store, data = service.store, experiment.data
    records = store.page("observation", experiment.id, states=(ACTIVE,))
    open_ones = store.page("suggestion", experiment.id, states=(OPEN,))
    about = {"type": data["type"], **_said_of_optimizer(data), "budget": data["budget"]}
    return History(
        [
            observation_of(each, Treatment(str(each.id), each.data["assignments"]))
            for each in records
        ],
        problem.objectives,
        problem.constraints,
        space=problem.space,
        pending=[Treatment(str(each.id), each.data["assignments"]) for each in open_ones],
        name=data["name"],
        about=about,
    )


def _said_of_optimizer(data: Mapping[str, Any]) -> dict[str, Any]:
    metadata = data["metadata"] or {}
    named = metadata.get("optimizer", data["optimizer"]) if data["type"] == "offline" else None
    return {"optimizer": named, "optimizer's seed": metadata.get("seed")}


@dataclass(frozen=True)
class Picture:
    """A picture of the trace of an objective, and what its marks mean."""

    svg: str
    legend: Sequence[tuple[str, str]]


def pictures_of(history: History) -> list[Picture]:
    """Return a picture for each objective."""
    found = traces(history, history.criterion, None)
    return [Picture(svg_of(each), legend(each)) for each in found]


def sections_of(history: History) -> list[Section]:
    """Return what the report says of an experiment, and its last trials."""
    last = history.observations[:-_LAST:-1]
    metrics = list(dict.fromkeys(name for each in last for name in each.metrics))
    names = list(history.space or ())
    rows = [
        [
            each.treatment.name,
            str(each.status),
            *(each.metrics.get(metric) for metric in metrics),
            *(each.params.get(name, "") for name in names),
        ]
        for each in last
    ]
    table = Table(rows, ["trial", "status", *metrics, *names])
    searched, *others = overview(history)
    return [*others, *([Section("The last trials", tables=[table])] if rows else []), searched]


def listed(service: Service, ids: Sequence[str]) -> list[tuple[Record, list[Any]]]:
    """Return experiments, each with the values of its best observation."""
    found = []
    for each in ids:
        record = service.experiment(each)
        best = record.data["progress"]["best"]
        observation = None if best is None else service.store.get("observation", best)
        found.append((record, [] if observation is None else observation.data["values"]))
    return found


def open_trials(service: Service, experiment: Record) -> list[Record]:
    """Return the open suggestions, the newest first."""
    return service.store.page(
        "suggestion", experiment.id, states=(OPEN,), limit=_LAST, ascending=False
    )
