"""Optimizers in a region that random points hardly ever hit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BruteForceSampler, NSGAIISampler, RandomSampler

from crystallize_opt import Objective, Observation, SearchSpace, SpaceOptimizer, Treatment
from crystallize_opt.adapters import OptunaOptimizer, RandomOptimizer, SMACOptimizer

LOSS = Objective("loss", "minimize")
MIXTURE = SearchSpace(dict.fromkeys("abcd", (0.0, 1.0)), ["a + b + c + d == 1"])
WHOLE = SearchSpace(dict.fromkeys("abc", (0, 20)), ["a + b + c == 7", "a <= b"])
PARTLY = SearchSpace({**MIXTURE, "k": ["u", "v"], "n": (1, 9)}, MIXTURE.constraints)
BEST = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}

MAKE: dict[str, Callable[[SearchSpace], SpaceOptimizer[Any]]] = {
    "random": lambda space: RandomOptimizer(space, LOSS, seed=0),
    "tpe": lambda space: OptunaOptimizer(space, LOSS, seed=0),
    "optuna-random": lambda space: OptunaOptimizer(space, LOSS, seed=0, sampler=RandomSampler(0)),
    "nsga-ii": lambda space: OptunaOptimizer(space, LOSS, seed=0, sampler=NSGAIISampler(seed=0)),
    "smac": lambda space: SMACOptimizer(space, LOSS, seed=0),
}


def loss(params: Any) -> float:
    return float(sum((value - BEST.get(name, 0.0)) ** 2 for name, value in params.items()
                     if name in BEST))  # fmt: skip


@pytest.mark.parametrize("space", [MIXTURE, WHOLE, PARTLY], ids=["mixture", "whole", "partly"])
@pytest.mark.parametrize("kind", MAKE)
def test_every_suggestion_is_a_point_and_attached_ones_are_learnt(
    kind: str, space: SearchSpace
) -> None:
    optimizer, first = MAKE[kind](space), space.sample(99)
    optimizer.attach(Observation(Treatment("before", first), {"loss": loss(first)}))
    name = next(iter(space))
    optimizer.enqueue(space.sample(98), {name: space.sample(97)[name]})
    asked = []
    for _ in range(8):
        (treatment,) = optimizer.ask()
        assert space.validate(treatment.params) == dict(treatment.params)
        optimizer.tell(Observation(treatment, {"loss": loss(treatment.params)}))
        asked.append(dict(treatment.params))
    assert asked[0] == space.sample(98)
    assert asked[1][name] == space.sample(97)[name]
    again = MAKE[kind](space)
    again.replay(optimizer.events)
    assert again.ask()[0].params == optimizer.ask()[0].params


def test_a_sampler_that_lists_values_is_asked_for_the_parameters_themselves() -> None:
    space = SearchSpace(dict.fromkeys("abc", (0, 5)), ["a + b + c == 2", "a <= b"])
    with pytest.warns(ExperimentalWarning):
        sampler = BruteForceSampler(seed=0)
    optimizer = OptunaOptimizer(space, LOSS, sampler=sampler, duplicates=False)
    assert optimizer.searched is space
    found = {tuple(treatment.params.values()) for treatment in optimizer.ask(10)}
    assert found == {(0, 0, 2), (0, 1, 1), (0, 2, 0), (1, 1, 0)}


def test_tpe_finds_a_mixture_that_random_search_does_not() -> None:
    best = {}
    for kind in ("random", "tpe"):
        optimizer = MAKE[kind](MIXTURE)
        for _ in range(60):
            (treatment,) = optimizer.ask()
            optimizer.tell(Observation(treatment, {"loss": loss(treatment.params)}))
        best[kind] = loss(optimizer.get_best_treatment().params)
    assert best["tpe"] < best["random"] / 2
