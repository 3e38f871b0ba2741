"""Pruners see the learning curves of trials as in Optuna's own loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from crystallize_opt import (
    Failures,
    FrozenContext,
    Objective,
    Observation,
    Pruned,
    Replicate,
    Status,
    Treatment,
)
from crystallize_opt.adapters import OptunaOptimizer
from crystallize_opt.adapters.optuna.studies import STUDY_NAME
from crystallize_opt.trials.calls import ReportedPoint
from tests.adapters.optuna.native import LOSS, SAMPLERS
from tests.toy import experiment_of

# Optuna marks whole samplers and pruners as experimental; that is no fault of a test.
pytestmark = [
    pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning"),
    pytest.mark.filterwarnings("ignore:All-NaN slice encountered"),  # of PatientPruner
]

EPOCHS = 9
SPACE = {"x": (-3.0, 3.0), "rate": (0.1, 1.0)}
PRUNERS: dict[str, Callable[[], BasePruner]] = {
    "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=1),
    "percentile": lambda: optuna.pruners.PercentilePruner(40.0, n_startup_trials=2),
    "halving": lambda: optuna.pruners.SuccessiveHalvingPruner(reduction_factor=2),
    "Hyperband": lambda: optuna.pruners.HyperbandPruner(max_resource=EPOCHS, reduction_factor=3),
    "threshold": lambda: optuna.pruners.ThresholdPruner(upper=2.0, n_warmup_steps=2),
    "patient": lambda: optuna.pruners.PatientPruner(optuna.pruners.MedianPruner(2), patience=1),
    "Wilcoxon": lambda: optuna.pruners.WilcoxonPruner(p_threshold=0.3),
}


def loss_at(x: float, rate: float, epoch: int) -> float:
    """A loss that falls, at times rises, and becomes nan in a corner of the space."""
    if x > 2.7 and epoch > 3:
        return math.nan
    return (x - 1.0) ** 2 + math.exp(-rate * epoch) + 0.05 * math.sin(7.0 * epoch * rate)


def train(data: Any, ctx: FrozenContext, *, x: float, rate: float) -> Any:
    for epoch in range(EPOCHS):
        if ctx.report("loss", loss_at(x, rate, epoch), step=epoch):
            raise Pruned
    return data, {"loss": (x - 1.0) ** 2}


def native(sampler: BaseSampler, pruner: BasePruner, trials: int) -> optuna.Study:
    """Optuna's own loop, as its documentation writes it."""

    def objective(trial: optuna.Trial) -> float:
        x, rate = (trial.suggest_float(name, *SPACE[name]) for name in SPACE)
        for epoch in range(EPOCHS):
            trial.report(loss_at(x, rate, epoch), step=epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return (x - 1.0) ** 2

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(study_name=STUDY_NAME, sampler=sampler, pruner=pruner)
    study.optimize(objective, n_trials=trials)
    optuna.logging.set_verbosity(optuna.logging.INFO)
    return study


def learned(study: optuna.Study) -> list[str]:
    return [
        repr((trial.params, trial.state, trial.values, trial.intermediate_values))
        for trial in study.trials
    ]


@pytest.mark.parametrize("pruner", PRUNERS)
@pytest.mark.parametrize("sampler", ["TPE", "Random", "CMA-ES"])
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_decisions_and_suggestions_are_those_of_study_optimize(
    sampler: str, pruner: str, seed: int
) -> None:
    ours = OptunaOptimizer(SPACE, LOSS, sampler=SAMPLERS[sampler](seed), pruner=PRUNERS[pruner]())
    experiment_of(train, seed=0).optimize(ours, 22)

    theirs = native(SAMPLERS[sampler](seed), PRUNERS[pruner](), 22)
    assert learned(ours.study) == learned(theirs)
    states = {trial.state for trial in theirs.trials}
    assert states == {TrialState.COMPLETE, TrialState.PRUNED}
    for observation, trial in zip(ours.observations, theirs.trials, strict=True):
        (replicate,) = observation.replicates
        assert repr(dict(replicate.curves["loss"])) == repr(trial.intermediate_values)
        if trial.state is TrialState.PRUNED:
            # Optuna's value of a pruned trial is the last intermediate one, unless that is nan.
            assert observation.status is Status.PRUNED
            assert observation.metrics.get("loss") == trial.value


def test_a_loop_by_hand_is_the_same() -> None:
    search, by_hand = (
        OptunaOptimizer(SPACE, LOSS, seed=4, pruner=PRUNERS["halving"]()) for _ in range(2)
    )
    experiment_of(train, seed=0).optimize(search, 20)

    for _ in range(20):
        (treatment,) = by_hand.ask()
        for epoch in range(EPOCHS):
            if by_hand.report(treatment, epoch, loss_at(**treatment.params, epoch=epoch)):
                by_hand.tell(Observation(treatment, status=Status.PRUNED))
                break
        else:
            by_hand.tell({"loss": (treatment.params["x"] - 1.0) ** 2})

    assert learned(by_hand.study) == learned(search.study)
    for one, other in zip(by_hand.observations, search.observations, strict=True):
        assert one.replicates[0].curves == other.replicates[0].curves
        assert dict(one) == dict(other)


# Several replicates ----------------------------------------------------------------------------


def noisy(data: Any, ctx: FrozenContext, *, x: float, rate: float) -> Any:
    """Curves of later replicates are longer and far higher: they would be seen, and pruned."""
    shift = 100.0 * ctx["replicate"]
    for epoch in range(EPOCHS + ctx["replicate"]):
        if ctx.report("loss", loss_at(x, rate, epoch) + shift, step=epoch):
            raise Pruned
    return data, {"loss": (x - 1.0) ** 2 + shift}


@pytest.mark.parametrize("pruner", [name for name in PRUNERS if name != "Wilcoxon"])
def test_a_pruner_compares_the_curves_of_the_first_replicates_only(pruner: str) -> None:
    one, three = (
        OptunaOptimizer(SPACE, LOSS, sampler=SAMPLERS["Random"](0), pruner=PRUNERS[pruner]())
        for _ in range(2)
    )
    experiment_of(noisy, seed=0).optimize(one, 12, 1)
    experiment_of(noisy, seed=0).optimize(three, 12, 3)

    def curves(optimizer: OptunaOptimizer) -> list[str]:
        return [repr(trial.intermediate_values) for trial in optimizer.study.trials]

    assert curves(three) == curves(one)
    assert [o.status for o in three.observations] == [o.status for o in one.observations]
    for observation in three.observations:
        count = 3 if observation.status is Status.COMPLETED else 1
        assert len(observation.replicates) == count
        assert all("loss" in each.curves for each in observation.replicates)


def test_wilcoxon_compares_replicates_even_if_they_report_curves() -> None:
    optimizer = OptunaOptimizer(SPACE, LOSS, seed=0, pruner=PRUNERS["Wilcoxon"]())
    experiment_of(noisy, seed=0).optimize(optimizer, 4, 3)

    (first, *_) = optimizer.observations
    finals = {each.index: each["loss"] for each in first.replicates}
    assert optimizer.study.trials[0].intermediate_values == finals
    assert len(first.replicates[0].curves["loss"]) == EPOCHS


# Attached, failed and repeated trials ------------------------------------------------------------


@pytest.mark.parametrize("pruner", PRUNERS)
def test_curves_of_attached_trials_are_seen_as_those_of_told_ones(pruner: str) -> None:
    told, attached = (
        OptunaOptimizer(SPACE, LOSS, sampler=SAMPLERS["Random"](3), pruner=PRUNERS[pruner]())
        for _ in range(2)
    )
    experiment_of(train, seed=0).optimize(told, 10)
    attached.attach(told.history)

    assert learned(attached.study) == learned(told.study)


def test_a_retried_trial_reports_its_steps_once() -> None:
    attempts: dict[str, int] = {}

    def fails_first(data: Any, ctx: FrozenContext, *, x: float, rate: float) -> Any:
        attempts[ctx["condition"]] = attempts.get(ctx["condition"], 0) + 1
        for epoch in range(4):
            ctx.report("loss", loss_at(x, rate, epoch), step=epoch)
            if attempts[ctx["condition"]] == 1 and epoch == 2:
                raise OSError("the disk is slow today")
        return data, {"loss": x}

    optimizer = OptunaOptimizer(SPACE, LOSS, seed=0, pruner=PRUNERS["median"]())
    experiment_of(fails_first, seed=0).optimize(optimizer, 3, failures=Failures(retries=1))

    assert set(attempts.values()) == {2}
    assert all(list(t.intermediate_values) == [0, 1, 2, 3] for t in optimizer.study.trials)


def test_a_point_that_is_suggested_again_is_pruned_as_if_it_ran_again() -> None:
    runs: list[float] = []

    def train_once(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        runs.append(x)
        for epoch in range(4):
            if ctx.report("loss", x + 1.0 / (1 + epoch), step=epoch):
                raise Pruned
        return data, {"loss": x}

    pruner = optuna.pruners.MedianPruner(n_startup_trials=1)
    optimizer = OptunaOptimizer(
        {"x": (0.0, 9.0)}, LOSS, sampler=SAMPLERS["Random"](0), pruner=pruner
    )
    optimizer.enqueue({"x": 3.0}, {"x": 2.0}, {"x": 1.0}, {"x": 3.0}, {"x": 2.0})
    experiment_of(train_once, seed=0).optimize(optimizer, 4)

    assert runs[:3] == [3.0, 2.0, 1.0]
    assert len(runs) == 4
    repeats = [each for each in optimizer.observations if each.repeats]
    assert [(o.params["x"], o.status) for o in repeats] == [
        (3.0, Status.PRUNED),
        (2.0, Status.COMPLETED),
    ]
    assert repeats[0].replicates[0].curves == {"loss": ((0, 4.0),)}
    assert repeats[0]["loss"] == 4.0
    assert [t.state.name for t in optimizer.study.trials][3:5] == ["PRUNED", "COMPLETE"]


def test_only_the_objectives_curve_reaches_the_pruner() -> None:
    def both(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        for epoch in range(3):
            assert not ctx.report("accuracy", epoch, step=epoch)
            ctx.report("loss", -epoch, step=2 * epoch)
        return data, {"loss": x}

    optimizer = OptunaOptimizer(
        {"x": (0.0, 1.0)}, Objective("loss", "minimize"), seed=0, pruner=PRUNERS["threshold"]()
    )
    experiment_of(both, seed=0).optimize(optimizer, 1)

    assert optimizer.study.trials[0].intermediate_values == {0: 0.0, 2: -1.0, 4: -2.0}
    assert optimizer.observations[0].replicates[0].curves == {
        "accuracy": ((0, 0.0), (1, 1.0), (2, 2.0)),
        "loss": ((0, 0.0), (2, -1.0), (4, -2.0)),
    }


def test_a_replay_repeats_the_decisions() -> None:
    recorded, replayed = (
        OptunaOptimizer(SPACE, LOSS, seed=4, pruner=PRUNERS["Hyperband"]()) for _ in range(2)
    )
    experiment_of(train, seed=0).optimize(recorded, 15)

    replayed.replay(recorded.events)

    assert learned(replayed.study) == learned(recorded.study)
    assert [e for e in replayed.events if isinstance(e, ReportedPoint)] == [
        e for e in recorded.events if isinstance(e, ReportedPoint)
    ]
    assert replayed.ask()[0].params == recorded.ask()[0].params


def test_a_pruned_trial_without_a_curve_has_no_value() -> None:
    optimizer = OptunaOptimizer({"x": (0.0, 1.0)}, LOSS, seed=0, pruner=PRUNERS["median"]())
    treatment = Treatment("old", {"x": 0.5})
    replicate = Replicate(0, 1, {}, Status.PRUNED)
    optimizer.attach(Observation(treatment, {}, Status.PRUNED, replicates=(replicate,)))

    assert optimizer.study.trials[0].state is TrialState.PRUNED
    assert optimizer.study.trials[0].value is None
