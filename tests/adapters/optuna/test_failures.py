"""What the study is told of trials that failed, and what is suggested then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import TrialState

from crystallize_opt import Float, Objective, Observation, Status
from crystallize_opt.adapters import OptunaOptimizer
from tests.adapters.optuna.native import LOSS, SQUARE

# Optuna marks whole samplers and pruners as experimental; that is no fault of a test.
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


FAILURES = [status for status in Status if status not in (Status.COMPLETED, Status.PRUNED)]
LEARNS: dict[str, tuple[Callable[[], BaseSampler], TrialState]] = {
    "TPE": (lambda: TPESampler(seed=0), TrialState.PRUNED),
    "GP": (lambda: GPSampler(seed=0), TrialState.COMPLETE),
    "CMA-ES": (lambda: CmaEsSampler(seed=0), TrialState.COMPLETE),
    "NSGA-II": (lambda: NSGAIISampler(seed=0), TrialState.COMPLETE),
    "NSGA-III": (lambda: NSGAIIISampler(seed=0), TrialState.COMPLETE),
    "Random": (lambda: RandomSampler(seed=0), TrialState.FAIL),
    "QMC": (lambda: QMCSampler(seed=0), TrialState.FAIL),
}


def test_an_abandoned_trial_that_completes_is_a_trial_of_its_own() -> None:
    optimizer = OptunaOptimizer(SQUARE, LOSS, seed=0)
    late, other = optimizer.ask(2)
    optimizer.abandon(late)
    optimizer.tell(Observation(late, {"loss": -3.0}))
    optimizer.tell(Observation(other, {"loss": 2.0}))

    states = [trial.state for trial in optimizer.study.trials]
    assert states == [TrialState.FAIL, TrialState.COMPLETE, TrialState.COMPLETE]
    assert optimizer.study.best_params == late.params
    assert [o["loss"] for o in optimizer.observations] == [-3.0, 2.0]


@pytest.mark.parametrize("name", LEARNS)
@pytest.mark.parametrize("status", FAILURES)
def test_a_failure_is_told_as_the_sampler_learns_from_it(name: str, status: Status) -> None:
    sampler, state = LEARNS[name]
    optimizer = OptunaOptimizer(SQUARE, LOSS, sampler=sampler())
    for loss in (3.0, 7.0, 5.0):
        optimizer.ask()
        optimizer.tell({"loss": loss})
    (treatment,) = optimizer.ask()
    optimizer.tell(Observation(treatment, status=status, error="boom"))

    told = optimizer.study.trials[-1]
    assert told.state is (TrialState.FAIL if status is Status.ABANDONED else state)
    assert told.values == ([7.0] if told.state is TrialState.COMPLETE else None)
    assert told.user_attrs["status"] == status.value
    assert optimizer.pending == []
    assert optimizer.get_best_treatment().name == "trial_0"


def test_several_objectives_with_failures() -> None:
    objectives = [Objective("cost", "minimize"), Objective("gain", "maximize")]
    for sampler in (None, NSGAIISampler(seed=0, population_size=4), GPSampler(seed=0)):
        optimizer = OptunaOptimizer(SQUARE, objectives, seed=0, sampler=sampler)
        for trial in range(13):
            (treatment,) = optimizer.ask()
            x, y = treatment.params.values()
            if trial % 5 == 4:
                optimizer.tell(Observation(treatment, status=Status.FAILED, error="boom"))
            else:
                optimizer.tell({"cost": x, "gain": x * y})
        front = {o.treatment.name for o in optimizer.pareto_front()}
        real = [o.treatment.name for o in optimizer.observations if o.status is Status.COMPLETED]
        native = {f"trial_{t.number}" for t in optimizer.study.best_trials}
        assert front == native & set(real)
        assert optimizer.get_best_treatment().name in front


def test_an_ask_that_raises_leaves_no_trial_running() -> None:
    class Broken(RandomSampler):
        def sample_independent(self, *args: Any) -> Any:
            raise RuntimeError("out of ideas")

    for space in (SQUARE, {"x": [1, 2], "y": Float(0, 1).when(x=1)}):
        optimizer = OptunaOptimizer(space, LOSS, sampler=Broken())
        with pytest.raises(RuntimeError, match="out of ideas"):
            optimizer.ask()
        assert [trial.state for trial in optimizer.study.trials] == [TrialState.FAIL]
