"""RandomOptimizer keeps the contract, and its own promises."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from crystallize_opt import Constraint, Float, Objective, SearchSpace, SpaceExhausted
from crystallize_opt.adapters import RandomOptimizer
from crystallize_opt.errors import InvalidParametersError, UsageError
from crystallize_opt.testing import OptimizerContract


class TestRandomOptimizer(OptimizerContract):
    trap_share = 0.4  # It learns nothing: half of its points are outside by luck.

    def make_optimizer(
        self,
        space: SearchSpace | Mapping[str, Any],
        objective: Objective | Sequence[Objective],
        *,
        constraints: Iterable[Constraint] = (),
        seed: int | None = 0,
    ) -> RandomOptimizer:
        return RandomOptimizer(space, objective, constraints=constraints, seed=seed)


# Its own --------------------------------------------------------------------------------------

LOSS = Objective("loss", "minimize")


def test_with_duplicates_a_finite_space_has_no_end() -> None:
    optimizer = RandomOptimizer({"a": (1, 3)}, LOSS, seed=0, duplicates=True)

    assert {treatment.params["a"] for treatment in optimizer.ask(30)} == {1, 2, 3}


def test_a_space_that_is_infinite_in_a_rare_case_does_not_end() -> None:
    """19 of 20 choices are one point each: when they are used up, only the last has new ones."""
    space = {"kind": list(range(20)), "x": Float(0.0, 1.0).when(kind=7)}
    optimizer = RandomOptimizer(space, LOSS, seed=0)

    kinds = [treatment.params["kind"] for treatment in optimizer.ask(120)]

    assert sorted(set(kinds)) == list(range(20))
    assert kinds.count(7) == 120 - 19


def test_a_sampler_of_the_users_is_used() -> None:
    given: list[Any] = []

    def sampler(space: Any, seed: int) -> dict[str, Any]:
        given.append((space, seed))
        return {"x": np.float64(random.random()), "y": float(np.random.random())}

    space = {"x": (0.0, 1.0), "y": (0.0, 1.0)}
    state = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    found = []
    for _ in range(2):
        optimizer = RandomOptimizer(space, LOSS, seed=0, sampler=sampler)
        found.append([dict(treatment.params) for treatment in optimizer.ask(5)])

    assert found[0] == found[1]
    assert len({tuple(point.values()) for point in found[0]}) == 5
    assert all(type(value) is float for point in found[0] for value in point.values())
    assert all(each is space for each, _ in given)
    assert len({seed for _, seed in given}) == 5
    for (_, seed), point in zip(given, found[0], strict=False):
        assert point["x"] == random.Random(seed).random()
    assert (random.getstate(), np.random.get_state()[1].tolist()) == state  # type: ignore[index]


def test_a_sampler_that_only_repeats_itself_ends_the_search() -> None:
    space = {"x": (0.0, 1.0)}
    optimizer = RandomOptimizer(space, LOSS, sampler=lambda _, __: {"x": 0.5})
    optimizer.ask()

    with pytest.raises(SpaceExhausted, match=r"50 draws in a row.*duplicates=True"):
        optimizer.ask()
    optimizer = RandomOptimizer(space, LOSS, sampler=lambda _, __: {"x": 0.5}, duplicates=True)
    assert len(optimizer.ask(3)) == 3


def test_a_sampler_that_leaves_the_space_is_named() -> None:
    optimizer = RandomOptimizer({"x": (0.0, 1.0)}, LOSS, sampler=lambda _, __: {"x": 1.5})

    with pytest.raises(InvalidParametersError, match=r"'x': 1\.5"):
        optimizer.ask()


def test_a_sampler_is_a_function() -> None:
    with pytest.raises(UsageError, match="takes a function"):
        RandomOptimizer({"x": (0.0, 1.0)}, LOSS, sampler=3)  # type: ignore[arg-type]


def test_the_versions_of_what_draws_in_a_narrow_region_are_recorded() -> None:
    mixture = SearchSpace({"a": (0.0, 1.0), "b": (0.0, 1.0)}, constraints=["a + b == 1"])
    assert {"numpy", "scipy"} <= set(RandomOptimizer(mixture, LOSS).versions)
    assert "scipy" not in RandomOptimizer({"a": (0.0, 1.0)}, LOSS).versions
