"""Reads an Ax client into a `History`."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from crystallize_opt.errors import SpaceError, StorageError, UsageError
from crystallize_opt.history.foreign import Notes, point_of
from crystallize_opt.history.history import History
from crystallize_opt.optimizers.last_step import LastStep
from crystallize_opt.optimizers.unique import Dropped
from crystallize_opt.pipeline.result import BASELINE
from crystallize_opt.runtime.extras import needs
from crystallize_opt.space.choices import Categorical, Constant, Ordinal
from crystallize_opt.space.constraint import LinearConstraint
from crystallize_opt.space.numbers import Float, Integer
from crystallize_opt.space.parameter import Condition, Parameter
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.storage.description import constraints_of, objectives_of, space_of
from crystallize_opt.trials.curves import Curve, Curves
from crystallize_opt.trials.objective import Comparison, Constraint, Objective
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.replicate import Replicate
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import Treatment

_STATUSES = {
    "COMPLETED": Status.COMPLETED,
    "FAILED": Status.FAILED,
    "ABANDONED": Status.ABANDONED,
    "EARLY_STOPPED": Status.PRUNED,
    "STALE": Status.ABANDONED,  # It was suggested, but never ran.
}

Values = Mapping[str, tuple[float, float]]
"""Metric -> its mean and its standard error, which may be nan."""
Weights = tuple[tuple[str, float], ...]


def history_from_ax(client: Any) -> History:
    """Read an Ax client (extra `ax`).

    A weighted sum of metrics, in an objective or an outcome constraint, becomes a metric that has
    the expression as its name; so does the change of a metric relative to the baseline, in percent.
    Thresholds of objectives become constraints. Each arm of a batch trial becomes a trial. `notes`
    says what else the history has not, or not as Ax has it. Numbers from a JSON file are rounded,
    because Ax writes only ten decimals.

    Args:
        client: An `ax.api.client.Client`, or the path of a JSON file written by
            `save_to_json_file`; or an `AxClient` or an `Experiment` of `ax.core`.

    Raises:
        UsageError: `client` is none of these.
        StorageError: The file does not hold an Ax client.
        MissingExtraError: Ax is not installed.
    """
    ax_client = _import_ax()
    from ax.core.experiment import Experiment

    # Ax causes warnings by its own use of pandas.
    with ax_client._no_trace():  # noqa: SLF001
        if isinstance(client, (str, os.PathLike)):
            client = _loaded(ax_client.Client, os.fspath(client))
        experiment = getattr(client, "_experiment", client)  # There is no other way to the trials.
        if not isinstance(experiment, Experiment):
            raise UsageError(
                "history_from_ax() takes an Ax client, an experiment of ax.core, or the path of a "
                f"client's JSON file, not {client!r}."
            )
        data = experiment.lookup_data().full_df
    notes = Notes()
    values, curves = _values(data, notes)
    described = experiment._properties.get(ax_client.KEY)  # noqa: SLF001
    goals = _Described(described) if described else _Goals(experiment, values, notes)
    observations, pending = [], []
    baseline: Observation | None = None
    for index, arm, status, error in _arms(experiment, notes):
        trial = experiment.trials[index]
        name = f"ax_{index}" if len(trial.arms) == 1 else f"ax_{arm.name}"
        treatment = Treatment(name, goals.point_of(arm.parameters))
        measured = goals.all_values(values.get((index, arm.name), {}), index)
        if status is None:
            pending.append(treatment)
            if measured:
                notes.add(f"The values so far of the pending trial {name!r} are left out.")
        else:
            noted = trial.run_metadata.get("status") if described else None
            if noted in [str(each) for each in Dropped]:
                notes.add("Suggestions that AxOptimizer discarded are left out.")
                continue
            curve = goals.curves(curves.get((index, arm.name), {}))
            if noted == BASELINE:
                treatment = treatment.named(BASELINE)
                baseline = _observation(treatment, trial, status, measured, curve, error)
                continue
            if noted is not None:
                status, measured, curve = Status(noted), {}, {}  # Ax has a stand-in for the values.
            observations.append(_observation(treatment, trial, status, measured, curve, error))
    return History(
        observations,
        goals.objectives,
        goals.constraints,
        space=goals.space,
        pending=pending,
        name=experiment.name if experiment.has_name else None,
        notes=notes.of_points(goals.space, observations),
        baseline=baseline,
    )


def _import_ax() -> Any:
    with needs("An Ax client needs", "ax", extra="ax"):
        from crystallize_opt.adapters.ax.optimizer import importing_ax
    with importing_ax():
        from crystallize_opt.adapters.ax import client as ax_client
    return ax_client


def _loaded(kind: Any, path: str) -> Any:
    try:
        return kind.load_from_json_file(path)
    except Exception as error:  # Ax raises errors of any type for a file of another kind.
        raise StorageError(
            f"{path!r} does not hold an Ax client as save_to_json_file writes it: {error!r}."
        ) from error


# Trials ------------------------------------------------------------------------------------------


def _arms(experiment: Any, notes: Notes) -> Iterator[tuple[int, Any, Status | None, str | None]]:
    """Yield trial, arm, status (None while it is pending) and error of every arm."""
    for index, trial in experiment.trials.items():
        if not trial.arms:
            notes.add(f"Trial {index} has no parameters yet, and is left out.")
        status, reason = _STATUSES.get(trial.status.name), trial.status_reason
        if trial.status.name == "STALE":
            reason = reason or "The trial never ran (STALE)."
        abandoned = {}
        if len(trial.arms) > 1:
            abandoned = {each.name: each.reason for each in trial.abandoned_arms_metadata}
            if len(set(trial.weights)) > 1:
                notes.add(f"The arms of trial {index} have weights, which are left out.")
        for arm in trial.arms:
            if arm.name in abandoned:
                yield index, arm, Status.ABANDONED, abandoned[arm.name]
            else:
                yield index, arm, status, reason


def _values(
    data: Any, notes: Notes
) -> tuple[
    dict[tuple[int, str], dict[str, tuple[float, float]]], dict[tuple[int, str], dict[str, Curve]]
]:
    """Return the values of each arm of each trial, of a curve the last; and the curves."""
    values: dict[tuple[int, str], dict[str, tuple[float, float]]] = {}
    last: dict[tuple[int, str, str], float] = {}
    curves: dict[tuple[int, str], dict[str, Curve]] = {}
    columns = ["trial_index", "arm_name", "metric_name", "mean", "sem"]
    steps = data["step"] if "step" in data else [math.nan] * len(data)
    for row, step in zip(data[columns].itertuples(index=False), steps, strict=True):
        key = (int(row.trial_index), row.arm_name)
        if step >= 0 and step == int(step):
            curve = curves.setdefault(key, {})
            curve[row.metric_name] = (
                *curve.get(row.metric_name, ()),
                (int(step), float(row.mean)),
            )
        elif not math.isnan(step):
            notes.add(f"Of {row.metric_name!r}, steps that are no whole numbers are left out.")
        if row.metric_name in values.setdefault(key, {}) and step < last[(*key, row.metric_name)]:
            continue
        values[key][row.metric_name] = (float(row.mean), float(row.sem))
        last[(*key, row.metric_name)] = step
    in_order = {
        key: {metric: tuple(sorted(curve)) for metric, curve in each.items()}
        for key, each in curves.items()
    }
    return values, in_order


def _observation(
    treatment: Treatment,
    trial: Any,
    status: Status,
    values: Values,
    curves: Curves,
    error: str | None,
) -> Observation:
    started, ended = trial.time_run_started, trial.time_completed
    duration = (ended - started).total_seconds() if started and ended else None
    began = started.timestamp() if started else None
    metrics = {metric: mean for metric, (mean, _) in values.items()}
    replicates: tuple[Replicate, ...] = ()
    if curves:
        # Nobody knows the seed, nor whether there were other replicates.
        replicates = (Replicate(0, None, metrics, status, error, None, began, duration, curves),)
    return Observation(
        treatment,
        metrics,
        status,
        {metric: None if math.isnan(sem) else sem for metric, (_, sem) in values.items()},
        replicates,
        error,
        started_at=began,
        duration=duration,
    )


# Objectives and outcome constraints --------------------------------------------------------------


class _Described:
    """The space, objectives and constraints of a client that `AxOptimizer` made."""

    def __init__(self, description: Mapping[str, Any]) -> None:
        from crystallize_opt.adapters.ax.metrics import AxMetrics
        from crystallize_opt.adapters.ax.space import AxSpace
        from crystallize_opt.space.positions import positions_in  # It needs numpy.

        space = space_of(description["space"])
        self.space: SearchSpace | None = space
        self.objectives = list(objectives_of(description))
        self.constraints = list(constraints_of(description))
        self._names = AxMetrics(self.objectives, self.constraints).names
        self._positions = None if space.region is None else positions_in(space)
        searched = space if self._positions is None else self._positions.space
        self._ax_space = AxSpace(searched.without_fidelity)
        fidelity = space.fidelity
        self._last_step = None if fidelity is None else LastStep("Ax", space, fidelity)

    def point_of(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        point = self._ax_space.decode(stored)
        if self._positions is not None:
            point = self._positions.decode(point)
        return point if self._last_step is None else self._last_step.added_to(point)

    def all_values(self, values: Values, index: int) -> Values:
        return {self._names[name]: value for name, value in values.items()}

    def curves(self, curves: Curves) -> Curves:
        return {self._names[name]: curve for name, curve in curves.items()}


class _Goals:
    """The space, objectives and outcome constraints of an Ax experiment.

    Attributes:
        space: The space, or None if `SearchSpace` cannot express it.
        objectives: The objectives.
        constraints: The outcome constraints, and the thresholds of objectives.
    """

    def __init__(
        self, experiment: Any, values: Mapping[tuple[int, str], Values], notes: Notes
    ) -> None:
        self.space = _space(experiment.search_space, notes)
        self.objectives: list[Objective] = []
        self.constraints: list[Constraint] = []
        self._sums: dict[str, Weights] = {}
        self._changes: dict[str, str] = {}  # The metric of a change in percent -> that of the value
        self._notes = notes
        self._derived = {
            name
            for name, each in experiment.search_space.parameters.items()
            if type(each).__name__ == "DerivedParameter"
        }
        baseline = experiment.status_quo and experiment.status_quo.name
        self._baselines = {index: v for (index, arm), v in values.items() if arm == baseline}
        config = experiment.optimization_config
        if config is None:
            notes.add("The client has no objective: configure_optimization was not called.")
            return
        for weights in config.objective._parsed[1]:  # noqa: SLF001  (metric_weights joins them)
            maximized = len(weights) > 1 or weights[0][1] > 0
            metric = self._metric_of(tuple(weights)) if len(weights) > 1 else weights[0][0]
            self.objectives.append(Objective(metric, "maximize" if maximized else "minimize"))
        for each in config.all_constraints:
            self._add(each)

    def point_of(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return the point of an arm, without derived parameters."""
        searched = {name: v for name, v in stored.items() if name not in self._derived}
        return point_of(self.space, searched)

    def _add(self, constraint: Any) -> None:
        names = constraint.metric_names
        weights = [weight for _, weight in constraint.metric_weights]
        metric = self._metric_of(tuple(zip(names, map(float, weights), strict=True)))
        if constraint.relative:
            change = self._change_of(metric, constraint)
            if change is None:
                return
            metric = change
        comparison: Comparison = "<=" if constraint.op.name == "LEQ" else ">="
        self.constraints.append(Constraint(metric, comparison, float(constraint.bound)))

    def _metric_of(self, weights: Weights) -> str:
        if len(weights) == 1 and weights[0][1] == 1.0:
            return weights[0][0]
        name = " + ".join(m if factor == 1.0 else f"{factor!r}*{m}" for m, factor in weights)
        self._sums[name] = weights
        self._notes.add(f"The metric {name!r} is computed, because Ax has it as a sum.")
        return name

    def _change_of(self, metric: str, constraint: Any) -> str | None:
        if not any(metric in self._with_sums(values) for values in self._baselines.values()):
            self._notes.add(
                f"The constraint {constraint.expression!r} is left out, because the baseline has "
                f"no value of {metric!r}."
            )
            return None
        name = f"{metric}, change from the baseline in %"
        self._changes[name] = metric
        self._notes.add(f"The metric {name!r} is computed, for {constraint.expression!r}.")
        return name

    def _with_sums(self, values: Values) -> dict[str, tuple[float, float]]:
        found = dict(values)
        for name, weights in self._sums.items():
            if all(metric in values for metric, _ in weights):
                total = math.fsum(factor * values[metric][0] for metric, factor in weights)
                found[name] = total, math.nan
        return found

    def curves(self, curves: Curves) -> Curves:
        """Return the learning curves of a trial by metric."""
        return curves

    def all_values(self, values: Values, index: int) -> Values:
        """Return the values of a trial with those that Ax computes from them."""
        found = self._with_sums(values)
        for name, metric in self._changes.items():
            known = [self._baselines.get(index), *self._baselines.values()]
            bases = [self._with_sums(each) for each in known if each is not None]
            base = next((each[metric][0] for each in bases if metric in each), math.nan)
            if metric in found:
                change = 100.0 * (found[metric][0] - base) / abs(base) if base else math.nan
                found[name] = change, math.nan
        return found


