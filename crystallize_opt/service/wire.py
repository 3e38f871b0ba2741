"""What each object looks like on the wire, as SigOpt's client reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from crystallize_opt.service.store import ACTIVE, CLOSED, DELETED, Record, Store

Json = dict[str, Any]


def number(value: int | None) -> str | None:
    """Return an id, which is a text on the wire."""
    return None if value is None else str(value)


def experiment(record: Record, store: Store) -> Json:
    """Return an experiment; one that takes training runs only is an `aiexperiment`."""
    data = record.data
    found: Json = {
        "object": "aiexperiment" if data["runs_only"] else "experiment",
        "id": number(record.id),
        "client": number(record.parent),
        "user": None,
        "project": data["project"],
        "name": data["name"],
        "type": data["type"],
        "state": record.state,
        "created": int(data["created"]),
        "updated": int(data["updated"]),
        "development": False,
        "metadata": data["metadata"],
        "metrics": [{"object": "metric", **each} for each in data["metrics"]],
        "parameters": [_parameter(each) for each in data["parameters"]],
        "conditionals": [{"object": "conditional", **each} for each in data["conditionals"]],
        "linear_constraints": [_constraint(each) for each in data["linear_constraints"]],
        "num_solutions": data["num_solutions"],
        "parallel_bandwidth": data["parallel_bandwidth"],
        "runs_only": data["runs_only"],
        "budget" if data["runs_only"] else "observation_budget": data["budget"],
        "training_monitor": None,
        "tasks": None,
    }
    found["progress"] = _progress(record, store)
    return found


def _parameter(each: Mapping[str, Any]) -> Json:
    found: Json = {"object": "parameter", **each, "precision": None, "tunable": True}
    for key in ("bounds", "prior"):
        if each[key] is not None:
            found[key] = {"object": key, **each[key]}
    if each["categorical_values"] is not None:
        found["categorical_values"] = [
            {"object": "categorical_value", **value} for value in each["categorical_values"]
        ]
    return found


def _constraint(each: Mapping[str, Any]) -> Json:
    terms = [{"object": "constraint_term", **term} for term in each["terms"]]
    return {"object": "linear_constraint", **each, "terms": terms}


def _progress(record: Record, store: Store) -> Json:
    progress = record.data["progress"]
    if record.data["runs_only"]:
        active = store.count("training_run", record.id, states=(ACTIVE,))
        finished = store.count("training_run", record.id, states=(CLOSED,))
        budget = record.data["budget"]
        return {
            "object": "progress",
            "active_run_count": active,
            "finished_run_count": finished,
            "total_run_count": active + finished,
            "remaining_budget": None if budget is None else budget - active - finished,
        }

    def found(key: str) -> Json | None:
        if progress[key] is None:
            return None
        known = store.get("observation", progress[key])
        return None if known is None else observation(known)

    return {
        "object": "progress",
        "observation_count": progress["count"],
        "observation_budget_consumed": float(progress["count"]),
        "first_observation": found("first"),
        "last_observation": found("last"),
        "best_observation": found("best"),
    }


def suggestion(record: Record) -> Json:
    """Return a suggestion."""
    data = record.data
    return {
        "object": "suggestion",
        "id": number(record.id),
        "experiment": number(record.parent),
        "assignments": data["assignments"],
        "state": "closed" if record.state == DELETED and data["observation"] else record.state,
        "created": int(data["created"]),
        "metadata": data["metadata"],
        "deleted": record.state == DELETED,
        "task": None,
    }


def queued(record: Record) -> Json:
    """Return a queued suggestion."""
    return {
        "object": "queued_suggestion",
        "id": number(record.id),
        "experiment": number(record.parent),
        "assignments": record.data["assignments"],
        "created": int(record.data["created"]),
        "task": None,
    }


def values(each: Sequence[Mapping[str, Any]]) -> list[Json]:
    """Return the measured values of metrics."""
    return [{"object": "metric_evaluation", **value} for value in each]


def observation(record: Record) -> Json:
    """Return an observation; `value` and `value_stddev` are those of the only metric."""
    data = record.data
    only = data["values"][0] if len(data["values"]) == 1 else {}
    return {
        "object": "observation",
        "id": number(record.id),
        "experiment": number(record.parent),
        "suggestion": number(data["suggestion"]),
        "assignments": data["assignments"],
        "values": values(data["values"]),
        "value": only.get("value"),
        "value_stddev": only.get("value_stddev"),
        "failed": data["failed"],
        "created": int(data["created"]),
        "metadata": data["metadata"],
        "task": None,
    }


def run(record: Record) -> Json:
    """Return a training run."""
    data = record.data
    return {
        "object": "training_run",
        "id": number(record.id),
        "experiment": number(record.parent or None),
        "user": None,
        "best_checkpoint": None,
        "tags": [],
        "files": [],
        "finished": data["completed"] is not None,
        **data,
        "client": number(data["client"]),
        "suggestion": number(data["suggestion"]),
        "observation": number(data["observation"]),
        "deleted": record.state == DELETED,
        "created": int(data["created"]),
        "updated": int(data["updated"]),
        "completed": None if data["completed"] is None else int(data["completed"]),
        "values": {
            name: {"object": "metric_evaluation", **value} for name, value in data["values"].items()
        },
    }


def checkpoint(record: Record) -> Json:
    """Return a checkpoint of a run."""
    return {
        "object": "checkpoint",
        "id": number(record.id),
        "training_run": number(record.parent),
        "created": int(record.data["created"]),
        "metadata": record.data["metadata"],
        "values": values(record.data["values"]),
        "should_stop": False,
        "stopping_reasons": {},
    }


def project(record: Record, store: Store) -> Json:
    """Return a project."""
    data = record.data
    client = record.parent
    experiments = store.page("experiment", client)
    runs = [each for each in store.page("training_run") if each.data["client"] == client]
    of_project = [
        sum(each.data["project"] == data["id"] for each in some) for some in (experiments, runs)
    ]
    return {
        "object": "project",
        **data,
        "client": number(client),
        "user": None,
        "created": int(data["created"]),
        "updated": int(data["updated"]),
        "experiment_count": of_project[0],
        "training_run_count": of_project[1],
        "deleted": record.state == DELETED,
    }


def pagination(
    data: Sequence[Json],
    count: int | None = None,
    before: str | None = None,
    after: str | None = None,
) -> Json:
    """Return one page of a list."""
    return {
        "object": "pagination",
        "count": len(data) if count is None else count,
        "data": [*data],
        "paging": {"before": before, "after": after},
    }
