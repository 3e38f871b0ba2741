"""Reads Optuna studies into a `History`; `export.py` writes them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from crystallize_opt.errors import CrystallizeOptError, StorageError, UsageError
from crystallize_opt.history.foreign import Notes, point_of
from crystallize_opt.history.history import History
from crystallize_opt.optimizers.unique import Dropped
from crystallize_opt.runtime.extras import needs
from crystallize_opt.space.choices import Categorical
from crystallize_opt.space.numbers import Float, Integer
from crystallize_opt.space.parameter import Parameter, same_value
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.storage.description import (
    constraints_of,
    objectives_of,
    space_of,
)
from crystallize_opt.storage.records import TrialFormat, read_observation
from crystallize_opt.trials.curves import last_value
from crystallize_opt.trials.objective import Constraint, Direction, Objective
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.replicate import Replicate
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import Treatment
from crystallize_opt.trials.values import as_number

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

STUDY_NAME = "crystallize-opt"
"""The name of the study of an `OptunaOptimizer`. Hyperband draws its brackets from a hash of it."""

KEY = "crystallize_opt"
"""The attribute of the description of an exported study, and of the record of its trials."""


POSITION = "crystallize_opt:position"
"""The attribute with the position of a finished trial among those of an exported study."""


def history_from_optuna(
    study: optuna.Study | str, study_name: str | None = None, *, metrics: Sequence[str] = ()
) -> History:
    """Read an Optuna study (extra `optuna`).

    A study that `study_of` wrote gives the history that was written. In any other study, a
    constraint becomes a metric, `"constraint <name>"`, that is feasible at 0 or below; a user
    attribute that is a number becomes a metric; intermediate values become the learning curve of
    the objective; and a pruned trial gets its last intermediate value. Enqueued and running trials
    are pending. `notes` lists what the history leaves out.

    Args:
        study: The study, or the URL of its storage, such as `"sqlite:///studies.db"`, which is
            only read.
        study_name: The study's name; not needed if the storage has only one study.
        metrics: Names for the objectives. Default: the study's metric names, or else `"value"`, or
            for several objectives `"value_0"`, `"value_1"`, and so on.

    Raises:
        UsageError: The number of metrics differs from the number of the study's objectives, or two
            metrics have the same name.
        StorageError: There is no such study.
        MissingExtraError: Optuna is not installed.
    """
    if isinstance(study, str):
        study = _load(study, study_name)
    trials = study.get_trials(deepcopy=False)
    trials.sort(key=lambda trial: trial.system_attrs.get(POSITION, trial.number))
    notes = Notes()
    described = None if metrics else study.user_attrs.get(KEY)
    baseline = None
    if described:
        if "baseline" in described:
            baseline = _baseline(json.loads(described["baseline"]))
        objectives, constraints = objectives_of(described), constraints_of(described)
        space = described["space"] and space_of(described["space"])
        for note in described["notes"]:
            notes.add(note)
    else:
        objectives = tuple(_objectives(study, metrics))
        keys = dict.fromkeys(key for trial in trials for key in trial.constraints)
        constraints = tuple(Constraint(_metric_of(key), "<=", 0.0) for key in keys)
        space = _space(trials, notes)
        if study.study_name == STUDY_NAME:
            notes.add(
                "This is the study of an OptunaOptimizer, where choices may be indices: "
                "`optimizer.history` has them. Suggestions that it discarded are left out."
            )
        if study.user_attrs:
            notes.add(f"The user attributes of the study are left out: {study.user_attrs!r}.")
    is_ours = study.study_name == STUDY_NAME or KEY in study.user_attrs
    reader = _Reader(
        space, objectives, constraints, notes, exported=bool(described), is_ours=is_ours
    )
    observations: list[Observation] = []
    pending: list[Treatment] = []
    for trial in trials:
        if study.study_name == STUDY_NAME and trial.user_attrs.get("status") in _DISCARDED:
            continue
        treatment = reader.treatment_of(trial)
        if trial.state.is_finished():
            observations.append(reader.observation_of(trial, treatment))
        else:
            pending.append(treatment)
    return History(
        observations,
        objectives,
        constraints,
        space=space,
        pending=pending,
        name=study.study_name,
        baseline=baseline,
        notes=notes.of_points(space, observations),
    )


def _baseline(data: dict[str, Any]) -> Observation:
    return read_observation(data, TrialFormat(None).read_treatment(data))


def _load(url: str, study_name: str | None) -> optuna.Study:
    """Load a study without writing: Optuna would make a missing file, and missing tables."""
    library = import_optuna()
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    address = make_url(url)
    path = address.database
    if address.drivername.startswith("sqlite") and path:
        if not Path(path).is_file():
            raise StorageError(f"There is no file {path!r} to read a study from.")
        url = f"sqlite:///file:{quote(str(Path(path).absolute()))}?mode=ro&uri=true"
    try:
        storage = library.storages.RDBStorage(url, skip_table_creation=True)
        study: optuna.Study = library.load_study(study_name=study_name, storage=storage)
    except (
        SQLAlchemyError,
        library.exceptions.StorageInternalError,
        LookupError,
        RuntimeError,
        ValueError,
    ) as error:
        which = "a study" if study_name is None else f"the study {study_name!r}"
        raise StorageError(f"Cannot read {which} from {address}: {error}") from error
    return study


def _objectives(study: optuna.Study, metrics: Sequence[str]) -> list[Objective]:
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
    if len(set(names)) < len(names):
        raise UsageError(
            f"The objectives of the study have equal names, {names!r}. Give each its own: metrics="
            f"{[f'value_{i}' for i in range(len(names))]!r}, for example."
        )
    return [Objective(n, d) for n, d in zip(names, directions, strict=True)]


def _metric_of(constraint: str) -> str:
    # Not the bare name: a metric of that name may be what the constraint was computed from.
    return f"constraint {constraint}"


class _Reader:
    """Reads the trials of a study; a trial that `study_of` wrote, from its record."""

    def __init__(
        self,
        space: SearchSpace | None,
        objectives: Sequence[Objective],
        constraints: Sequence[Constraint],
        notes: Notes,
        *,
        exported: bool,
        is_ours: bool,
    ) -> None:
        self._space = space
        # What this package says of a trial; in another study they are attributes like others.
        self._ours = ("status", "error") if is_ours else ()
        self._exported = exported
        self._format = TrialFormat(space)
        self._objectives = [each.metric for each in objectives]
        self._required = [*self._objectives, *(each.metric for each in constraints)]
        self._notes = notes

    def treatment_of(self, trial: FrozenTrial) -> Treatment:
        if KEY in trial.system_attrs:
            return self._format.read_treatment(json.loads(trial.system_attrs[KEY])["treatment"])
        name = f"optuna_{trial.number}"
        fixed = trial.system_attrs.get("fixed_params", {}) if not trial.state.is_finished() else {}
        if trial.state.name == "WAITING":
            self._notes.add(f"The enqueued trial {name!r} is pending.")
        return Treatment(name, point_of(self._space, {**fixed, **trial.params}))

    def observation_of(self, trial: FrozenTrial, treatment: Treatment) -> Observation:
        record = json.loads(trial.system_attrs.get(KEY, "{}"))
        if self._exported and "outcome" in record:
            return read_observation(record["outcome"], treatment)
        status = _STATUSES[trial.state.name]
        values = trial.values
        curve = tuple(sorted(trial.intermediate_values.items()))
        if status is Status.PRUNED and values is None:
            values = None if (last := last_value(curve)) is None else [last]
        # OptunaOptimizer reports a failed trial in the form the sampler learns from, and stores the
        # true status as a user attribute.
        ours = {key: trial.user_attrs[key] for key in self._ours if key in trial.user_attrs}
        noted = ours.get("status")
        if noted in [str(each) for each in Status] and noted not in ("completed", str(status)):
            status, values = Status(noted), None
        started, ended = trial.datetime_start, trial.datetime_complete
        error = ours.get("error", trial.system_attrs.get("fail_reason"))
        metrics = dict(zip(self._objectives, values, strict=True)) if values else {}
        metrics = {**self._attributes(trial), **self._violations(trial, status), **metrics}
        text = None if error is None else str(error)
        began = started.timestamp() if started else None
        duration = (ended - started).total_seconds() if started and ended else None
        replicates: tuple[Replicate, ...] = ()
        if curve:
            curves = {self._objectives[0]: curve}
            # Nobody knows the seed, nor whether there were other replicates.
            once = Replicate(0, None, metrics, status, text, None, began, duration, curves)
            replicates = (once,)
        observation = Observation(
            treatment,
            metrics,
            status,
            dict.fromkeys(metrics) if replicates else {},
            replicates,
            error=text,
            started_at=began,
            duration=duration,
        ).checked(self._required)
        if observation.status is not status:
            self._notes.add(
                f"Optuna has {treatment.name!r} as complete, the history as invalid: "
                f"{observation.error}"
            )
        return observation

    def _violations(self, trial: FrozenTrial, status: Status) -> dict[str, float]:
        found = {_metric_of(key): v for key, v in trial.constraints.items()}
        if status is Status.COMPLETED:
            for metric in self._required[len(self._objectives) :]:
                if metric not in found:
                    # Optuna takes a trial without a constraint for feasible.
                    found[metric] = 0.0
                    self._notes.add(f"Trials without {metric!r} have 0 there: feasible.")
        return found

    def _attributes(self, trial: FrozenTrial) -> dict[str, float]:
        """Return the user attributes that are numbers."""
        numbers = {}
        for key, value in trial.user_attrs.items():
            number = as_number(value) if type(value) in (int, float) else None
            if key in self._objectives:
                self._notes.add(
                    f"The user attribute {key!r} of trials is left out: an objective has that name."
                )
            elif number is not None:
                numbers[key] = number
            elif key not in self._ours:
                self._notes.add(f"The user attribute {key!r} of trials is left out: no number.")
        return numbers


_DISCARDED = [str(each) for each in Dropped]
_STATUSES = {"COMPLETE": Status.COMPLETED, "PRUNED": Status.PRUNED, "FAIL": Status.FAILED}


def _space(trials: Sequence[FrozenTrial], notes: Notes) -> SearchSpace | None:
    """Return the space of the parameters that trials have; None if it cannot be known."""
    found: dict[str, dict[str, Any]] = {}
    for trial in sorted(trials, key=lambda each: -len(each.distributions)):
        for name, distribution in trial.distributions.items():
            found.setdefault(name, {})[repr(distribution)] = distribution
    lacking = {
        name
        for trial in trials
        for name in found.keys() - trial.distributions.keys()
        if trial.state.name == "COMPLETE"
    }
    if lacking:
        notes.add(
            f"The history has no space: only some completed trials have {sorted(lacking)!r}, and a "
            "study does not store under which conditions."
        )
    try:
        parameters = {name: _parameter(name, each, notes) for name, each in found.items()}
    except CrystallizeOptError as error:
        notes.add(f"The history has no space: {error}")
        return None
    return None if lacking or not found else SearchSpace(parameters)


def _parameter(name: str, distributions: Mapping[str, Any], notes: Notes) -> Parameter:
    """Return the parameter that holds all distributions of one name."""
    first, *others = distributions.values()
    if len({type(each) for each in distributions.values()}) > 1:
        raise UsageError(f"the distribution of {name!r} differs between trials.")
    if hasattr(first, "choices"):
        if others:
            notes.add(f"The choices of {name!r} are those of all trials, which differ.")
        return Categorical(different(c for each in distributions.values() for c in each.choices))
    kinds = {(each.log, each.step) for each in (first, *others)}
    low = min(each.low for each in (first, *others))
    high = max(each.high for each in (first, *others))
    if others:
        notes.add(f"The range of {name!r} is the widest, because it differs between trials.")
    number = Integer if type(first).__name__ == "IntDistribution" else Float
    step = None if number is Integer and first.step == 1 else first.step
    if len(kinds) > 1 or (others and step is not None):
        raise UsageError(f"the distribution of {name!r} differs between trials.")
    return number(low, high, log=first.log, step=step)


def different(values: Iterable[Any]) -> list[Any]:
    """Return the different values, in order."""
    found: list[Any] = []
    for value in values:
        if not any(same_value(value, seen) for seen in found):
            found.append(value)
    return found


def import_optuna() -> Any:
    """Return the module `optuna`, or say how to install it."""
    with needs("An Optuna study needs", "optuna", extra="optuna"):
        import optuna
    return optuna
