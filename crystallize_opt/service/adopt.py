"""Runs that `optimize(storage=...)` began, as experiments of the service."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

from crystallize_opt.errors import CrystallizeOptError, UsageError
from crystallize_opt.recording.description import describe_optimizer
from crystallize_opt.service.access import OWNER
from crystallize_opt.service.definition import Definition, read_experiment
from crystallize_opt.service.measured import progress_of
from crystallize_opt.service.of_experiments import NO_PROGRESS
from crystallize_opt.service.problem import problem_of
from crystallize_opt.service.store import ACTIVE, CLOSED, Store
from crystallize_opt.space.choices import Categorical, Ordinal
from crystallize_opt.space.numbers import Float, Integer
from crystallize_opt.space.parameter import Parameter
from crystallize_opt.storage.description import changes
from crystallize_opt.storage.journal import written
from crystallize_opt.storage.reading import StoredObservations, read_observations
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status

_EARLIER = re.compile(r".* \(before revision \d+\)", re.DOTALL)


def adopt_runs(store: Store, default: str) -> list[str]:
    """Make experiments of the runs in the file that are none yet.

    Their suggestions go on where the search ended.

    Args:
        store: The records.
        default: The name of the optimizer of experiments that name none.

    Returns:
        Why runs are not served: one sentence for each.
    """
    known = {each.data["run"] for each in store.page("experiment")}
    reasons = []
    for run in store.runs():
        if run in known or _EARLIER.fullmatch(run):
            continue
        try:
            _adopt(store, run, default)
        except CrystallizeOptError as error:
            reasons.append(f"The run {run!r} is not served: {error}")
    return reasons


def _adopt(store: Store, run: str, default: str) -> None:
    path = store.path or ""
    if written(path, run).now:
        raise UsageError("A search is writing it. Start the service again when it has ended.")
    stored = read_observations(path, run)
    if stored.baseline is not None:
        raise UsageError("It has a baseline, which SigOpt's experiments have not.")
    definition = _definition_of(stored) | {"optimizer": default}
    built = describe_optimizer(problem_of(definition).build())
    there = {key: value for key, value in stored.description.items() if key in built}
    if differs := changes(there, built):
        raise UsageError(f"SigOpt's API cannot say this of it: {next(iter(differs.values()))}")
    now = time.time()
    data = {
        **definition,
        "run": run,
        "revision": 0,
        "created": written(path, run).first or now,
        "updated": now,
        "progress": NO_PROGRESS,
    }
    with store.writing():
        number = store.add("experiment", OWNER, ACTIVE, data)
        for each in stored:
            _add_trial(store, number, data, each)
        progress = progress_of(data, number, store)
        record = store.get("experiment", number)
        assert record is not None  # noqa: S101  (it was added above)
        store.put("experiment", record._replace(data={**data, "progress": progress}))


def _add_trial(store: Store, number: int, definition: Definition, trial: Observation) -> None:
    """Add a suggestion and its observation, as if a client had sent them."""
    began = trial.started_at
    params = dict(trial.params)
    suggestion = {
        "assignments": params,
        "metadata": None,
        "created": began or time.time(),
        "trial": trial.treatment.name,
        "revision": 0,
        "observation": None,
        "expires": None,
    }
    has_failed = trial.status is not Status.COMPLETED
    observation = {
        "values": [] if has_failed else _values(definition, trial),
        "failed": has_failed,
        "metadata": {"status": str(trial.status)} if has_failed else None,
        "assignments": params,
        "suggestion": store.next_id("suggestion"),
        "trial": trial.treatment.name,
        "revision": 0,
        "began": began,
        "created": (began or time.time()) + (trial.duration or 0.0),
    }
    suggestion["observation"] = store.add("observation", number, ACTIVE, observation)
    store.add("suggestion", number, CLOSED, suggestion)


def _values(definition: Definition, trial: Observation) -> list[dict[str, Any]]:
    return [
        {
            "name": each["name"],
            "value": trial[each["name"]],
            "value_stddev": trial.sem.get(each["name"]),
        }
        for each in definition["metrics"]
    ]


def _definition_of(stored: StoredObservations) -> Definition:
    """Return a stored run as an experiment of SigOpt's, by the rules for a client's own.

    Raises:
        Refusal: It breaks a rule.
        UsageError: The service cannot say what a parameter is.
    """
    if stored.space is None:
        raise UsageError("It has no search space.")
    optimizer = stored.description["optimizer"]
    metadata = {"optimizer": optimizer["class"].rpartition(".")[2], "seed": optimizer["seed"]}
    conditions = {
        name: {each.parent: [*each.values] for each in parameter.conditions}
        for name, parameter in stored.space.items()
    }
    parents = {parent for each in conditions.values() for parent in each}
    parameters, conditionals = [], []
    for name, parameter in stored.space.items():
        if name in parents:
            conditionals.append({"name": name, "values": _choices(name, parameter)})
        else:
            found = {**_parameter_of(name, parameter), "conditions": conditions[name]}
            parameters.append({"name": name, **found})
    data = {
        "name": (stored.name or "run")[:100],
        "parameters": parameters,
        "conditionals": conditionals,
        "linear_constraints": [_linear(each) for each in stored.space.constraints],
        "metrics": [*_metrics(stored)],
        "metadata": {key: value for key, value in metadata.items() if value is not None},
        "observation_budget": 1,  # Some experiments need one; a search has none.
    }
    return read_experiment(data, f"the run {stored.name!r}") | {"budget": None}


def _choices(name: str, parameter: Parameter) -> list[Any]:
    if not isinstance(parameter, Categorical):
        raise UsageError(f"Others depend on the parameter {name!r}, which is not categorical.")
    return [*parameter.choices]


def _parameter_of(name: str, parameter: Parameter) -> dict[str, Any]:
    kind = type(parameter)
    if isinstance(parameter, (Float, Integer)):
        kind_of = "double" if isinstance(parameter, Float) else "int"
        bounds = {"min": parameter.low, "max": parameter.high}
        log = {"transformation": "log"} if parameter.log else {}
        return {"type": kind_of, "bounds": bounds, **log}
    if isinstance(parameter, Categorical):
        return {"type": "categorical", "categorical_values": [*parameter.choices]}
    if isinstance(parameter, Ordinal):
        whole = all(isinstance(each, int) for each in parameter.choices)
        return {"type": "int" if whole else "double", "grid": [*parameter.choices]}
    raise UsageError(f"The parameter {name!r} is a {kind.__name__}, which SigOpt has not.")


def _linear(constraint: Any) -> Mapping[str, Any]:
    terms = [{"name": name, "weight": weight} for name, weight in constraint.coefficients.items()]
    return {"type": "less_than", "terms": terms, "threshold": constraint.bound}


def _metrics(stored: StoredObservations) -> list[dict[str, Any]]:
    """Return the metrics: what is optimized, and what is bounded."""
    found: list[dict[str, Any]] = [
        {"name": each.metric, "objective": each.direction, "threshold": each.threshold}
        for each in stored.objectives
    ]
    for each in stored.constraints:
        if each.relative_to_baseline:
            raise UsageError(f"The constraint {each.text!r} is relative to a baseline.")
        found.append(
            {
                "name": each.metric,
                "objective": "maximize" if each.comparison == ">=" else "minimize",
                "strategy": "constraint",
                "threshold": each.bound,
            }
        )
    return found
