"""The capabilities of an optimizer are those of what was built, not of its class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from optuna.samplers import RandomSampler

from crystallize_opt import Objective, SpaceExhausted, SpaceOptimizer
from crystallize_opt.adapters import GridOptimizer, OptunaOptimizer, RandomOptimizer, SMACOptimizer
from tests.adapters.parity import exactly

LOSS = Objective("loss", "minimize")
SMALL = {"x": [1, 2, 3]}
LARGER = {"a": (1, 6), "b": (1, 5)}


MADE: dict[str, tuple[Callable[[], SpaceOptimizer[Any]], bool]] = {
    "Optuna, small": (lambda: OptunaOptimizer(SMALL, LOSS, sampler=RandomSampler(seed=0)), False),
    "Optuna, unique": (lambda: OptunaOptimizer(LARGER, LOSS, seed=0, duplicates=False), True),
    "Optuna, larger": (
        lambda: OptunaOptimizer(LARGER, LOSS, sampler=RandomSampler(seed=0)),
        False,
    ),
    "Optuna, repeated": (lambda: OptunaOptimizer(SMALL, LOSS, seed=0, duplicates=True), False),
    "Random": (lambda: RandomOptimizer(LARGER, LOSS, seed=0), True),
    "Random, repeated": (lambda: RandomOptimizer(LARGER, LOSS, seed=0, duplicates=True), False),
    "Grid": (lambda: GridOptimizer(LARGER, LOSS), True),
    "SMAC": (lambda: SMACOptimizer(SMALL, LOSS, seed=0), True),
}


@pytest.mark.parametrize("name", MADE)
def test_unique_points_are_declared_where_each_point_comes_once(name: str) -> None:
    make, unique = MADE[name]
    optimizer = make()
    points: list[dict[str, Any]] = []
    try:
        for _ in range(100):
            (treatment,) = optimizer.ask()
            points.append(dict(treatment.params))
            optimizer.tell({"loss": 1.0})
    except SpaceExhausted:
        ended = True
    else:
        ended = False

    every = len(list(optimizer.space.points()))
    once = len(points) == every == len({repr(point) for point in exactly(points)})
    assert (ended and once) is unique, "the test expects something else than what happens"
    assert optimizer.capabilities.unique_points is unique
