"""Studies as histories, and histories as studies: nothing is lost, or a note says what."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState

from crystallize_opt import (
    Categorical,
    Constraint,
    Float,
    History,
    Integer,
    Objective,
    Observation,
    Replicate,
    SearchSpace,
    Status,
    Treatment,
)
from crystallize_opt.adapters import OptunaOptimizer
from crystallize_opt.errors import StorageError, UsageError
from crystallize_opt.interchange import history_from_optuna, study_of
from crystallize_opt.storage.records import write_observation
from tests.adapters.parity import exactly
from tests.strategies import spaces

LOSS = Objective("loss", "minimize")
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def observation(name: str, params: dict[str, Any], rng: random.Random) -> Observation:
    """Return a trial of any status, with two replicates or none."""
    replicates = [
        Replicate(
            index,
            rng.randrange(2**60),
            {metric: rng.choice([0.0, rng.random()]) for metric in ("loss", "acc", "lag")},
            rng.choice([Status.COMPLETED, *Status]),
            error="why",
            started_at=1e9,
            duration=rng.random(),
        )
        for index in range(rng.choice([1, 2]))
    ]
    return Observation.of_replicates(Treatment(name, params), replicates)


def history_of(space: SearchSpace, seed: int, objectives: list[Objective]) -> History:
    rng = random.Random(seed)
    told = [observation(f"t_{number}", space.sample(rng), rng) for number in range(6)]
    pending = [Treatment("waiting", space.sample(rng))]
    constraints = [Constraint("lag", "<=", 0.7), Constraint("loss", ">=", 0.1)]
    return History(
        told, objectives, constraints, space=space, pending=pending, name="run", notes=["A note."]
    )


def as_data(history: History) -> list[Any]:
    """Return all that a history says of its trials."""
    return [
        exactly(t.params for t in [*(o.treatment for o in history), *history.pending]),
        [write_observation(each) for each in history],
        [each.name for each in history.pending],
    ]


def shown(study: optuna.Study) -> list[Any]:
    """Return what Optuna shows of the finished trials, whatever their times."""
    return [
        (t.state, t.params, t.distributions, t.values, t.user_attrs, t.constraints)
        for t in study.trials
        if t.state.is_finished()
    ]


@settings(max_examples=25, deadline=None)
@given(spaces(objects=False), st.integers(0, 999), st.booleans())
def test_a_history_comes_back_from_a_study_with_the_same_best(
    space: SearchSpace, seed: int, several: bool
) -> None:
    objectives = [LOSS, Objective("acc", "maximize")][: 1 + several]
    history = history_of(space, seed, objectives)

    study = study_of(history)
    back = history_from_optuna(study)

    assert as_data(back) == as_data(history)
    assert (back.space, back.objectives) == (history.space, history.objectives)
    assert (back.constraints, back.notes) == (history.constraints, history.notes)
    front = [each.treatment.name for each in history.pareto_front]
    if several:
        assert [trial.user_attrs["trial"] for trial in study.best_trials] == front
    elif front:
        assert study.best_trial.user_attrs["trial"] == front[0]
    else:
        with pytest.raises(ValueError, match="completed yet"):
            _ = study.best_trial


def test_an_exported_study_can_be_read_under_other_names() -> None:
    history = history_of(SearchSpace({"x": (0.0, 1.0)}), 2, [LOSS])
    study = study_of(history)

    back = history_from_optuna(study, metrics=["error"])

    assert back.best is not None
    assert back.best.treatment.params == study.best_trial.params
    assert back.best["error"] == study.best_value


def test_what_a_database_cannot_hold_is_kept_in_the_record(tmp_path: Path) -> None:
    choices = [None, math.nan, "", "\r", (1, 2), 1, True]
    space = SearchSpace({"k": Categorical(choices), "i": Integer(0, 2**63 - 1)})
    points = [{"k": k, "i": 2**63 - 1 - n} for n, k in enumerate(choices)]
    told = [Observation(Treatment(f"{n}", p), {"loss": 1.0}) for n, p in enumerate(points)]
    url = f"sqlite:///{tmp_path}/study.db"

    study = study_of(History(told, [LOSS], space=space), storage=url, study_name="s")
    back = history_from_optuna(url)

    assert exactly(o.treatment.params for o in back) == exactly(points)
    assert back.space == space
    assert study.user_attrs["notes"] == [
        "The choices of 'k' are shown as text.",
        "The integers of 'i' are shown as floats.",
    ]


def test_reading_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="There is no file"):
        history_from_optuna(f"sqlite:///{tmp_path}/missing.db")
    (tmp_path / "other.db").touch()
    with pytest.raises(StorageError, match="Cannot read a study from"):
        history_from_optuna(f"sqlite:///{tmp_path}/other.db")
    assert [each.name for each in tmp_path.iterdir()] == ["other.db"]
    assert (tmp_path / "other.db").stat().st_size == 0


@pytest.mark.parametrize("stored", [False, True])
def test_exporting_again_updates_the_study(stored: bool, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/live.db" if stored else None
    storage = optuna.storages.get_storage(url)
    space = SearchSpace({"x": (0.0, 1.0), "k": ["a", None]})
    history = history_of(space, 3, [LOSS])
    told = list(history)
    for count in range(0, len(told) + 1, 2):
        running = [each.treatment for each in told[count : count + 2]]
        part = History(told[:count], [LOSS], history.constraints, space=space, pending=running)
        study = study_of(part, storage=storage, study_name="live")
        states = [trial.state.is_finished() for trial in study.trials]
        assert states == [True] * count + [False] * len(running)

    whole = History(told, [LOSS], history.constraints, space=space)
    assert shown(study) == shown(study_of(whole))
    assert as_data(history_from_optuna(study)) == as_data(whole)
    told[0] = observation("t_0", space.sample(99), random.Random(99))
    with pytest.raises(UsageError, match="has another trial 't_0'"):
        study_of(
            History(told, [LOSS], history.constraints, space=space),
            storage=storage,
            study_name="live",
        )
    with pytest.raises(UsageError, match="another space, objectives or constraints"):
        study_of(History(told, [LOSS], space=space), storage=storage, study_name="live")


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_an_updated_study_has_the_order_and_the_best_of_the_history(data: st.DataObject) -> None:
    """In whatever order running trials finish, also if some of them are equally good."""
    space = SearchSpace({"x": (0.0, 1.0)})
    treatments = [Treatment(f"t_{number}", {"x": number / 8}) for number in range(6)]
    order = data.draw(st.permutations(treatments[1:]))
    losses = data.draw(st.lists(st.sampled_from([1.0, 2.0]), min_size=5, max_size=5))
    told = [Observation(t, {"loss": loss}) for t, loss in zip(order, losses, strict=True)]
    storage = optuna.storages.RDBStorage("sqlite://")
    for count in [*sorted(data.draw(st.sets(st.integers(0, 4), max_size=3))), 5]:
        running = [t for t in treatments if t not in order[:count]]
        part = History(told[:count], [LOSS], space=space, pending=running, name="run")
        study = study_of(part, storage=storage)
        back = history_from_optuna(study)

        assert as_data(back)[1] == as_data(part)[1]
        if part.best is not None:
            assert back.best == part.best
            assert study.best_trial.user_attrs["trial"] == part.best.treatment.name


@pytest.mark.parametrize("several", [False, True])
def test_a_known_outcome_that_is_reported_again_is_none_of_the_best(several: bool) -> None:
    objectives = [LOSS, Objective("acc", "maximize")][: 1 + several]
    points = [Treatment(f"t_{number}", {"x": x}) for number, x in enumerate([1, 2, 1])]
    first = Observation(points[0], {"loss": 0.0, "acc": 0.0})
    second = Observation(points[1], {"loss": 1.0, "acc": 1.0})
    told = [first, second, first.repeated_by(points[2])]
    history = History(told, objectives, space=SearchSpace({"x": [1, 2]}), name="run")

    study = study_of(history)

    front = [each.treatment.name for each in history.pareto_front]
    assert [trial.user_attrs["trial"] for trial in study.best_trials] == front
    assert study.trials[2].user_attrs["repeats"] == "t_0"
    assert as_data(history_from_optuna(study)) == as_data(history)


def test_the_baseline_comes_back_and_what_was_left_out_is_noted(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    point = {"x": 0.25, "k": (1, math.nan)}
    baseline = observation("base", point, random.Random(1))
    baseline = Observation(baseline.treatment, {"loss": 2.0, "acc": math.inf}, sem={"loss": 0.5})
    other = Observation(Treatment("other", {"u": 0.5}), {"lag": 1.0})
    history = History(
        [Observation(Treatment("t", {"x": 0.5}), {"loss": 1.0})],
        [LOSS],
        [Constraint("loss", "<=", 5.0, relative_to_baseline=True)],
        space=SearchSpace({"x": (0.0, 1.0)}),
        baseline=baseline,
        left_out=[other],
    )

    back = history_from_optuna(study_of(history, storage=url))

    assert back.baseline is not None
    assert write_observation(back.baseline) == write_observation(baseline)
    assert exactly([back.baseline.treatment.params]) == exactly([point])
    assert back.notes[-1].startswith("1 trials that do not fit (history.left_out) are not in the")
    assert "'other'" in back.notes[-1]


def foreign(**attributes: Any) -> optuna.Study:
    """Return a study of another program with one trial."""
    study = optuna.create_study()
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    for key, each in attributes.items():
        trial.set_user_attr(key, each)
    study.tell(trial, 1.0)
    return study


@pytest.mark.parametrize("status", ["failed", "pruned", "done", ["a"], {"a": 1}])
def test_attributes_of_others_change_no_outcome(status: Any) -> None:
    history = history_from_optuna(foreign(status=status, error="none", huge=10**400, value=7))

    (told,) = history
    assert (told.status, told.error, dict(told)) == (Status.COMPLETED, None, {"value": 1.0})
    assert history.notes == [
        "The user attribute 'status' of trials is left out: no number.",
        "The user attribute 'error' of trials is left out: no number.",
        "The user attribute 'huge' of trials is left out: no number.",
        "The user attribute 'value' of trials is left out: an objective has that name.",
    ]
    (told,) = history_from_optuna(foreign(status=3, error=0.25))
    assert dict(told) == {"status": 3.0, "error": 0.25, "value": 1.0}
    assert told.error is None


def test_a_pruned_trial_takes_no_attribute_for_its_value() -> None:
    study = optuna.create_study()
    trial = study.ask()
    trial.set_user_attr("value", 0.125)
    study.tell(trial, state=TrialState.PRUNED)

    (told,) = history_from_optuna(study)
    assert (told.status, dict(told)) == (Status.PRUNED, {})


def test_objectives_of_one_name_are_refused() -> None:
    study = optuna.create_study(directions=["minimize", "maximize"])
    study.set_metric_names(["a", "a"])
    trial = study.ask()
    study.tell(trial, [1.0, 2.0])

    with pytest.raises(UsageError, match="equal names, \\['a', 'a'\\]"):
        history_from_optuna(study)
    (told,) = history_from_optuna(study, metrics=["value_0", "value_1"])
    assert dict(told) == {"value_0": 1.0, "value_1": 2.0}


@pytest.mark.parametrize("turned", [False, True])
def test_distributions_that_differ_give_all_choices_or_no_space(turned: bool) -> None:
    def read(*given: tuple[Any, Any]) -> History:
        study = optuna.create_study()
        for value, distribution in given[::-1] if turned else given:
            study.add_trial(
                optuna.trial.create_trial(
                    params={"x": value}, distributions={"x": distribution}, value=1.0
                )
            )
        return history_from_optuna(study)

    one, other = (optuna.distributions.CategoricalDistribution(["a", c]) for c in "bc")
    history = read(("b", one), ("c", other))
    assert history.space is not None
    assert set(history.space["x"].choices) == {"a", "b", "c"}  # type: ignore[attr-defined]
    assert history.notes == ["The choices of 'x' are those of all trials, which differ."]
    history = read((0.5, optuna.distributions.FloatDistribution(0, 1)), ("c", other))
    assert history.space is None
    assert history.notes == [
        "The history has no space: the distribution of 'x' differs between trials."
    ]


def test_a_study_of_somebody_else_is_not_written_to() -> None:
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(storage=storage, study_name="mine")
    study.tell(study.ask(), 1.0)
    history = history_of(SearchSpace({"x": (0.0, 1.0)}), 0, [LOSS])
    with pytest.raises(UsageError, match="Give another study_name="):
        study_of(history, storage=storage, study_name="mine")
    assert len(study.trials) == 1


def test_only_one_fidelity_is_best_also_where_another_one_counts_later() -> None:
    storage = optuna.storages.InMemoryStorage()
    space = SearchSpace({"x": (0.0, 1.0), "epochs": Integer(1, 9, fidelity=True)})
    told = []
    for number, epochs in enumerate([9, 1, 1, 3, 3, 9]):
        treatment = Treatment(f"t_{number}", {"x": 0.5, "epochs": epochs})
        told.append(Observation(treatment, {"loss": float(number)}))
        history = History(told, [LOSS], space=space)
        study = study_of(history, storage=storage, study_name="live")
        assert history.best is not None
        assert study.best_trial.user_attrs["trial"] == history.best.treatment.name
        assert len(study.trials) == len(told)
        assert history_from_optuna(study).criterion == history.criterion


def test_a_trial_that_optuna_cannot_hold_is_refused_by_name() -> None:
    trial = Observation(Treatment("t_7", {"x": 3.0}), {"loss": 1.0})
    with pytest.raises(UsageError, match="'t_7' cannot be written"):
        study_of(History([trial], [LOSS], space=SearchSpace({"x": (0.0, 1.0)})))


# Studies of other programs --------------------------------------------------------------------


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("old", [False, True])
def test_constraints_decide_which_trial_is_the_best(several: bool, old: bool) -> None:
    rng = random.Random(0)
    study = optuna.create_study(directions=["minimize"] * (1 + several))
    for _ in range(12):
        x = rng.random()
        constraints = {"value": 0.5 - x, "heat": x - 0.9}
        study.add_trial(
            optuna.create_trial(
                params={"x": x},
                distributions={"x": optuna.distributions.FloatDistribution(0, 1)},
                values=[x, -x][: 1 + several],
                constraints=None if old else constraints,
                system_attrs={"constraints": list(constraints.values())} if old else None,
            )
        )

    history = history_from_optuna(study)

    assert [o.treatment.params for o in history.pareto_front] == [
        trial.params for trial in study.best_trials
    ]
    assert len(history.pareto_front) < 12
    assert study_of(history).best_trials[0].params == study.best_trials[0].params


def test_a_trial_without_constraints_is_feasible_and_infinity_is_invalid() -> None:
    study = optuna.create_study()
    for number, value in enumerate([3.0, 2.0, -math.inf]):
        trial = study.ask()
        if number == 0:
            trial.set_constraint("c", -1.0)
        study.tell(trial, value)

    history = history_from_optuna(study)

    assert [str(o.status) for o in history] == ["completed", "completed", "invalid"]
    assert history.best is history[1]
    assert "Trials without 'constraint c' have 0 there: feasible." in history.notes
    assert any("'optuna_2' as complete" in note for note in history.notes)


def test_trials_without_parameters_leave_the_space() -> None:
    study = optuna.create_study()
    study.tell(study.ask(), state=TrialState.FAIL)
    trial = study.ask()
    trial.suggest_float("x", 0.0, 1.0)
    trial.suggest_categorical("k", [None, math.nan, "", "\r", True, 1])
    trial.set_user_attr("accuracy", 0.5)
    trial.set_user_attr("host", "here")
    study.tell(trial, 1.0)
    failed = study.ask()
    failed.suggest_float("x", 0.0, 1.0)
    study.tell(failed, state=TrialState.FAIL)
    study.ask()
    study.enqueue_trial({"x": 0.25})

    history = history_from_optuna(study)

    assert history.space == SearchSpace(
        {"x": (0.0, 1.0), "k": Categorical([None, math.nan, "", "\r", True, 1])}
    )
    assert [dict(t.params) for t in history.pending] == [{}, {"x": 0.25}]
    assert history[1]["accuracy"] == 0.5
    notes = " ".join(history.notes)
    assert "The enqueued trial 'optuna_4' is pending." in notes
    assert "The user attribute 'host' of trials is left out" in notes


def test_the_space_is_unknown_where_parameters_depend_on_others() -> None:
    study = optuna.create_study()
    for kind in ("a", "b", "b"):
        study.enqueue_trial({"kind": kind})
        trial = study.ask()
        if trial.suggest_categorical("kind", ["a", "b"]) == "b":
            trial.suggest_int("n", 1, 5)
        study.tell(trial, 1.0)

    history = history_from_optuna(study)

    assert history.space is None
    assert "only some completed trials have ['n']" in history.notes[0]


def test_a_range_that_changes_is_the_widest() -> None:
    study = optuna.create_study()
    for high in (1.0, 2.0, 1.5):
        trial = study.ask()
        trial.suggest_float("x", high - 1.0, high)
        study.tell(trial, 1.0)

    history = history_from_optuna(study)

    assert history.space == SearchSpace({"x": Float(0.0, 2.0)})
    assert history.notes == ["The range of 'x' is the widest, because it differs between trials."]


def test_the_study_of_an_optimizer_has_the_trials_of_its_search() -> None:
    space = SearchSpace({"a": (0.0, 1.0), "b": (0.0, 1.0)}, ["a + b <= 0.8"])
    optimizer = OptunaOptimizer(space, LOSS, constraints=[Constraint("lag", "<=", 0.5)], seed=0)
    for treatment in optimizer.ask(8):
        a = treatment.params["a"]
        optimizer.tell(Observation(treatment, {"loss": a, "lag": 1.0 - a}))
    assert len(optimizer.study.trials) > 8

    history = history_from_optuna(optimizer.study, metrics=["loss"])

    assert [o.treatment.params for o in history] == [
        o.treatment.params for o in optimizer.observations
    ]
    assert history.best is not None
    assert history.best.treatment.params == optimizer.get_best_treatment().params
    assert "study of an OptunaOptimizer" in history.notes[0]


# Learning curves --------------------------------------------------------------------------------


def test_an_exported_study_has_the_curves_as_intermediate_values(tmp_path: Path) -> None:
    curve = ((0, 0.9), (3, math.nan), (2, 0.5))
    first = Replicate(0, 1, {"loss": 0.5}, curves={"loss": curve, "accuracy": ((0, 0.1),)})
    second = Replicate(1, 2, {"loss": 3.0})
    pruned = Replicate(0, 1, {"loss": 0.9}, Status.PRUNED, curves={"loss": ((0, 0.9),)})
    told = [
        Observation.of_replicates(Treatment("t_0", {"x": 0.1}), [first, second]),
        Observation.of_replicates(Treatment("t_1", {"x": 0.2}), [pruned]),
    ]
    history = History(told, [LOSS], space=SearchSpace({"x": (0.0, 1.0)}))

    study = study_of(history, storage=f"sqlite:///{tmp_path}/study.db", study_name="s")

    shown = [trial.intermediate_values for trial in study.trials]
    assert repr(shown) in (repr([dict(curve), {0: 0.9}]), repr([dict(sorted(curve)), {0: 0.9}]))
    assert [(t.state, t.value) for t in study.trials] == [
        (TrialState.COMPLETE, 1.75),
        (TrialState.PRUNED, 0.9),
    ]
    back = history_from_optuna(study)
    assert repr(back[0].replicates[0].curves) == repr(first.curves)
    assert as_data(back) == as_data(history)


def test_intermediate_values_of_any_study_are_curves() -> None:
    study = optuna.create_study(
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=optuna.pruners.ThresholdPruner(upper=0.9),
    )

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0.0, 1.0)
        for step in range(0, 6, 2):
            trial.report(math.nan if x > 0.95 else x + step / 10, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return x

    study.optimize(objective, n_trials=40)
    history = history_from_optuna(study, metrics=["loss"])

    assert {each.status for each in history} == {Status.COMPLETED, Status.PRUNED}
    for observation, trial in zip(history, study.trials, strict=True):
        (replicate,) = observation.replicates
        assert repr(dict(replicate.curves["loss"])) == repr(trial.intermediate_values)
        assert observation.metrics.get("loss") == trial.value
        assert replicate.seed is None
    assert history.notes == []
    # Another pruner sees the values of the study.
    optimizer = OptunaOptimizer(
        {"x": (0.0, 1.0)}, LOSS, seed=0, pruner=optuna.pruners.ThresholdPruner(upper=0.9)
    )
    optimizer.attach(history)
    assert repr([t.intermediate_values for t in optimizer.study.trials]) == repr(
        [t.intermediate_values for t in study.trials]
    )
