"""GridOptimizer keeps the contract, and its own promises."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import pytest

from crystallize_opt import (
    Categorical,
    Constraint,
    Float,
    Integer,
    Objective,
    SearchSpace,
    SpaceExhausted,
)
from crystallize_opt.adapters import GridOptimizer
from crystallize_opt.errors import UsageError
from crystallize_opt.testing import OptimizerContract


class TestGridOptimizer(OptimizerContract):
    uses_seed = False
    known_gaps: ClassVar[Mapping[str, str]] = {
        "test_a_failing_half_does_not_trap_the_search": "goes in order, whatever it is told",
        "test_a_log_scale_is_searched_as_one[huge log int]": "goes through all integers in order",
    }

    def make_optimizer(
        self,
        space: SearchSpace | Mapping[str, Any],
        objective: Objective | Sequence[Objective],
        *,
        constraints: Iterable[Constraint] = (),
        seed: int | None = 0,
    ) -> GridOptimizer:
        return GridOptimizer(space, objective, constraints=constraints, seed=seed)


# Its own --------------------------------------------------------------------------------------

LOSS = Objective("loss", "minimize")


def points(optimizer: GridOptimizer) -> list[tuple[Any, ...]]:
    return [tuple(treatment.params.values()) for treatment in optimizer.ask(1000)]


def test_the_last_parameter_changes_fastest() -> None:
    grid = GridOptimizer({"a": (1, 2), "b": Categorical(["u", "v"])}, LOSS)

    assert points(grid) == [(1, "u"), (1, "v"), (2, "u"), (2, "v")]


def test_conditions_and_constraints_hold() -> None:
    space = {"a": (1, 2), "b": (1, 2), "c": Integer(0, 1).when(a=2)}

    assert points(GridOptimizer(SearchSpace(space, ["b <= a"]), LOSS)) == [
        (1, 1),
        *((2, b, c) for b in (1, 2) for c in (0, 1)),
    ]


def test_continuous_ranges_have_levels_evenly_spaced_with_exact_ends() -> None:
    space = {"x": Float(0.1, 0.7), "rate": Float(1e-3, 1e3, log=True), "step": Float(0, 1, step=1)}
    grid = GridOptimizer(space, LOSS, levels={"x": 3, "rate": 4})
    found = points(grid)

    assert len(found) == 3 * 4 * 2
    xs, rates, steps = (sorted({point[i] for point in found}) for i in range(3))
    assert xs == [0.1, pytest.approx(0.4), 0.7]
    assert rates == [1e-3, pytest.approx(0.1), pytest.approx(10.0), 1e3]
    assert steps == [0.0, 1.0]


def test_one_number_of_levels_is_for_all() -> None:
    assert len(points(GridOptimizer({"x": (0.0, 1.0), "y": (0.0, 1.0)}, LOSS, levels=3))) == 9
    assert len(points(GridOptimizer({"x": (0.0, 1.0)}, LOSS))) == 10


@pytest.mark.parametrize(
    ("levels", "match"),
    [
        (1, "levels= of 'x' is a whole number, at least 2, not 1"),
        (2.5, "at least 2, not 2.5"),
        ({"x": 3}, r"\['x', 'y'\], not for \['x'\]"),
        ({"x": 3, "y": 3, "n": 3}, r"not for \['n', 'x', 'y'\]"),
    ],
)
def test_bad_levels_are_refused(levels: Any, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        GridOptimizer({"x": (0.0, 1.0), "y": (0.0, 1.0), "n": (1, 3)}, LOSS, levels=levels)


def test_with_duplicates_it_begins_again() -> None:
    grid = GridOptimizer({"a": (1, 3)}, LOSS, duplicates=True)

    assert [treatment.params["a"] for treatment in grid.ask(7)] == [1, 2, 3, 1, 2, 3, 1]


def test_the_end_says_how_to_begin_again() -> None:
    grid = GridOptimizer({"a": (1, 3)}, LOSS)
    grid.ask(3)

    with pytest.raises(SpaceExhausted, match="duplicates=True"):
        grid.ask()
