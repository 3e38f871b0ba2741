"""Parameters with conditions: what samplers model, with `fill_inactive` and without."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import CmaEsSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

from crystallize_opt import Float, Integer, Observation, Ordinal, SearchSpace, Status, Treatment
from crystallize_opt.adapters import OptunaOptimizer
from tests.adapters.optuna.native import LOSS
from tests.adapters.parity import any_loss, exactly, search

TREE = SearchSpace(
    {
        "kind": ["a", "b"],
        "x": (0.0, 1.0),
        "a": Float(0, 1).when(kind="a"),
        "b": Float(0, 1, default=0.25).when(kind="b"),
        "n": Integer(1, 9).when(kind="b"),
        "size": Ordinal(["s", "m", "l"]).when(kind="b"),
    },
    constraints=["x + a <= 1.9", "x + n <= 9.9"],
)


def test_what_draws_conditional_parameters_at_random_says_so() -> None:
    said = {}
    for sampler in (TPESampler(), GPSampler(), CmaEsSampler(), NSGAIISampler(), RandomSampler()):
        said[type(sampler).__name__] = OptunaOptimizer(TREE, LOSS, sampler=sampler).capabilities
    assert {name: each.conditions for name, each in said.items()} == {
        "TPESampler": True,
        "GPSampler": "independent",
        "CmaEsSampler": "independent",
        "NSGAIISampler": "independent",
        "RandomSampler": True,
    }
    filled = OptunaOptimizer(TREE, LOSS, sampler=GPSampler(), fill_inactive=True)
    assert filled.capabilities.conditions is True


@pytest.mark.parametrize(
    "make",
    [
        lambda: TPESampler(seed=0),
        lambda: NSGAIISampler(seed=0, population_size=6),
        lambda: GPSampler(seed=0, n_startup_trials=4),
    ],
)
def test_every_trial_of_the_study_has_every_parameter(make: Any) -> None:
    optimizer = OptunaOptimizer(TREE, LOSS, sampler=make(), fill_inactive=True)
    given = {"kind": "a", "x": 0.5, "a": 0.5}
    optimizer.attach(Observation(Treatment("attached", given), {"loss": 1.0}))
    optimizer.enqueue({"kind": "b", "size": "l"})
    points = search(optimizer, 6)
    (failed,) = optimizer.ask()
    optimizer.tell(Observation(failed, status=Status.FAILED))

    assert points[0]["kind"] == "b"
    assert points[0]["size"] == "l"
    for point in points:
        assert optimizer.space.validate(point) == point
    assert {point["kind"] for point in points} == {"a", "b"}
    assert all(trial.params.keys() == TREE.keys() for trial in optimizer.study.trials)
    assert optimizer.study.trials[0].params == {
        "kind": "a",
        "x": 0.5,
        "a": 0.5,
        "b": 0.25,
        "n": 5,
        "size": 1,
    }
    again = OptunaOptimizer(TREE, LOSS, sampler=make(), fill_inactive=True)
    again.replay(optimizer.events)


def test_suggestions_are_those_of_a_study_of_all_parameters() -> None:
    space = SearchSpace({"kind": ["a", "b"], "x": (0.0, 1.0), "a": Float(0, 1).when(kind="a")})
    sampler = GPSampler(seed=0, n_startup_trials=5)
    ours = search(OptunaOptimizer(space, LOSS, sampler=sampler, fill_inactive=True), 9)

    everything: dict[str, BaseDistribution] = {
        "kind": CategoricalDistribution(["a", "b"]),
        "x": FloatDistribution(0, 1),
        "a": FloatDistribution(0, 1),
    }
    study = optuna.create_study(sampler=GPSampler(seed=0, n_startup_trials=5), study_name="native")
    native = []
    for _ in range(9):
        trial = study.ask(everything)
        point = {n: v for n, v in trial.params.items() if n != "a" or trial.params["kind"] == "a"}
        native.append(point)
        study.tell(trial, any_loss(point))
    assert exactly(ours) == exactly(native)
