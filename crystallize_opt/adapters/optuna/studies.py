"""Reads Optuna studies into a `History`, and makes studies from one."""

from __future__ import annotations

import datetime as dt
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from crystallize_opt.errors import UsageError
from crystallize_opt.history.history import History
from crystallize_opt.runtime.extras import needs
from crystallize_opt.space.choices import Categorical, Constant, Ordinal
from crystallize_opt.space.numbers import Float, Integer
from crystallize_opt.space.parameter import Parameter, same_value
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.trials.objective import Direction, Objective
from crystallize_opt.trials.observation import Observation, Status
from crystallize_opt.trials.treatment import Treatment

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial


def history_from_optuna(
    study: optuna.Study | str, study_name: str | None = None, *, metrics: Sequence[str] = ()
) -> History:
    """Read an Optuna study (extra `optuna`).

    A pruned trial gets its last intermediate value. The history has no space if trials have
    different parameters or ranges.

    Args:
        study: The study, or the URL of its storage, such as `"sqlite:///studies.db"`.
        study_name: The study's name; not needed if the storage has only one study.
        metrics: Names for the objectives. Default: the study's metric names, or else `"value"`, or
            for several objectives `"value_0"`, `"value_1"`, and so on.

    Raises:
        UsageError: The number of metrics differs from the number of the study's objectives.
        MissingExtraError: Optuna is not installed.
    """
    if isinstance(study, str):
        study = _load(study, study_name)
    directions: list[Direction] = [
        "minimize" if each.name == "MINIMIZE" else "maximize" for each in study.directions
    ]
    names = list(metrics) or study.metric_names
    if not names:
        several = len(directions) > 1
        names = [f"value_{i}" for i in range(len(directions))] if several else ["value"]
    if len(names) != len(directions):
        raise UsageError(
            f"metrics= names the {len(directions)} objectives of the study, not {names!r}."
        )
    objectives = [Objective(n, d) for n, d in zip(names, directions, strict=True)]
    observations, pending = [], []
    trials = study.get_trials(deepcopy=False)
    for trial in trials:
        treatment = Treatment(f"optuna_{trial.number}", dict(trial.params))
        if trial.state.is_finished():
            observations.append(_observation(trial, treatment, names))
        else:
            pending.append(treatment)
    space = _space([trial.distributions for trial in trials])
    return History(observations, objectives, space=space, pending=pending, name=study.study_name)


def _load(url: str, study_name: str | None) -> optuna.Study:
    study: optuna.Study = _optuna().load_study(study_name=study_name, storage=url)
    return study


def _observation(trial: FrozenTrial, treatment: Treatment, names: Sequence[str]) -> Observation:
    status = {
        "COMPLETE": Status.COMPLETED,
        "PRUNED": Status.PRUNED,
        "FAIL": Status.FAILED,
    }[trial.state.name]
    values = trial.values
    if status is Status.PRUNED and values is None and trial.last_step is not None:
        values = [trial.intermediate_values[trial.last_step]]
    # OptunaOptimizer reports a failed trial in the form the sampler learns from, and stores the
    # true status as a user attribute.
    noted = trial.user_attrs.get("status")
    if noted in [str(each) for each in Status] and noted not in ("completed", str(status)):
        status, values = Status(noted), None
    started, ended = trial.datetime_start, trial.datetime_complete
    error = trial.user_attrs.get("error", trial.system_attrs.get("fail_reason"))
    return Observation(
        treatment,
        dict(zip(names, values, strict=True)) if values else {},
        status,
        error=None if error is None else str(error),
        started_at=started.timestamp() if started else None,
        duration=(ended - started).total_seconds() if started and ended else None,
    ).checked(names)


def _space(distributions: Sequence[Mapping[str, Any]]) -> SearchSpace | None:
    first = next(iter(distributions), {})
    if not first or any(dict(each) != dict(first) for each in distributions):
        return None
    return SearchSpace({name: _parameter(each) for name, each in first.items()})


def _parameter(distribution: Any) -> Parameter:
    if hasattr(distribution, "choices"):
        return Categorical(distribution.choices)
    number = Integer if type(distribution).__name__ == "IntDistribution" else Float
    step = distribution.step
    if number is Integer and step == 1:
        step = None
    return number(distribution.low, distribution.high, log=distribution.log, step=step)


