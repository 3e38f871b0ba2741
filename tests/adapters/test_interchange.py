"""Runs of the backends' own become a `History`; a `History` becomes an Optuna study."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest

from crystallize_opt import (
    Categorical,
    Constant,
    Constraint,
    Float,
    History,
    Integer,
    Objective,
    Observation,
    Ordinal,
    SearchSpace,
    Status,
    Treatment,
)
from crystallize_opt.adapters import OptunaOptimizer, RandomOptimizer
from crystallize_opt.errors import StorageError, UsageError
from crystallize_opt.interchange import (
    history_from_ax,
    history_from_optuna,
    history_from_smac,
    study_of,
)
from tests.recording.killed_runs import SPACE
from tests.toy import experiment_of

LOSS = Objective("loss", "minimize")


def native_study(storage: str | None) -> optuna.Study:
    study = optuna.create_study(study_name="mine", storage=storage, direction="maximize")
    for number in range(6):
        trial = study.ask()
        x = trial.suggest_float("x", 1e-3, 1.0, log=True)
        trial.suggest_int("n", 1, 9, step=2)
        trial.suggest_categorical("k", ["a", None, True])
        if number == 2:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        elif number == 3:
            trial.report(0.25, 0)
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        elif number < 5:
            study.tell(trial, x)
    return study


@pytest.mark.parametrize("stored", [True, False])
def test_an_optuna_study_becomes_a_history(stored: bool, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/studies.db" if stored else None
    study = native_study(url)

    history = history_from_optuna(url or study, metrics=["score"])

    assert history.objectives == (Objective("score", "maximize"),)
    assert [str(o.status) for o in history] == ["completed"] * 2 + ["failed", "pruned", "completed"]
    assert [dict(o.treatment.params) for o in history] == [t.params for t in study.trials[:5]]
    assert [o.metrics.get("score") for o in history] == [t.value for t in study.trials[:5]]
    assert history.best is not None
    assert history.best["score"] == study.best_value
    assert [dict(t.params) for t in history.pending] == [study.trials[5].params]
    assert history.space == SearchSpace(
        {
            "x": Float(1e-3, 1.0, log=True),
            "n": Integer(1, 9, step=2),
            "k": Categorical(["a", None, True]),
        }
    )
    assert history.space is not None
    optimizer = RandomOptimizer(history.space, history.objectives, seed=0)
    optimizer.attach(history)
    assert optimizer.get_best_treatment().params == study.best_params


def test_the_number_of_metrics_is_checked() -> None:
    with pytest.raises(UsageError, match="names the 1 objectives"):
        history_from_optuna(native_study(None), metrics=["a", "b"])


def observations() -> list[Observation]:
    kinds = [None, True, 1, (1, 2)]
    made = []
    for number, status in enumerate([*Status, Status.COMPLETED]):
        point = {"x": 0.1 + number, "rate": 0.5, "n": number + 1, "kind": kinds[number % 4]}
        if number % 4 == 1:
            point["child"] = 0.25
        treatment = Treatment(f"t {number}", {**point, "always": "here"})
        metrics = {"loss": number / 7, "other": math.inf}
        sem = {"loss": 0.1}
        made.append(Observation(treatment, metrics, status, sem, error="why", started_at=1e9))
    return made


def test_a_history_becomes_a_study() -> None:
    space = SearchSpace({**SPACE, "x": Float(0.0, 20.0)})
    pending = [Treatment("p", space.sample(0))]
    history = History(observations(), [LOSS], space=space, pending=pending, name="a run")

    study = study_of(history)

    states = {Status.COMPLETED: "COMPLETE", Status.PRUNED: "PRUNED"}
    assert study.study_name == "a run"
    assert study.metric_names == ["loss"]
    for trial, observation in zip(study.trials, history, strict=False):
        assert trial.state.name == states.get(observation.status, "FAIL")
        assert trial.user_attrs["status"] == observation.status
        assert trial.user_attrs["trial"] == observation.treatment.name
        assert trial.params["x"] == observation.treatment.params["x"]
    assert study.trials[-1].state is optuna.trial.TrialState.RUNNING
    assert study.best_value == 0.0
    back = history_from_optuna(study)
    assert [o.status for o in back] == [o.status for o in history]
    assert [o.treatment.params["n"] for o in back] == [o.treatment.params["n"] for o in history]
    assert [o.metrics for o in back] == [o.metrics for o in history]
    assert [o.sem for o in back] == [o.sem for o in history]


def test_a_stored_study_can_be_shown(tmp_path: Path) -> None:
    def loss(data: Any, ctx: Any, *, x: float, n: int) -> Any:
        return data, {"loss": x * n + ctx["replicate"], "cost": n}

    both = [LOSS, Objective("cost", "maximize")]
    optimizer = RandomOptimizer({"x": (0.0, 1.0), "n": (1, 9)}, both, seed=0)
    experiment_of(loss, seed=0).optimize(optimizer, 12, 2, storage=tmp_path / "runs.db")
    url = f"sqlite:///{tmp_path}/study.db"

    study_of(History.load(tmp_path / "runs.db"), storage=url)

    study = optuna.load_study(study_name=None, storage=url)
    assert [t.values for t in study.trials] == [
        [o["loss"], o["cost"]] for o in optimizer.observations
    ]
    fronts = [
        [t.user_attrs["trial"] for t in study.best_trials],
        [o.treatment.name for o in optimizer.pareto_front()],
    ]
    assert fronts[0] == fronts[1]


def test_a_history_without_a_space_gets_ranges_that_hold_it() -> None:
    trials = [
        Observation(Treatment(f"{x}", {"x": x, "n": n, "k": k}), {"loss": x})
        for x, n, k in [(0.5, 1, "a"), (2.5, 3, None)]
    ]

    study = study_of(History(trials, [LOSS]))

    assert [t.params for t in study.trials] == [o.treatment.params for o in trials]
    with pytest.raises(UsageError, match="needs objectives"):
        study_of(History(trials))


def test_the_study_of_an_optimizer_says_what_failed() -> None:
    optimizer = OptunaOptimizer({"x": (0.0, 1.0)}, LOSS, seed=0)
    for number in range(4):
        (treatment,) = optimizer.ask()
        status = Status.TIMED_OUT if number == 2 else Status.COMPLETED
        optimizer.tell(Observation(treatment, {"loss": 1.0}, status))

    read = history_from_optuna(optimizer.study, metrics=["loss"])

    assert [o.status for o in read] == [o.status for o in optimizer.observations]


def test_a_client_of_ax_becomes_a_history(tmp_path: Path) -> None:
    from crystallize_opt.adapters import AxOptimizer

    AxOptimizer({"x": (0.0, 1.0)}, LOSS, seed=0)  # Imports Ax without its warnings.
    from ax.api.client import Client
    from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = Client(random_seed=0)
        client.configure_experiment(
            parameters=[
                RangeParameterConfig(name="x", bounds=(0.1, 1.0), parameter_type="float"),
                RangeParameterConfig(name="n", bounds=(1, 9), parameter_type="int", scaling="log"),
                ChoiceParameterConfig(
                    name="k", values=["a", "b", "c"], parameter_type="str", is_ordered=False
                ),
            ]
        )
        client.configure_optimization("score, -loss", outcome_constraints=["lag <= 3"])
        for number in range(4):
            ((index, _),) = client.get_next_trials(1).items()
            if number == 1:
                client.mark_trial_failed(index, failed_reason="boom")
            elif number < 3:
                outcome: Any = {"score": (0.25 * number, 0.125), "loss": 1.5, "lag": number}
                client.complete_trial(index, outcome)
        client.save_to_json_file(str(tmp_path / "ax.json"))

    for read in (history_from_ax(client), history_from_ax(tmp_path / "ax.json")):
        assert read.objectives == (Objective("score", "maximize"), LOSS)
        assert read.constraints == (Constraint("lag", "<=", 3.0),)
        assert [str(o.status) for o in read] == ["completed", "failed", "completed"]
        assert read[1].error == "boom"
        assert read[2].metrics == {"score": 0.5, "loss": 1.5, "lag": 2.0}
        assert read[2].sem == {"score": 0.125, "loss": None, "lag": None}
        assert read.space == SearchSpace(
            {
                "x": Float(0.1, 1.0),
                "n": Integer(1, 9, log=True),
                "k": Categorical(["a", "b", "c"]),
            }
        )
        assert len(read.pending) == 1
        assert [o.treatment.name for o in read.pareto_front] == ["ax_0", "ax_2"][1:]
        assert len(study_of(read).trials) == 4


def test_a_run_of_smac_becomes_a_history(tmp_path: Path) -> None:
    from crystallize_opt.adapters import SMACOptimizer

    SMACOptimizer({"x": (0.0, 1.0)}, LOSS, seed=0)  # Imports SMAC without its warnings.
    from ConfigSpace import ConfigurationSpace
    from smac import HyperparameterOptimizationFacade, Scenario
    from smac.runhistory import StatusType, TrialValue

    scenario = Scenario(
        ConfigurationSpace({"x": (0.0, 1.0), "k": ["a", "b"]}, seed=0),
        deterministic=False,
        n_trials=10,
        seed=0,
        output_directory=tmp_path,
        name="r",
    )
    facade = HyperparameterOptimizationFacade(
        scenario,
        None,
        logging_level=False,
        overwrite=True,
    )
    told: dict[int, list[float]] = {}
    for number in range(5):
        info = facade.ask()
        status = StatusType.CRASHED if number == 1 else StatusType.SUCCESS
        facade.tell(info, TrialValue(cost=number / 8, status=status, time=1.0))
        config = facade.runhistory.get_config_id(info.config)
        told.setdefault(config, []).append(number / 8)

    read = history_from_smac(tmp_path / "r" / "0")

    assert read.objectives == (Objective("cost", "minimize"),)
    assert read.space == SearchSpace(
        {"k": Categorical(["a", "b"], default="a"), "x": Float(0.0, 1.0, default=0.5)}
    )
    assert sum(len(o.replicates) for o in read) == 5
    assert [str(o.status) for o in read].count("failed") == 1
    for observation in read:
        if observation.status is Status.COMPLETED:
            costs = told[int(observation.treatment.name.removeprefix("smac_"))]
            assert [r["cost"] for r in observation.replicates] == costs
    with pytest.raises(StorageError, match="does not hold a run"):
        history_from_smac(tmp_path)


def test_ordinals_and_constants_are_shown() -> None:
    space = SearchSpace({"size": Ordinal(["s", "m"]), "c": Constant(object())})
    optimizer = RandomOptimizer(space, LOSS, seed=0)
    for treatment in optimizer.ask(2):
        optimizer.tell(Observation(treatment, {"loss": 1.0}))

    study = study_of(optimizer.history)

    assert sorted(t.params["size"] for t in study.trials) == ["m", "s"]
    assert [list(t.params) for t in study.trials] == [["size"], ["size"]]
