"""Reads an Ax client into a `History`."""

from __future__ import annotations

import math
import os
from typing import Any

from crystallize_opt.history.history import History
from crystallize_opt.runtime.extras import needs
from crystallize_opt.space.choices import Categorical, Constant, Ordinal
from crystallize_opt.space.numbers import Float, Integer
from crystallize_opt.space.parameter import Parameter
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.trials.objective import Constraint, Objective
from crystallize_opt.trials.observation import Observation, Status
from crystallize_opt.trials.treatment import Treatment

_STATUSES = {
    "COMPLETED": Status.COMPLETED,
    "FAILED": Status.FAILED,
    "ABANDONED": Status.ABANDONED,
    "EARLY_STOPPED": Status.PRUNED,
}


def history_from_ax(client: Any) -> History:
    """Read an Ax client (extra `ax`).

    Numbers from a JSON file are rounded, because Ax writes only ten decimals. The history has no
    space if parameters depend on each other. Trials with one arm are read, batch trials are not.

    Args:
        client: An `ax.api.client.Client`, or the path of a JSON file written by
            `save_to_json_file`.

    Raises:
        MissingExtraError: Ax is not installed.
    """
    ax_client = _import_ax()
    # Ax causes warnings by its own use of pandas.
    with ax_client._no_trace():  # noqa: SLF001
        if isinstance(client, (str, os.PathLike)):
            client = ax_client.Client.load_from_json_file(os.fspath(client))
        experiment = client._experiment  # noqa: SLF001  (there is no other way to the trials)
        data = experiment.lookup_data().df
    config = experiment.optimization_config
    metrics: dict[int, dict[str, tuple[float, float]]] = {}
    for index, metric, mean, sem in data[["trial_index", "metric_name", "mean", "sem"]].values:
        metrics.setdefault(int(index), {})[metric] = (float(mean), float(sem))
    observations, pending = [], []
    for index, trial in experiment.trials.items():
        treatment = Treatment(f"ax_{index}", dict(trial.arm.parameters))
        if trial.status.name not in _STATUSES:
            pending.append(treatment)
        else:
            observations.append(_observation(treatment, trial, metrics.get(index, {})))
    return History(
        observations,
        [
            Objective(metric, "maximize" if weight > 0 else "minimize")
            for metric, weight in config.objective.metric_weights
        ],
        [
            Constraint(each.metric_names[0], "<=" if each.op.name == "LEQ" else ">=", each.bound)
            for each in config.outcome_constraints
            if len(each.metric_names) == 1 and not each.relative
        ],
        space=_space(experiment.search_space),
        pending=pending,
        name=experiment.name if experiment.has_name else None,
    )


def _import_ax() -> Any:
    with needs("An Ax client needs", "ax", extra="ax"):
        from crystallize_opt.adapters.ax.optimizer import importing_ax
    with importing_ax():
        from crystallize_opt.adapters.ax import client as ax_client
    return ax_client


def _observation(
    treatment: Treatment, trial: Any, metrics: dict[str, tuple[float, float]]
) -> Observation:
    started, ended = trial.time_run_started, trial.time_completed
    duration = (ended - started).total_seconds() if started and ended else None
    return Observation(
        treatment,
        {metric: mean for metric, (mean, _) in metrics.items()},
        _STATUSES[trial.status.name],
        {metric: None if math.isnan(sem) else sem for metric, (_, sem) in metrics.items()},
        error=trial.status_reason,
        started_at=started.timestamp() if started else None,
        duration=duration,
    )


def _space(space: Any) -> SearchSpace | None:
    if any(getattr(each, "is_hierarchical", False) for each in space.parameters.values()):
        return None
    return SearchSpace({name: _parameter(each) for name, each in space.parameters.items()})


def _parameter(parameter: Any) -> Parameter:
    kind = type(parameter).__name__
    if kind == "FixedParameter":
        return Constant(parameter.value)
    if kind == "ChoiceParameter":
        ordered = parameter.is_ordered and len(parameter.values) > 2
        return (Ordinal if ordered else Categorical)(parameter.values)
    number = Integer if parameter.parameter_type.name == "INT" else Float
    return number(parameter.lower, parameter.upper, log=bool(parameter.log_scale))