def study_of(
    history: History, *, storage: Any = None, study_name: str | None = None
) -> optuna.Study:
    """Return a history of any backend as an Optuna study, for Optuna's plots and dashboard.

    Failed trials have the state FAIL. Status, error, standard errors and further metrics are user
    attributes. With a single objective, the replicates' values are intermediate values. Choices
    that Optuna cannot store become text; numbers that are off Optuna's grid are refused.

    Args:
        history: `optimizer.history`, `History.load(...)`, or a part of one.
        storage: An Optuna storage, or its URL. Default: in memory.
        study_name: The study's name. Default: the history's name.

    Raises:
        UsageError: The history has no objectives.
        MissingExtraError: Optuna is not installed.
    """
    library = _optuna()
    if not history.objectives:
        raise UsageError("A study needs objectives: History(..., objectives).")
    study: optuna.Study = library.create_study(
        storage=storage,
        study_name=study_name or history.name,
        directions=[each.direction for each in history.objectives],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", library.exceptions.ExperimentalWarning)
        study.set_metric_names([each.metric for each in history.objectives])
    space = history.space or _guessed_space(history)
    shown = {name: _Shown(parameter) for name, parameter in space.items()}
    highest = max(map(history.criterion.level, history.criterion.candidates(history)), default=0.0)
    for observation in history:
        study.add_trial(_trial(observation, history, shown, highest))
    for treatment in history.pending:
        study.add_trial(_create(treatment, shown, state=library.trial.TrialState.RUNNING))
    return study


class _Shown:
    """A parameter as a study shows it: choices as themselves, or as text if Optuna needs it.

    Attributes:
        distribution: Optuna's counterpart; None for a constant, which a study does not store.
    """

    def __init__(self, parameter: Parameter) -> None:
        from crystallize_opt.adapters.optuna.space import distribution_of, fits_optuna

        self._parameter = parameter
        self._labels: list[Any] | None = None
        if isinstance(parameter, (Categorical, Ordinal)):
            self._labels = list(parameter.choices)
            if not fits_optuna(parameter):
                self._labels = [f"{i}: {choice!r}" for i, choice in enumerate(parameter.choices)]
        is_constant = isinstance(parameter, Constant)
        self.distribution = None if is_constant else distribution_of(parameter, self._labels)

    def encode(self, value: Any) -> Any:
        if self._labels is not None and isinstance(self._parameter, (Categorical, Ordinal)):
            return self._labels[self._parameter.index(value)]
        return value


def _constraints(observation: Observation, history: History, highest: float) -> dict[str, float]:
    """Return what makes a completed trial a candidate, as constraints: none is above 0.

    Args:
        observation: The trial.
        history: The history that it belongs to.
        highest: The highest fidelity of a candidate.
    """
    found = {each.text: each.violation(observation[each.metric]) for each in history.constraints}
    if history.criterion.fidelity is not None:
        level = history.criterion.level(observation)
        found[f"{history.criterion.fidelity} >= {highest!r}"] = highest - level
    return found


def _trial(
    observation: Observation, history: History, shown: Mapping[str, _Shown], highest: float
) -> FrozenTrial:
    states = _optuna().trial.TrialState
    names = [each.metric for each in history.objectives]
    completed = observation.status is Status.COMPLETED
    values = [observation[name] for name in names] if completed else None
    intermediate = {}
    if len(names) == 1 and len(observation.replicates) > 1:
        known = [r for r in observation.replicates if names[0] in r]
        intermediate = {r.index: r[names[0]] for r in known}
    state = states.COMPLETE if completed else states.FAIL
    if observation.status is Status.PRUNED:
        state = states.PRUNED
        pruned_at = observation.metrics.get(names[0], math.nan)
        values = [pruned_at] if len(names) == 1 and math.isfinite(pruned_at) else None
    notes: dict[str, Any] = {"trial": observation.treatment.name, "status": str(observation.status)}
    if observation.error is not None:
        notes["error"] = observation.error
    for metric, value in observation.items():
        if metric not in names or not completed:
            notes[f"metrics.{metric}"] = value
    for metric, sem in observation.sem.items():
        if sem is not None:
            notes[f"sem.{metric}"] = sem
    trial = _create(
        observation.treatment,
        shown,
        state=state,
        values=values,
        user_attrs=notes,
        intermediate_values=intermediate,
        constraints=_constraints(observation, history, highest) if completed else None,
    )
    if observation.started_at is not None:
        trial.datetime_start = dt.datetime.fromtimestamp(observation.started_at)  # noqa: DTZ006  (as Optuna does)
        seconds = dt.timedelta(seconds=observation.duration or 0.0)
        trial.datetime_complete = trial.datetime_start + seconds
    return trial


def _create(treatment: Treatment, shown: Mapping[str, _Shown], **fields: Any) -> FrozenTrial:
    stored = {name: value for name, value in treatment.params.items() if shown[name].distribution}
    trial: FrozenTrial = _optuna().trial.create_trial(
        params={name: shown[name].encode(value) for name, value in stored.items()},
        distributions={name: shown[name].distribution for name in stored},
        **fields,
    )
    return trial


def _guessed_space(history: History) -> SearchSpace:
    """Return a space of ranges that cover the tried values, for a history without a space."""
    values: dict[str, list[Any]] = {}
    for treatment in [*(o.treatment for o in history), *history.pending]:
        for name, value in treatment.params.items():
            values.setdefault(name, []).append(value)
    return SearchSpace({name: _guessed(seen) for name, seen in values.items()})


def _guessed(values: Sequence[Any]) -> Parameter:
    kinds = {type(value) for value in values}
    if kinds == {int}:
        return Integer(min(values), max(values))
    if kinds <= {int, float} and all(map(math.isfinite, values)):
        return Float(min(values), max(values))
    different: list[Any] = []
    for value in values:
        if not any(same_value(value, seen) for seen in different):
            different.append(value)
    return Categorical(different)


def _optuna() -> Any:
    with needs("An Optuna study needs", "optuna", extra="optuna"):
        import optuna
    return optuna
