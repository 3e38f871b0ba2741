"""Writes a `History` as an Optuna study, which `studies.py` reads back exactly."""

from __future__ import annotations

import datetime as dt
import json
import math
import warnings
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from crystallize_opt.adapters.optuna.studies import KEY, POSITION, different, import_optuna
from crystallize_opt.errors import UsageError
from crystallize_opt.history.history import History
from crystallize_opt.optimizers.reports import heard_curve
from crystallize_opt.space.choices import Categorical, Constant, Ordinal
from crystallize_opt.space.numbers import Float, Integer
from crystallize_opt.space.parameter import Parameter
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.storage.description import describe_goals
from crystallize_opt.storage.records import TrialFormat, to_text, write_observation
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import Treatment

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

_MOST_EXACT = 2**53  # Optuna stores integers as floats.


def study_of(
    history: History, *, storage: Any = None, study_name: str | None = None
) -> optuna.Study:
    """Return a history of any backend as an Optuna study, for Optuna's plots and dashboard.

    Failed trials have the state FAIL, pending ones RUNNING. Constraints, and all else because of
    which a trial is not a candidate for the best (the fidelity, fewer replicates, a known outcome
    that is reported again), are Optuna's constraints, so that the study's best trials are the
    history's. Status, error, standard errors and further metrics are user attributes. With a single
    objective, its learning curve in the first replicate is the trial's intermediate values; without
    a curve, the replicates' values are. Each trial also has a record, from which
    `history_from_optuna` restores it exactly. The study's user attribute `notes` says what Optuna
    shows in another form: choices that it cannot store as text, integers beyond 2**53 as floats.

    If the storage has the study, the study is updated: new trials are added, running ones finished.
    For a live view, pass the same storage object and call this function again. Where another
    fidelity counts than before, trials of a race have more replicates, or Optuna would take
    another one of equally good trials for the best, the study is deleted and written anew, because
    Optuna cannot change finished trials.

    Args:
        history: `optimizer.history`, `History.load(...)`, or a part of one.
        storage: An Optuna storage, or its URL. Default: in memory.
        study_name: The study's name. Default: the history's name.

    Raises:
        UsageError: The history has no objectives; a trial cannot be written; or the storage has a
            study of that name with other trials or objectives.
        MissingExtraError: Optuna is not installed.
    """
    if not history.objectives:
        raise UsageError("A study needs objectives: History(..., objectives).")
    export = _Export(history)
    storage = import_optuna().storages.get_storage(storage)
    study = export.study_in(storage, study_name or history.name)
    known: dict[str, list[FrozenTrial]] = defaultdict(list)
    for trial in study.get_trials(deepcopy=False):
        if KEY in trial.system_attrs:
            known[_name_in(trial)].append(trial)
    if export.must_be_rewritten(known):
        import_optuna().delete_study(study_name=study.study_name, storage=storage)
        study, known = export.study_in(storage, study.study_name), {}
    finished = sum(each.state.is_finished() for some in known.values() for each in some)
    for trial in export.trials:
        earlier = known[_name_in(trial)].pop(0) if known.get(_name_in(trial)) else None
        is_new = earlier is None or not earlier.state.is_finished()
        if trial.state.is_finished() and is_new:
            # A trial that was running before has a lower number than those that finished earlier.
            trial.system_attrs[POSITION] = finished
            finished += 1
        if earlier is None:
            study.add_trial(trial)
            continue
        _refuse_another(study, earlier, trial)
        if trial.state.is_finished() and not earlier.state.is_finished():
            _finish(storage, earlier, trial)
    return study


