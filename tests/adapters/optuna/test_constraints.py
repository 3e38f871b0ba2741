"""Linear constraints and outcome constraints, as the samplers learn of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import TrialState

from crystallize_opt import Constant, Constraint, Float, Observation, Ordinal, SearchSpace, Status
from crystallize_opt.adapters import OptunaOptimizer
from tests.adapters.optuna.native import LOSS, SQUARE

# Optuna marks whole samplers and pruners as experimental; that is no fault of a test.
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def linear_samplers() -> list[Callable[[], BaseSampler]]:
    return [
        lambda: TPESampler(seed=0),
        lambda: NSGAIISampler(seed=0, population_size=6),
        lambda: CmaEsSampler(seed=0),
        lambda: RandomSampler(seed=0),
    ]


@pytest.mark.parametrize("sampler", linear_samplers())
def test_linear_constraints_hold_and_do_not_trap(sampler: Callable[[], BaseSampler]) -> None:
    space = SearchSpace({"a": (0.0, 1.0), "b": (0.0, 1.0)}, constraints=["b <= a"])
    optimizer = OptunaOptimizer(space, LOSS, sampler=sampler())
    for _ in range(40):
        (treatment,) = optimizer.ask()
        a, b = treatment.params["a"], treatment.params["b"]
        assert b <= a
        # The optimum without the constraint, b = 0.9 and a = 0.1, violates it.
        optimizer.tell({"loss": (a - 0.1) ** 2 + (b - 0.9) ** 2})

    states = [trial.state for trial in optimizer.study.trials]
    assert TrialState.RUNNING not in states
    assert len(states) < 200  # asked again at most four times for each treatment, on average


def test_a_constraint_that_hardly_ever_holds_is_met_by_a_random_point() -> None:
    space = SearchSpace({"a": (0.0, 1.0), "b": (0.0, 1.0)}, constraints=["a + b <= 0.02"])
    optimizer = OptunaOptimizer(space, LOSS, seed=0)

    (treatment,) = optimizer.ask()

    assert sum(treatment.params.values()) <= 0.02


@pytest.mark.parametrize("sampler", [TPESampler, GPSampler, NSGAIISampler, NSGAIIISampler])
def test_outcome_constraints_reach_the_sampler(sampler: type[BaseSampler]) -> None:
    constraints = [Constraint("latency", "<=", 10.0), Constraint("accuracy", ">=", 0.5)]
    optimizer = OptunaOptimizer(
        SQUARE,
        LOSS,
        constraints=constraints,
        sampler=sampler(seed=0),  # type: ignore[call-arg]
    )
    optimizer.ask()
    optimizer.tell({"loss": 1.0, "latency": 12.0, "accuracy": 0.75})
    optimizer.ask()
    optimizer.tell({"loss": 2.0, "latency": 9.0, "accuracy": 0.75})

    first, second = optimizer.study.trials
    assert list(first.constraints.values()) == [2.0, -0.25]
    assert list(second.constraints.values()) == [-1.0, -0.25]
    assert optimizer.get_best_treatment().name == "trial_1"


def test_gp_gets_every_constraint_on_every_completed_trial() -> None:
    """GPSampler raises in ask() where one lacks; with failures among them, too."""
    space = SearchSpace({"a": (0.0, 1.0), "b": (0.0, 1.0)}, constraints=["b <= a"])
    optimizer = OptunaOptimizer(
        space, LOSS, constraints=[Constraint("g", "<=", 0.0)], sampler=GPSampler(seed=0)
    )
    for trial in range(14):
        (treatment,) = optimizer.ask()
        if trial % 4 == 1:
            optimizer.tell(Observation(treatment, status=Status.TIMED_OUT))
        else:
            a, b = treatment.params.values()
            optimizer.tell({"loss": a + b, "g": a - 0.5})

    completed = [t for t in optimizer.study.trials if t.state is TrialState.COMPLETE]
    assert len(completed) >= 13
    assert {tuple(t.constraints) for t in completed} == {("g <= 0.0", "linear 0")}


def test_where_parameters_have_conditions_a_point_that_violates_a_constraint_is_dropped() -> None:
    space = SearchSpace(
        {
            "size": Ordinal(["small", "large"]),
            "x": Float(0.0, 1.0),
            "y": Float(0.0, 1.0).when(size="large"),
            "fixed": Constant("one"),
            "kind": Ordinal([("a", 1), None]).when(size="small"),
        },
        constraints=["x + y <= 0.6"],
    )
    optimizer = OptunaOptimizer(space, LOSS, seed=0)

    for _ in range(30):
        (treatment,) = optimizer.ask()
        assert space.validate(treatment.params) == dict(treatment.params)
        optimizer.tell({"loss": treatment.params["x"]})

    assert any(trial.user_attrs.get("status") for trial in optimizer.study.trials)
