"""A finite space that is too large to be listed is searched like an infinite one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from optuna.samplers import CmaEsSampler, NSGAIISampler, RandomSampler

from crystallize_opt import Integer, Objective, SearchSpace, SpaceOptimizer
from crystallize_opt.adapters import (
    AxOptimizer,
    NevergradOptimizer,
    OptunaOptimizer,
    RandomOptimizer,
    SMACOptimizer,
)
from tests.adapters.parity import search

LOSS = Objective("loss", "minimize")
TOO_MANY = 1_000_000  # Points whose list takes seconds, and half a gigabyte.


class SpaceListedError(Exception):
    """Somebody lists a space that is too large."""


@pytest.fixture(autouse=True)
def no_large_space_is_listed() -> Iterator[None]:
    """Raise instead of hanging for minutes, or until the memory is full."""
    listed = SearchSpace.points

    def points(space: SearchSpace, *arguments: Any, **options: Any) -> Iterator[dict[str, Any]]:
        if space.size > TOO_MANY:
            raise SpaceListedError(f"{space.size:.0e} points")
        return listed(space, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SearchSpace, "points", points)
        yield


Make = Callable[[Any], SpaceOptimizer[Any]]
OPTIMIZERS: dict[str, Make] = {
    "Random": lambda space: RandomOptimizer(space, LOSS, seed=0),
    "Nevergrad": lambda space: NevergradOptimizer(space, LOSS, seed=0),
    "Optuna, TPE": lambda space: OptunaOptimizer(space, LOSS, seed=0),
    "Optuna, CMA-ES": lambda space: OptunaOptimizer(
        space, LOSS, sampler=CmaEsSampler(seed=0, warn_independent_sampling=False)
    ),
    "Optuna, NSGA-II": lambda space: OptunaOptimizer(space, LOSS, sampler=NSGAIISampler(seed=0)),
    "Optuna, Random": lambda space: OptunaOptimizer(space, LOSS, sampler=RandomSampler(seed=0)),
    "SMAC": lambda space: SMACOptimizer(space, LOSS, seed=0, n_init=5),
    "Ax": lambda space: AxOptimizer(space, LOSS, seed=0),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_constraint_between_two_wide_integers(name: str) -> None:
    """0.5 % of 10**8 points satisfy it."""
    space = SearchSpace({"a": Integer(1, 10_000), "b": Integer(1, 10_000)}, ["a + b <= 1000"])
    found = search(OPTIMIZERS[name](space), 4)

    assert len({tuple(point.values()) for point in found}) == 4
    assert all(space.validate(point) == point for point in found)


def test_a_choice_of_which_few_have_many_points() -> None:
    """99 of 100 choices are one point each: after them, only the last has new ones."""
    space = SearchSpace({"kind": list(range(100)), "n": Integer(1, 10**9).when(kind=7)})
    found = search(RandomOptimizer(space, LOSS, seed=0), 150)

    assert len({repr(point) for point in found}) == 150
    assert sum(point["kind"] == 7 for point in found) == 150 - 99


@settings(max_examples=20, phases=[Phase.generate])
@given(width=st.integers(2_000, 10**9), share=st.floats(0.1, 0.3), seed=st.integers(0, 99))
def test_any_constraint_between_wide_integers(width: int, share: float, seed: int) -> None:
    bound = int(share * width)
    space = SearchSpace({"a": Integer(0, width), "b": Integer(0, width)}, [f"a + b <= {bound}"])
    sampler = RandomSampler(seed=seed)
    found = search(OptunaOptimizer(space, LOSS, seed=seed, sampler=sampler), 3)

    assert len(found) == 3
    assert all(space.validate(point) == point for point in found)
