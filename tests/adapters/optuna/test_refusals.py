"""What a sampler cannot search is refused when the optimizer is built, by the parameter's name."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.samplers import (
    BaseSampler,
    BruteForceSampler,
    GPSampler,
    GridSampler,
    PartialFixedSampler,
    TPESampler,
)

from crystallize_opt import Constant, Float, Integer, Ordinal, SearchSpace, SpaceExhausted
from crystallize_opt.adapters import GridOptimizer, OptunaOptimizer, RandomOptimizer
from crystallize_opt.errors import UnsupportedSpaceError, UsageError
from crystallize_opt.space.parameter import Parameter
from tests.adapters.optuna.native import LOSS, SAMPLERS
from tests.adapters.parity import search

# Optuna marks whole samplers and pruners as experimental; that is no fault of a test.
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def bowl_of(name: str, parameter: Parameter) -> dict[str, Any]:
    return {"x": (0.0, 1.0), name: parameter}


@pytest.mark.parametrize("name", SAMPLERS)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_range_is_searched_or_refused(name: str, data: st.DataObject) -> None:
    """However wide or narrow: no error and no warning comes out of a search."""
    numbers = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(
        [-1e308, 1e308, 5e-324, 2.0**48, -(2.0**53), 2.0**48 - 1, sys.float_info.min, 0.0]
    )
    low, high = sorted(data.draw(st.lists(numbers, min_size=2, max_size=2, unique=True)))
    whole = data.draw(st.booleans())
    parameter = Integer(math.floor(low), math.ceil(high)) if whole else Float(low, high)
    try:
        optimizer = OptunaOptimizer(
            bowl_of("wide", parameter), LOSS, sampler=SAMPLERS[name](0), duplicates=True
        )
    except UnsupportedSpaceError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert "'wide'" in refusal and "RandomOptimizer" in refusal  # noqa: PT018
        return
    for _ in range(13):
        (treatment,) = optimizer.ask()
        optimizer.space.validate(treatment.params)
        optimizer.tell({"loss": math.atan(treatment.params["wide"])})


@pytest.mark.parametrize("make", [RandomOptimizer, GridOptimizer])
@pytest.mark.parametrize("wide", [Float(-1e308, 1e308), Integer(0, 2**64)])
def test_the_optimizers_that_the_refusal_names_take_it(make: Any, wide: Parameter) -> None:
    with pytest.raises(UnsupportedSpaceError, match=make.__name__):
        OptunaOptimizer(bowl_of("wide", wide), LOSS, seed=0)
    optimizer = make(bowl_of("wide", wide), LOSS, seed=0)
    optimizer.space.validate(optimizer.ask()[0].params)


@pytest.mark.parametrize(
    ("sampler", "parameter"),
    [
        (lambda: GPSampler(seed=0), Integer(0, 2**32 - 1)),
        (lambda: GPSampler(seed=0), Integer(1, 2**31, log=True)),
        (lambda: GPSampler(seed=0), Float(0, 1, step=1e-9)),
        (lambda: PartialFixedSampler({"x": 1}, GPSampler(seed=0)), Integer(0, 2**32 - 1)),
        (lambda: BruteForceSampler(seed=0), Integer(0, 2**32 - 1)),
    ],
)
def test_a_sampler_that_lists_all_values_refuses_billions(
    sampler: Callable[[], BaseSampler], parameter: Parameter
) -> None:
    space = {"x": Ordinal([0.5, 0.75]), "seed": parameter}

    with pytest.raises(UnsupportedSpaceError, match=r"'seed'.*at most .*TPESampler.*can take it"):
        OptunaOptimizer(space, LOSS, sampler=sampler())
    assert len(search(OptunaOptimizer(space, LOSS, seed=0), 12)) == 12


# Samplers that carry values -------------------------------------------------------------------

SPACE = SearchSpace(
    {
        "n": Integer(0, 9),
        "rate": Float(0.0, 1.0, step=0.1),
        "size": Ordinal(["s", "m"]),
        "kind": ["a", "b"],
        "always": Constant(1),
    }
)
VALUES: dict[str, list[Any]] = {"n": [0, 5], "rate": [0, 0.3], "size": [0, 1], "kind": ["b"]}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"n": [99, 0]}, r"'n': 99 is not in"),
    ({"n": [2.5]}, r"'n': 2.5 is not in"),
    ({"rate": [0.15]}, "'rate': 0.15 is not on the grid"),
    ({"kind": ["c"]}, "'kind': 'c'"),
    ({"size": ["s"]}, r"'s' for 'size'.*index.*0 to 1"),
    ({"size": [2]}, r"2 for 'size'.*index.*0 to 1"),
    ({"size": [True]}, r"True for 'size'.*index"),
    ({"always": [1]}, "'always', which is not searched"),
    ({"typo": [1]}, r"'typo', which is not searched. The space has: 'n', 'rate'"),
]


@pytest.mark.parametrize(("wrong", "match"), WRONG)
def test_values_outside_of_the_space_are_refused(wrong: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        OptunaOptimizer(SPACE, LOSS, sampler=GridSampler(VALUES | wrong, seed=0))
    fixed = {name: values[0] for name, values in wrong.items()}
    with pytest.raises(UsageError, match=match):
        OptunaOptimizer(SPACE, LOSS, sampler=PartialFixedSampler(fixed, TPESampler(seed=0)))


def test_a_grid_needs_values_for_each_parameter_that_is_not_fixed() -> None:
    grid: dict[str, Any] = {name: VALUES[name] for name in ("n", "rate", "size")}

    with pytest.raises(UsageError, match=r"the space also has 'kind'"):
        OptunaOptimizer(SPACE, LOSS, sampler=GridSampler(grid, seed=0))
    sampler = PartialFixedSampler({"kind": "a"}, GridSampler(grid, seed=0))
    points = search(OptunaOptimizer(SPACE, LOSS, sampler=sampler), 20)
    assert {point["kind"] for point in points} == {"a"}
    assert len(points) == 8


def test_the_values_of_a_grid_come_as_values_of_the_space() -> None:
    optimizer = OptunaOptimizer(SPACE, LOSS, sampler=GridSampler(VALUES, seed=0))
    points = search(optimizer, 20)

    assert len(points) == 8
    on_grid = [value for value in SPACE["rate"].values() if value == pytest.approx(0.3)]
    assert {point["rate"] for point in points} == {0.0, *on_grid}
    assert {type(point["rate"]) for point in points} == {float}
    assert {point["size"] for point in points} == {"s", "m"}


def test_a_grid_skips_points_that_violate_a_constraint_and_ends() -> None:
    space = SearchSpace({"n": (0, 29), "rate": (0.0, 1.0)}, constraints=["n + 10*rate <= 9"])
    grid: dict[str, Any] = {"n": list(range(30)), "rate": [0.0, 0.5]}
    optimizer = OptunaOptimizer(space, LOSS, sampler=GridSampler(grid, seed=0))
    points = search(optimizer, 60)

    assert sorted((p["n"], p["rate"]) for p in points) == sorted(
        (n, rate) for n in range(30) for rate in (0.0, 0.5) if n + 10 * rate <= 9
    )
    with pytest.raises(SpaceExhausted):
        optimizer.ask()