class _Export:
    """A history as the trials of a study.

    Attributes:
        trials: The trials, told ones first.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._criterion = history.criterion.absolute  # A study has no place for a baseline.
        self._format = TrialFormat(history.space)
        space = history.space or _guessed_space(history)
        self._shown = {name: _Shown(name, parameter) for name, parameter in space.items()}
        self._has_repeats = any(each.repeats is not None for each in history)
        self._has_beaten = any(each.beaten_by is not None for each in history)
        candidates = history.criterion.candidates(history)
        self._most_replicates = max([len(o.replicates) for o in candidates if o.raced], default=0)
        self._level = history.criterion.level_that_counts(history) or 0.0
        self.trials = [self._trial(each) for each in history]
        running = import_optuna().trial.TrialState.RUNNING
        self.trials += [self._create(each, {}, state=running) for each in history.pending]

    def study_in(self, storage: Any, name: str | None) -> optuna.Study:
        """Return the study in a storage, which is made if needed.

        Raises:
            UsageError: The storage has a study of that name with other trials or objectives.
        """
        library, criterion = import_optuna(), self._criterion
        study: optuna.Study = library.create_study(
            storage=storage,
            study_name=name,
            directions=[each.direction for each in criterion.objectives],
            load_if_exists=True,
        )
        goals = json.loads(json.dumps(describe_goals(self._history.space, criterion)))
        known = study.user_attrs.get(KEY)
        if known is None and not study.get_trials(deepcopy=False):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", library.exceptions.ExperimentalWarning)
                study.set_metric_names([each.metric for each in criterion.objectives])
        elif known is None or {**known, **goals} != known:
            raise UsageError(
                f"The storage has a study {study.study_name!r} with another space, objectives or "
                "constraints. Give another study_name=."
            )
        notes = list(self._history.notes)
        if self._history.criterion.is_relative:
            notes.append(
                "Bounds relative to the baseline are values here, because a study has no baseline: "
                f"{', '.join(each.text for each in self._history.constraints)}."
            )
        if left_out := self._history.left_out:
            notes.append(
                f"{len(left_out)} trials that do not fit (history.left_out) are not in the study, "
                f"{left_out[0].treatment.name!r} for example."
            )
        described = {**goals, "notes": notes}
        if (baseline := self._history.baseline) is not None:
            written = TrialFormat(None).write_treatment(baseline.treatment)
            described["baseline"] = to_text(written | write_observation(baseline))
        study.set_user_attr(KEY, described)
        notes = [*notes, *(each.note for each in self._shown.values() if each.note)]
        if notes:
            study.set_user_attr("notes", notes)
        return study

    def must_be_rewritten(self, known: Mapping[str, Sequence[FrozenTrial]]) -> bool:
        """Whether finished trials are others now, by their fidelity or by growing in a race.

        Or whether Optuna would take another one of equally good trials for the best: the one with
        the lowest number, although it finished later.
        """
        best = [] if len(self._criterion.objectives) > 1 else self._criterion.front(self._history)
        found = [known.get(each.treatment.name) for each in best]
        numbers = [each[0].number if each else math.inf for each in found]
        if numbers and numbers[0] > min(numbers):
            return True
        pairs = [
            (new, earlier)
            for new in self.trials
            for earlier in known.get(_name_in(new), ())
            if earlier.state.is_finished()
        ]
        if self._most_replicates:
            return any(new.system_attrs[KEY] != old.system_attrs[KEY] for new, old in pairs)
        if self._criterion.fidelity is None:
            return False
        return any(
            new.constraints != old.constraints
            for new, old in pairs
            if old.system_attrs[KEY] == new.system_attrs[KEY]
        )

    def _trial(self, observation: Observation) -> FrozenTrial:
        states = import_optuna().trial.TrialState
        names = [each.metric for each in self._history.objectives]
        completed = observation.status is Status.COMPLETED
        values = [observation[name] for name in names] if completed else None
        intermediate = {}
        if curve := heard_curve(observation, names[0]) if len(names) == 1 else ():
            intermediate = dict(curve)
        elif len(names) == 1 and len(observation.replicates) > 1:
            known = [r for r in observation.replicates if names[0] in r]
            intermediate = {r.index: r[names[0]] for r in known}
        state = states.COMPLETE if completed else states.FAIL
        if observation.status is Status.PRUNED:
            state = states.PRUNED
            pruned_at = observation.metrics.get(names[0], math.nan)
            values = [pruned_at] if len(names) == 1 and math.isfinite(pruned_at) else None
        trial = self._create(
            observation.treatment,
            {"outcome": write_observation(observation)},
            state=state,
            values=values,
            user_attrs=_attributes_of(observation, names if completed else ()),
            intermediate_values=intermediate,
            constraints=self._constraints(observation) if completed else None,
        )
        if observation.started_at is not None:
            trial.datetime_start = dt.datetime.fromtimestamp(observation.started_at)  # noqa: DTZ006  (as Optuna does)
            seconds = dt.timedelta(seconds=observation.duration or 0.0)
            trial.datetime_complete = trial.datetime_start + seconds
        return trial

    def _constraints(self, observation: Observation) -> dict[str, float]:
        """Return what makes a completed trial a candidate, as constraints: none is above 0."""
        criterion = self._criterion
        found = criterion.violations(observation)
        if criterion.fidelity is not None:
            level = criterion.level(observation)
            found[f"{criterion.fidelity} == {self._level!r}"] = abs(self._level - level)
        if self._has_repeats:
            found["ran"] = float(observation.repeats is not None)
        if self._has_beaten:
            found["not beaten on common seeds"] = float(observation.beaten_by is not None)
        if self._most_replicates:
            lacks = self._most_replicates - len(observation.replicates)
            found["has the most replicates"] = float(lacks if observation.raced else 0)
        return found

    def _create(
        self,
        treatment: Treatment,
        outcome: Mapping[str, Any],
        *,
        user_attrs: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> FrozenTrial:
        try:
            params = {n: v for n, v in treatment.params.items() if self._shown[n].distribution}
            record = {"treatment": self._format.write_treatment(treatment), **outcome}
            trial: FrozenTrial = import_optuna().trial.create_trial(
                params={name: self._shown[name].encode(value) for name, value in params.items()},
                distributions={name: self._shown[name].distribution for name in params},
                user_attrs={"trial": treatment.name, **(user_attrs or {})},
                system_attrs={KEY: to_text(record)},
                **fields,
            )
        except (KeyError, OverflowError, ValueError) as error:
            raise UsageError(
                f"The trial {treatment.name!r} cannot be written to a study: {error!r}."
            ) from error
        return trial


def _attributes_of(observation: Observation, shown: Collection[str]) -> dict[str, Any]:
    """Return the user attributes of a trial, but for the metrics that its values show."""
    found: dict[str, Any] = {"status": str(observation.status)}
    for name in ("error", "repeats"):
        if (value := getattr(observation, name)) is not None:
            found[name] = value
    found |= {f"metrics.{m}": value for m, value in observation.items() if m not in shown}
    return found | {f"sem.{m}": sem for m, sem in observation.sem.items() if sem is not None}


class _Shown:
    """A parameter as a study shows it: choices as themselves, or as text if Optuna needs it.

    Attributes:
        distribution: Optuna's counterpart; None for a constant, which a study does not store.
        note: A sentence on what Optuna shows in another form, or None.
    """

    def __init__(self, name: str, parameter: Parameter) -> None:
        from crystallize_opt.adapters.optuna.space import distribution_of, fits_optuna, takes_grid

        self.note: str | None = None
        self._parameter = parameter
        self._labels: list[Any] | None = None
        self.distribution: Any = None
        self._kind: type[float] | None = None
        if isinstance(parameter, Constant):
            self.note = f"The constant {name!r} is {parameter.value!r}."
            return
        if isinstance(parameter, (Categorical, Ordinal)):
            self._labels = list(parameter.choices)
            if not fits_optuna(parameter):
                self._labels = [f"{i}: {choice!r}" for i, choice in enumerate(parameter.choices)]
                self.note = f"The choices of {name!r} are shown as text."
        elif isinstance(parameter, Integer) and max(-parameter.low, parameter.high) > _MOST_EXACT:
            self._kind = float
            self.note = f"The integers of {name!r} are shown as floats."
            parameter = Float(parameter.low, parameter.high, log=parameter.log)
        elif isinstance(parameter, Float) and not takes_grid(parameter):
            self.note = f"The grid of {name!r} is shown as a range: Optuna's rounding hides it."
            parameter = Float(parameter.low, parameter.high)
        self.distribution = distribution_of(parameter, self._labels)

    def encode(self, value: Any) -> Any:
        if self._labels is not None and isinstance(self._parameter, (Categorical, Ordinal)):
            return self._labels[self._parameter.index(value)]
        if isinstance(self._parameter, Float) and self._parameter.step is not None:
            # A backend may have rounded the highest value up, out of the range.
            value = self._parameter.value_at(self._parameter.index(value))
        return value if self._kind is None else self._kind(value)


def _name_in(trial: FrozenTrial) -> str:
    name: str = json.loads(trial.system_attrs[KEY])["treatment"]["name"]
    return name


def _refuse_another(study: optuna.Study, earlier: FrozenTrial, new: FrozenTrial) -> None:
    """Check that a trial of the study is the one that is written, or the running one before it."""
    known, record = (json.loads(trial.system_attrs[KEY]) for trial in (earlier, new))
    if known != record and (earlier.state.is_finished() or record != {**record, **known}):
        raise UsageError(
            f"The study {study.study_name!r} has another trial {_name_in(new)!r}, and Optuna "
            "cannot change a finished trial. Give another study_name=."
        )


def _finish(storage: Any, running: FrozenTrial, told: FrozenTrial) -> None:
    """Give a running trial the outcome of a told one."""
    number = running._trial_id  # noqa: SLF001  (`study.tell` takes no value of a pruned trial)
    for key, value in told.user_attrs.items():
        storage.set_trial_user_attr(number, key, value)
    for key, value in told.system_attrs.items():
        storage.set_trial_system_attr(number, key, value)
    for step, value in told.intermediate_values.items():
        storage.set_trial_intermediate_value(number, step, value)
    storage.set_trial_state_values(number, told.state, told.values)


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
    return Categorical(different(values))