# The space ---------------------------------------------------------------------------------------


def _space(space: Any, notes: Notes) -> SearchSpace | None:
    try:
        parameters = {
            name: _parameter(each, notes)
            for name, each in space.parameters.items()
            if not _is_derived(each, notes)
        }
        for parent, each in space.parameters.items():
            for value, children in (each.dependents if each.is_hierarchical else {}).items():
                for child in children:
                    conditions = (*parameters[child].conditions, Condition(parent, (value,)))
                    parameters[child] = dataclasses.replace(  # type: ignore[type-var]
                        parameters[child], conditions=conditions
                    )
        return SearchSpace(parameters, _constraints(space.parameter_constraints, parameters, notes))
    except SpaceError as error:
        notes.add(f"The history has no space: {error}")
        return None


def _is_derived(parameter: Any, notes: Notes) -> bool:
    if type(parameter).__name__ != "DerivedParameter":
        return False
    notes.add(f"{parameter!r} is left out, because it follows from other parameters.")
    return True


def _parameter(parameter: Any, notes: Notes) -> Parameter:
    for flag in ("is_fidelity", "is_task", "logit_scale"):
        if getattr(parameter, flag, False):
            notes.add(f"The parameter {parameter.name!r} has {flag} in Ax, but not in the history.")
    kind = type(parameter).__name__
    if kind == "FixedParameter":
        return Constant(parameter.value)
    if kind == "ChoiceParameter":
        ordered = parameter.is_ordered and len(parameter.values) > 2
        return (Ordinal if ordered else Categorical)(parameter.values)
    number = Integer if parameter.parameter_type.name == "INT" else Float
    return number(parameter.lower, parameter.upper, log=bool(parameter.log_scale))


def _constraints(
    constraints: Iterable[Any], parameters: Mapping[str, Parameter], notes: Notes
) -> list[LinearConstraint]:
    found = []
    for each in constraints:
        factors = {name: float(factor) for name, factor in each.constraint_dict.items()}
        if not all(isinstance(parameters.get(name), (Float, Integer)) for name in factors):
            notes.add(f"{each!r} is left out: only Float and Integer can be constrained.")
            continue
        found.append(LinearConstraint(factors, float(each.bound)))
        if each.is_equality:
            opposite = {name: -factor for name, factor in factors.items()}
            found.append(LinearConstraint(opposite, -float(each.bound)))
    return found
