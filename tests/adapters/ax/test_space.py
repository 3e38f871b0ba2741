"""The whole space goes to Ax, and comes back: parameters, conditions, linear constraints."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crystallize_opt import (
    Categorical,
    Constant,
    Float,
    Integer,
    Ordinal,
    SearchSpace,
    SpaceExhausted,
)
from crystallize_opt.adapters import AxOptimizer
from crystallize_opt.adapters.ax.space import AxSpace
from crystallize_opt.errors import UnsupportedSpaceError
from crystallize_opt.space.parameter import Parameter, same_value
from tests.adapters.ax.native import (
    LOSS,
    Point,
    generators_of,
    quick_strategy,
    run,
    sobol_strategy,
    statuses,
)
from tests.adapters.parity import any_loss, exactly
from tests.strategies import points, spaces


@settings(max_examples=100)
@given(data=st.data())
def test_points_come_back_from_ax_as_they_were(data: st.DataObject) -> None:
    space = data.draw(spaces())
    ax_space = AxSpace(space)
    point = data.draw(points(space))
    stored = ax_space.encode(point)

    assert set(stored) <= {config.name for config in ax_space.parameters}
    back = ax_space.decode(stored)
    assert list(back) == list(point)
    for name, value in back.items():
        parameter = space[name]
        if isinstance(parameter, Float):
            assert value == pytest.approx(point[name], rel=1e-9, abs=1e-9 * _width(parameter))
        else:
            assert same_value(value, point[name])


def _width(parameter: Float) -> float:
    return parameter.high / 2 - parameter.low / 2


@settings(max_examples=6)
@given(space=spaces(), seed=st.integers(0, 2**32 - 1))
def test_suggestions_are_points_of_generated_spaces(space: SearchSpace, seed: int) -> None:
    optimizer = AxOptimizer(space, LOSS, seed=seed, generation_strategy=sobol_strategy(seed))
    suggested: list[Point] = []
    for _ in range(4):
        try:
            (treatment,) = optimizer.ask()
        except SpaceExhausted:
            assert len(suggested) == len({space.key(p) for p in suggested})
            assert len(suggested) == sum(1 for _ in space.points())
            return
        params = dict(treatment.params)
        assert exactly([space.validate(params)]) == exactly([params])
        for value in params.values():
            assert type(value).__module__ != "numpy"
        suggested.append(params)
        optimizer.tell({"loss": any_loss(params)})
        known = optimizer.client._experiment.trials.values()
        assert all(trial.status.is_terminal for trial in known)


class Estimator:
    """A choice without a useful repr, hash or equality."""


ESTIMATOR = Estimator()


def odd_space() -> SearchSpace:
    return SearchSpace(
        {
            "E": Integer(1, 10**9),
            "lambda": Integer(1, 10**9, log=True),
            "val-loss": Float(0.0, 0.9, step=0.1),
            "größe": Float(1e-6, 1e-5, log=True),
            "a b": Categorical([None, True, 1, (1, 2), ESTIMATOR]),
            "S": Ordinal([0, None, "1"]),
            "N": Float(0.0, 1.0).when(**{"a b": None}),
            "two values": Float(0.0, 1.0).when(**{"a b": {True}}),
            "two parents": Integer(1, 5).when(S=None, **{"a b": ESTIMATOR}),
            "nested": Float(-1.0, 1.0).when(N_choice="y"),
            "N_choice": Categorical(["y", "n"]).when(S=0),
            "of a number": Float(0.0, 1.0).when(few=2),
            "few": Integer(1, 3),
            "one": Float(2.5, 2.5),
            "beta": Constant({"k": [1]}),
        }
    )


@pytest.mark.slow
def test_a_space_of_everything_goes_through_the_model() -> None:
    space = odd_space()
    optimizer = AxOptimizer(space, LOSS, seed=0, generation_strategy=quick_strategy())
    suggested = run(optimizer, 8)

    assert "BoTorch" in generators_of(optimizer)
    for params in suggested:
        assert exactly([space.validate(params)]) == exactly([params])
        assert params["val-loss"] in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    assert statuses(optimizer) == ["COMPLETED"] * 8


def test_sobol_asks_for_every_part_of_a_space_of_everything() -> None:
    space = odd_space()
    optimizer = AxOptimizer(space, LOSS, seed=0, generation_strategy=sobol_strategy())
    suggested = [dict(treatment.params) for treatment in optimizer.ask(40)]

    seen = Counter(name for params in suggested for name in params)
    assert set(seen) == set(space.names)
    assert any(params["a b"] is ESTIMATOR for params in suggested)
    assert {type(params["a b"]) for params in suggested} == {
        type(None),
        bool,
        int,
        tuple,
        Estimator,
    }
    big = [params["E"] for params in suggested]
    assert min(big) < 10**8 < 9 * 10**8 < max(big)
    logs = [math.log10(params["lambda"]) for params in suggested]
    assert 3 < sum(logs) / len(logs) < 6
    narrow = [math.log10(params["größe"]) for params in suggested]
    assert -5.7 < sum(narrow) / len(narrow) < -5.3


@pytest.mark.parametrize(
    "parameter",
    [
        Float(-1e308, 1e308),
        pytest.param(Float(0.0, 1e-9), marks=pytest.mark.slow),
        Float(1e9, 1e9 + 1e-3),
        pytest.param(Float(1e-300, 1e300, log=True), marks=pytest.mark.slow),
        Float(5e-324, 1e-300, log=True),
        pytest.param(Integer(10**18, 10**18 + 10**6), marks=pytest.mark.slow),
        Integer(-(10**30), 10**30),
        pytest.param(Integer(1, 10**200, log=True), marks=pytest.mark.slow),
        pytest.param(Integer(0, 10**12, step=10**3), marks=pytest.mark.slow),
        Categorical(list(range(1500))),
    ],
    ids=repr,
)
def test_ranges_of_any_size_reach_from_end_to_end(parameter: Parameter) -> None:
    optimizer = AxOptimizer({"p": parameter}, LOSS, seed=0, generation_strategy=quick_strategy())
    low, high = (
        (0, 1499) if isinstance(parameter, Categorical) else (parameter.low, parameter.high)  # type: ignore[attr-defined]
    )
    log = getattr(parameter, "log", False)
    scale: Callable[[Any], float] = (lambda v: math.log(v)) if log else (lambda v: v / 2)

    def position(value: Any) -> float:
        return (scale(value) - scale(low)) / (scale(high) - scale(low))

    suggested = run(optimizer, 5, lambda params: {"loss": (position(params["p"]) - 0.3) ** 2})
    positions = [position(params["p"]) for params in suggested]
    assert all(type(params["p"]) is type(low) for params in suggested)
    assert all(low <= params["p"] <= high for params in suggested)
    assert max(positions[:3]) - min(positions[:3]) > 0.2
    assert "BoTorch" in generators_of(optimizer)


def test_what_ax_cannot_hold_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedSpaceError, match=r"'huge'.*floats.*GridOptimizer"):
        AxOptimizer({"huge": Integer(1, 10**305, log=True)}, LOSS)


# Linear constraints -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("constraint", "is_axs_own"),
    [
        ("x + n <= 5", True),
        pytest.param("2*grid - x <= 1.5", True, marks=pytest.mark.slow),
        ("x + one <= 0.5", True),
        ("x + rate <= 0.5", False),
        pytest.param("x + child <= 0.5", False, marks=pytest.mark.slow),
    ],
)
def test_a_linear_constraint_is_axs_own_where_ax_can_keep_it(
    constraint: str, is_axs_own: bool
) -> None:
    """Then nothing that Ax suggests violates it; else such suggestions are abandoned."""
    space = SearchSpace(
        {
            "x": (0.0, 1.0),
            "n": (0, 10),
            "grid": Float(0.5, 2.0, step=0.5),
            "rate": Float(0.1, 1.0, log=True),
            "c": ["a", "b"],
            "child": Float(0.0, 1.0).when(c="a"),
            "one": Float(0.25, 0.25),
        },
        [constraint],
    )
    optimizer = AxOptimizer(space, LOSS, seed=0, generation_strategy=sobol_strategy())
    suggested = run(optimizer, 8)

    assert all(space.validate(params) == params for params in suggested)
    assert ("ABANDONED" not in statuses(optimizer)) is is_axs_own


@pytest.mark.parametrize("model", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_every_suggestion_satisfies_constraints_that_ax_does_not_know(model: bool) -> None:
    space = SearchSpace(
        {
            "rate": Float(1e-3, 1.0, log=True),
            "x": Float(1e-3, 1.0, log=True),
            "c": ["a", "b"],
            "child": Float(0.0, 1.0).when(c="a"),
        },
        ["rate + x >= 0.5", "child + x <= 0.7"],
    )
    strategy = quick_strategy() if model else sobol_strategy()
    optimizer = AxOptimizer(space, LOSS, seed=0, generation_strategy=strategy)
    # The best point without constraints violates one.
    suggested = run(
        optimizer,
        9 if model else 3,
        lambda p: {"loss": math.log10(p["rate"]) + math.log10(p["x"])},
    )

    assert all(space.validate(params) == params for params in suggested)
    assert ("BoTorch" in generators_of(optimizer)) is model
    assert "RUNNING" not in statuses(optimizer)
    assert "ABANDONED" in statuses(optimizer), "no suggestion was rejected: nothing is tested"


@pytest.mark.slow
def test_a_point_on_the_edge_of_a_constraint_is_inside() -> None:
    # Ax' solver is outside by up to 1e-8.
    space = SearchSpace({"x": (0.0, 1.0), "y": (0.0, 1.0)}, ["x + 0.7*y <= 0.6"])
    optimizer = AxOptimizer(space, LOSS, seed=0, generation_strategy=quick_strategy())
    suggested = run(optimizer, 9, lambda params: {"loss": -params["x"] - params["y"]})

    assert all(space.validate(params) == params for params in suggested)
    assert statuses(optimizer) == ["COMPLETED"] * 9, "a rounding was taken for a violation"
    assert max(params["x"] + 0.7 * params["y"] for params in suggested) > 0.6 - 1e-6
