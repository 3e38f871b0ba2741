"""A fidelity is the highest step of a trial, and a pruner ends trials before."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    PatientPruner,
    SuccessiveHalvingPruner,
    WilcoxonPruner,
)
from optuna.trial import TrialState

from crystallize_opt import (
    Float,
    FrozenContext,
    Integer,
    Observation,
    Pruned,
    SearchSpace,
    Status,
    Treatment,
)
from crystallize_opt.adapters import OptunaOptimizer
from crystallize_opt.adapters.optuna.studies import STUDY_NAME
from crystallize_opt.errors import CrystallizeOptError, UnsupportedSpaceError, UsageError
from tests.adapters.optuna.native import LOSS, SAMPLERS
from tests.toy import experiment_of

SPACE = SearchSpace(
    {"x": (-3.0, 3.0), "epochs": Integer(1, 27, fidelity=True), "rate": (0.1, 1.0), "k": ["a", "b"]}
)


def hyperband() -> HyperbandPruner:
    return HyperbandPruner(min_resource=1, max_resource=27)


def loss_after(epochs: int, x: float, rate: float) -> float:
    return (x - 1.0) ** 2 + math.exp(-rate * epochs) + 0.05 * math.sin(7.0 * epochs * rate)


def train(data: Any, ctx: FrozenContext, *, x: float, rate: float, k: str, epochs: int) -> Any:
    loss = math.inf
    for epoch in range(1, epochs + 1):
        loss = loss_after(epoch, x, rate)
        if ctx.report("loss", loss, step=epoch):
            raise Pruned
    return data, {"loss": loss + 0.1 * (k == "a")}


@pytest.mark.parametrize("sampler", ["TPE", "CMA-ES"])
@pytest.mark.filterwarnings("ignore:`CmaEsSampler` does not support categorical")
def test_suggestions_and_decisions_are_those_of_optunas_own_loop(
    sampler: str, tmp_path: Path
) -> None:
    """The study has no epochs, as in Optuna's tutorial; a stored run resumes exactly."""

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", -3.0, 3.0)
        rate = trial.suggest_float("rate", 0.1, 1.0)
        k = trial.suggest_categorical("k", ["a", "b"])
        for epoch in range(1, 28):
            trial.report(loss_after(epoch, x, rate), epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return loss_after(27, x, rate) + 0.1 * (k == "a")

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    theirs = optuna.create_study(
        study_name=STUDY_NAME, sampler=SAMPLERS[sampler](0), pruner=hyperband()
    )
    theirs.optimize(objective, n_trials=30)
    optuna.logging.set_verbosity(optuna.logging.INFO)
    for trials in (11, 30):
        ours = OptunaOptimizer(SPACE, LOSS, sampler=SAMPLERS[sampler](0), pruner=hyperband())
        experiment_of(train, seed=0).optimize(ours, trials, storage=tmp_path / "runs.db")

    told = [(t.params, t.state, t.value, t.intermediate_values) for t in theirs.trials]
    assert told == [(t.params, t.state, t.value, t.intermediate_values) for t in ours.study.trials]
    assert {trial.state for trial in theirs.trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    assert all(list(o.params) == list(SPACE) for o in ours.observations)
    assert {o.params["epochs"] for o in ours.observations} == {27}
    assert ours.history.best_params == {**theirs.best_params, "epochs": 27}


@pytest.mark.parametrize("given", ["attached", "enqueued"])
def test_a_trial_of_a_lower_fidelity_ended_there(given: str) -> None:
    optimizer = OptunaOptimizer(SPACE, LOSS, seed=0, pruner=hyperband())
    point = {"x": 1.0, "epochs": 9, "rate": 0.5, "k": "b"}
    if given == "attached":
        optimizer.attach(Observation(Treatment("old", point), {"loss": 0.25}))
    else:
        optimizer.enqueue(point)
        (treatment,) = optimizer.ask()
        assert treatment.params == point
        optimizer.tell({"loss": 0.25})

    (trial,) = optimizer.study.trials
    assert (trial.state, trial.value) == (TrialState.PRUNED, 0.25)
    assert trial.last_step == 9
    assert trial.params == {"x": 1.0, "rate": 0.5, "k": "b"}
    assert optimizer.observations[0].status is Status.COMPLETED
    assert optimizer.history.best_params == point  # So far.


def test_random_points_have_the_highest_fidelity() -> None:
    """Points in the place of suggestions, and the parts of enqueued points that are left out."""
    space = SearchSpace({"k": ["a", "b", "c"], "epochs": Integer(1, 27, fidelity=True)})
    optimizer = OptunaOptimizer(space, LOSS, seed=0, pruner=hyperband(), duplicates=False)
    optimizer.enqueue({})
    asked = [each.params for each in optimizer.ask(3)]

    assert sorted(point["k"] for point in asked) == ["a", "b", "c"]
    assert {point["epochs"] for point in asked} == {27}


@pytest.mark.parametrize(
    "pruner",
    [
        lambda: SuccessiveHalvingPruner(min_resource=1),
        SuccessiveHalvingPruner,
        HyperbandPruner,
        MedianPruner,
        lambda: PatientPruner(hyperband(), patience=1),
    ],
)
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_any_pruner_that_compares_steps_will_do(pruner: Callable[[], BasePruner]) -> None:
    assert OptunaOptimizer(SPACE, LOSS, seed=0, pruner=pruner()).capabilities.fidelity


SHARE = SearchSpace({"x": (0.0, 1.0), "share": Float(0.1, 1.0, fidelity=True)})


@pytest.mark.parametrize(
    ("space", "pruner", "error", "why"),
    [
        (
            SPACE,
            lambda: None,
            UnsupportedSpaceError,
            "no pruner.*'epochs'.*min_resource=1, max_resource=2",
        ),
        (SPACE, NopPruner, UnsupportedSpaceError, "NopPruner cannot take 'epochs'"),
        (SPACE, WilcoxonPruner, UnsupportedSpaceError, "WilcoxonPruner cannot take 'epochs'"),
        (SHARE, hyperband, UnsupportedSpaceError, "'share', Float.*Make it an Integer"),
        (SPACE, lambda: HyperbandPruner(1, 81), UsageError, "max_resource=81.*max_resource=27"),
        (
            SPACE,
            lambda: PatientPruner(SuccessiveHalvingPruner(3), patience=1),
            UsageError,
            r"SuccessiveHalvingPruner\(min_resource=3\).*min_resource=1\)\.$",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_what_does_not_fit_is_refused(
    space: SearchSpace, pruner: Callable[[], Any], error: type[CrystallizeOptError], why: str
) -> None:
    with pytest.raises(error, match=why):
        OptunaOptimizer(space, LOSS, pruner=pruner())
