"""Pending trials, and the end of a finite space."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import pytest
from optuna.samplers import BaseSampler, BruteForceSampler, GPSampler, GridSampler

from crystallize_opt import Categorical, Integer, Observation, Ordinal, SpaceExhausted
from crystallize_opt.adapters import OptunaOptimizer
from tests.adapters.optuna.native import LOSS, SAMPLERS, SQUARE
from tests.adapters.parity import any_loss

# Optuna marks whole samplers and pruners as experimental; that is no fault of a test.
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def test_several_pending_are_told_in_any_order() -> None:
    optimizer = OptunaOptimizer(SQUARE, LOSS, seed=0)
    treatments = optimizer.ask(16)
    for treatment in reversed(treatments):
        optimizer.tell(Observation(treatment, {"loss": any_loss(treatment.params)}))

    stored = optimizer.study.trials
    assert [trial.params for trial in stored] == [dict(t.params) for t in treatments]
    assert [trial.value for trial in stored] == [any_loss(t.params) for t in treatments]
    assert len({tuple(t.params.values()) for t in treatments}) == 16


@pytest.mark.parametrize("name", ["TPE", "CMA-ES", "NSGA-II"])
def test_what_is_pending_is_not_suggested_again(name: str) -> None:
    """In a space of 36 points: with 8 pending, samplers that do not know them repeat some."""
    space = {"a": (1, 6), "b": (1, 6)}
    repeats: dict[bool | None, int] = {None: 0, True: 0}
    for duplicates, seed in product(repeats, range(5)):
        sampler = SAMPLERS[name](seed)
        optimizer = OptunaOptimizer(space, LOSS, sampler=sampler, duplicates=duplicates)
        for _ in range(20):
            (treatment,) = optimizer.ask()
            optimizer.tell({"loss": (treatment.params["a"] - 2) ** 2})
        repeats[duplicates] += 8 - len({tuple(t.params.values()) for t in optimizer.ask(8)})

    assert repeats[None] == 0
    assert repeats[True] > 0


# Finite spaces ------------------------------------------------------------------------------------


FINITE = {"a": Categorical([True, 1]), "b": Ordinal(["s", "m", "l"]), "c": Integer(0, 1).when(a=1)}
FINITE_POINTS = 3 + 3 * 2


def finite_samplers() -> dict[str, Callable[[], BaseSampler]]:
    return {name: partial(sampler, 0) for name, sampler in SAMPLERS.items()} | {
        "GP": lambda: GPSampler(seed=0),
        "BruteForce": lambda: BruteForceSampler(seed=0),
    }


@pytest.mark.parametrize("pending", [1, 4, 100])
@pytest.mark.parametrize("name", finite_samplers())
def test_without_duplicates_each_point_comes_once(name: str, pending: int) -> None:
    sampler = finite_samplers()[name]()
    optimizer = OptunaOptimizer(FINITE, LOSS, sampler=sampler, duplicates=False)
    points = []
    for _ in range(FINITE_POINTS):
        (treatment,) = optimizer.ask()
        points.append(optimizer.space.key(treatment.params))
        while len(optimizer.pending) >= pending:
            oldest = optimizer.pending[0]
            optimizer.tell(Observation(oldest, {"loss": any_loss(oldest.params)}))

    assert len(set(points)) == FINITE_POINTS
    with pytest.raises(SpaceExhausted):
        optimizer.ask()


def test_grid_ends_with_space_exhausted() -> None:
    grid = GridSampler({"a": [0, 1], "x": [0.25, 0.5, 0.75]}, seed=0)
    optimizer = OptunaOptimizer({"a": (0, 1), "x": (0.0, 1.0)}, LOSS, sampler=grid)
    points = set()
    for _ in range(6):
        (treatment,) = optimizer.ask()
        points.add(tuple(treatment.params.values()))
        optimizer.tell({"loss": 1.0})

    assert len(points) == 6
    with pytest.raises(SpaceExhausted, match="every point of its grid"):
        optimizer.ask()


@pytest.mark.parametrize("given", [{"a": 1}, {"x": 0.3}, {"a": 0, "x": 0.9}])
def test_a_part_of_a_point_can_be_enqueued_to_a_grid(given: dict[str, Any]) -> None:
    grid = GridSampler({"a": [0, 1], "x": [0.25, 0.5, 0.75]}, seed=0)
    optimizer = OptunaOptimizer({"a": (0, 1), "x": (0.0, 1.0)}, LOSS, sampler=grid)
    optimizer.enqueue(given)
    first, *others = optimizer.ask(7)

    assert given.items() <= first.params.items()
    assert {each["x"] for each in others} == {0.25, 0.5, 0.75}
