"""Every kind of parameter, condition and constraint, on the way to SMAC and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from ConfigSpace.util import get_one_exchange_neighbourhood
from hypothesis import given, settings
from hypothesis import strategies as st
from smac import (
    AlgorithmConfigurationFacade,
    BlackBoxFacade,
    HyperparameterOptimizationFacade,
    RandomFacade,
)

from crystallize_opt import (
    Categorical,
    Constant,
    Float,
    Integer,
    Observation,
    Ordinal,
    SearchSpace,
    SpaceExhausted,
    Treatment,
)
from crystallize_opt.adapters import SMACOptimizer
from crystallize_opt.adapters.smac import components
from crystallize_opt.adapters.smac.space import SearchedSpace
from crystallize_opt.errors import UnsupportedSpaceError
from tests.adapters.parity import exactly, search
from tests.adapters.smac.native import FEW_CANDIDATES, LOSS, SQUARE, Facade
from tests.strategies import points, spaces

# Values ----------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(data=st.data())
def test_every_configuration_is_a_point_of_the_space(data: st.DataObject) -> None:
    """Also the neighbours, of which local search makes its suggestions."""
    space = data.draw(spaces())
    searched = SearchedSpace(space)
    searched.configspace.seed(data.draw(st.integers(0, 99)))
    sampled = searched.configspace.sample_configuration(8)
    neighbours = [
        neighbour
        for configuration in sampled[:3]
        for neighbour in get_one_exchange_neighbourhood(configuration, seed=1, num_neighbors=2)
        if components._is_allowed(neighbour)
    ]
    for configuration in [*sampled, *neighbours]:
        point = searched.params(configuration)
        assert exactly([space.validate(point)]) == exactly([point])


@settings(max_examples=40)
@given(data=st.data())
def test_every_point_is_a_configuration(data: st.DataObject) -> None:
    space = data.draw(spaces())
    searched = SearchedSpace(space)
    point = space.validate(data.draw(points(space)))
    again = searched.params(searched.configuration(point))

    assert list(again) == list(point)
    for name, value in point.items():
        if isinstance(space[name], Float) and space[name].size == math.inf:
            width = space[name].high - space[name].low  # type: ignore[attr-defined]
            assert again[name] == pytest.approx(value, rel=1e-6, abs=1e-9 * width)
        else:
            assert space[name].identity(again[name]) == space[name].identity(value)


@pytest.mark.parametrize(
    "parameter",
    [
        Float(1e-20, 1e-10, log=True),
        Float(5e-324, 1e308, log=True),
        Float(0.0, 1e-12),
        Float(-1e308, 1e308),
        Float(1.0, 1.0 + 1e-14),
        Float(1e15, 1e15 + 1.0),
        Float(1 / 3, 2 / 3),
        Integer(0, 2**53),
        Integer(2**60, 2**60 + 9),
        Integer(1, 2**53, log=True),
        Integer(-(10**18), 10**18, step=10**9),
        Float(0.0, 1e9, step=1e-3),
    ],
    ids=repr,
)
def test_ranges_of_any_size(parameter: Float | Integer) -> None:
    optimizer = SMACOptimizer(
        {"p": parameter}, LOSS, seed=0, n_init=4, facade_options=FEW_CANDIDATES
    )
    found = [point["p"] for point in search(optimizer, 6)]

    for value in found:
        assert type(value) is (float if isinstance(parameter, Float) else int)
        parameter.canonical(value)
    assert len(set(found)) > 2
    optimizer.attach(Observation(Treatment("high", {"p": parameter.high}), {"loss": 0.0}))
    if parameter.log:
        logs = sorted(math.log(value) for value in found)
        assert logs[0] < (math.log(parameter.low) + math.log(parameter.high)) / 2 < logs[-1]


def test_what_configspace_cannot_hold_is_refused_by_name() -> None:
    for parameter in (Integer(0, 2**64), Integer(1, 2**60, log=True)):
        with pytest.raises(UnsupportedSpaceError, match=r"'seed'.*2\*\*53.*RandomOptimizer"):
            SMACOptimizer({"x": (0.0, 1.0), "seed": parameter}, LOSS)


def test_values_of_a_grid_are_exact() -> None:
    space = {"x": Float(0.0, 0.3, step=0.1), "n": Integer(10, 50, step=20)}
    found = search(SMACOptimizer(space, LOSS, seed=0), 12)

    assert {point["x"] for point in found} == {0.0, 0.1, 0.2, 0.3}
    assert {point["n"] for point in found} == {10, 30, 50}


def test_choices_are_the_users_own_objects() -> None:
    class Unhashable:
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            raise TypeError

    choices = [None, True, 1, 1.0, "1", (1, 2), [3], {"k": 1}, Unhashable(), np.zeros(2)]
    space = {"c": Categorical(choices), "o": Ordinal(choices), "k": Constant(choices[-2])}
    found = search_points(SMACOptimizer(space, LOSS, seed=0, n_trials=160), 40)

    for name in ("c", "o"):
        seen = {id(point[name]) for point in found}
        assert seen == {id(choice) for choice in choices}
    assert all(point["k"] is choices[-2] for point in found)


def search_points(optimizer: SMACOptimizer, count: int) -> list[Mapping[str, Any]]:
    return [treatment.params for treatment in optimizer.ask(count)]


def test_defaults_are_kept() -> None:
    space = {
        "x": Float(0.0, 1.0, default=0.25),
        "tiny": Float(1e-20, 1e-10, log=True, default=1e-15),
        "n": Integer(1, 9, default=2),
        "grid": Float(0.0, 1.0, step=0.1, default=0.3),
        "kind": Categorical(["a", "b"], default="b"),
    }
    optimizer = SMACOptimizer(space, LOSS, seed=0, facade=AlgorithmConfigurationFacade)
    (treatment,) = optimizer.ask()

    assert dict(treatment.params) == {
        "x": 0.25,
        "tiny": pytest.approx(1e-15),
        "n": 2,
        "grid": 0.3,
        "kind": "b",
    }


def test_a_parameter_that_can_never_be_active_is_no_obstacle() -> None:
    space = {
        "kind": ["a", "b"],
        "x": Integer(1, 3).when(kind="a"),
        "never": Float(0.0, 1.0).when(kind="b", x=1),
        "nor": Float(0.0, 1.0).when(kind="b", x=1),
    }
    given_space = SearchSpace(space, ["never + nor <= 1"])
    found = search(SMACOptimizer(given_space, LOSS, seed=0), 4)

    assert len(found) == 4
    assert {tuple(point) for point in found} == {("kind",), ("kind", "x")}


@pytest.mark.parametrize("kind", [HyperparameterOptimizationFacade, BlackBoxFacade, RandomFacade])
@pytest.mark.parametrize("space", [{"k": Constant(None)}, {"x": (2.5, 2.5), "c": ["a"]}])
def test_a_space_of_one_point(kind: Facade, space: dict[str, Any]) -> None:
    optimizer = SMACOptimizer(space, LOSS, seed=0, facade=kind)

    assert search(optimizer, 3) == [SearchSpace(space).sample(0)]


# Constraints -----------------------------------------------------------------------------------


@pytest.mark.slow
@settings(max_examples=25)
@given(data=st.data())
def test_suggestions_are_points_of_the_space(data: st.DataObject) -> None:
    """Of any space, with conditions and constraints, while the loss is a plateau."""
    space = data.draw(spaces())
    optimizer = SMACOptimizer(space, LOSS, seed=0, n_init=2)
    asked = 0
    while asked < 6:
        try:
            (treatment,) = optimizer.ask()
        except SpaceExhausted:
            break
        point = dict(treatment.params)
        assert exactly([space.validate(point)]) == exactly([point])
        optimizer.tell({"loss": float(asked == 0)})
        asked += 1
    assert optimizer.facade.runhistory.running == 0


def test_points_without_a_neighbour_are_searched() -> None:
    """Of a mixture, no share can change alone: local search finds nothing at all."""
    space = SearchSpace({"a": (0, 9), "b": (0, 9)}, ["a + b <= 9", "a + b >= 9"])
    optimizer = SMACOptimizer(space, LOSS, seed=0, n_init=2, facade_options=FEW_CANDIDATES)
    assert len(search(optimizer, 20)) == 10


@pytest.mark.parametrize(
    ("space", "constraint"),
    [
        pytest.param({"a": (0.0, 1.0), "b": (0.0, 1.0)}, "a + b <= 0.1", marks=pytest.mark.slow),
        pytest.param(
            {"a": (1, 20), "b": (1, 20), "c": (1, 20)}, "2*a + b - c <= 5", marks=pytest.mark.slow
        ),
        ({"a": Float(0, 1, step=0.1), "b": Float(0, 1, step=0.1)}, "a + b <= 0.3"),
        pytest.param(
            {"a": Float(1e-20, 1e-10, log=True), "b": Float(1e-20, 1e-10, log=True)},
            "a <= b",
            marks=pytest.mark.slow,
        ),
        pytest.param({"a": (0.0, 1.0), "b": (0.0, 1.0)}, "a >= 0.9", marks=pytest.mark.slow),
        pytest.param({"a": (0.0, 1.0), "b": (0.5, 0.5)}, "a <= b", marks=pytest.mark.slow),
        ({"a": (0.0, 1.0), "b": Float(0.0, 1.0).when(k=1), "k": [1, 2]}, "a + b <= 0.5"),
    ],
)
def test_linear_constraints_hold_where_the_loss_pulls_against_them(
    space: dict[str, Any], constraint: str
) -> None:
    optimizer = SMACOptimizer(
        SearchSpace(space, [constraint]), LOSS, seed=0, n_init=4, facade_options=FEW_CANDIDATES
    )
    for _ in range(8):
        (treatment,) = optimizer.ask()
        optimizer.space.validate(treatment.params)
        optimizer.tell({"loss": -float(treatment.params["a"])})
    assert optimizer.facade.runhistory.finished == 8  # nothing else was asked for


@pytest.mark.slow
def test_a_constrained_optimum_is_found() -> None:
    """On the border, where half of the neighbours are forbidden."""
    space = SearchSpace(SQUARE, ["x + y <= 1"])
    optimizer = SMACOptimizer(space, LOSS, seed=0, n_init=5, facade=BlackBoxFacade)
    for _ in range(15):
        (treatment,) = optimizer.ask()
        x, y = treatment.params["x"], treatment.params["y"]
        optimizer.tell({"loss": (x - 0.9) ** 2 + (y - 0.6) ** 2})

    best = optimizer.get_best_treatment().params
    assert (best["x"] - 0.65) ** 2 + (best["y"] - 0.35) ** 2 < 0.002
