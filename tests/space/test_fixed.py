"""Fixed parameters and default values."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from crystallize_opt import (
    Categorical,
    Constant,
    Float,
    Integer,
    LinearConstraint,
    Ordinal,
    SearchSpace,
)
from crystallize_opt.errors import InvalidParametersError, SpaceError
from crystallize_opt.space.parameter import same_value
from tests.strategies import seeds, spaces


def test_the_defaults_are_a_point() -> None:
    space = SearchSpace(
        {
            "z": Constant(0).when(b=None, k=3),
            "a": (0, 1),
            "b": Categorical((None, 1), default=None),
            "k": Constant(3),
            "inactive": Float(0, 1, default=0.5).when(b=1),
            "unknown": Float(0, 1, default=0.5).when(a=1),
            "below": Float(0, 1, default=0.5).when(unknown_parent=True),
            "unknown_parent": Categorical([True, False]),
        }
    )
    assert [*space.defaults().items()] == [("b", None), ("k", 3), ("z", 0)]
    space.defaults()["b"] = 1
    assert space.defaults()["b"] is None


@given(spaces(constraints=False), seeds)
def test_defaults_can_be_completed(space: SearchSpace, seed: int) -> None:
    point = space.validate(space.fixed(space.defaults()).sample(seed))
    assert same_value({name: point[name] for name in space.defaults()}, space.defaults())


@given(spaces(), st.data())
def test_points_of_a_fixed_space_are_points_of_the_space(
    space: SearchSpace, data: st.DataObject
) -> None:
    whole = space.sample(data.draw(seeds))
    names = data.draw(st.sets(st.sampled_from(sorted(whole)))) if whole else set()
    some = {name: whole[name] for name in names}
    try:
        fixed = space.fixed(some)
        point = fixed.sample(data.draw(seeds))
    except SpaceError:  # Few or no other points satisfy the constraints.
        assume(not space.constraints)
        raise

    assert same_value(space.validate(point), point)
    for name, value in some.items():
        # It may be a child of a parent that is not fixed.
        assert name not in point or same_value(point[name], value)
        assert fixed[name].size == 1
    # All that is left can be active, and what is left out cannot.
    assert not set(whole).difference(fixed)
    assert same_value(fixed.validate(whole), whole)
    assert fixed.fixed(some) == fixed


def test_a_fixed_space() -> None:
    space = SearchSpace(
        {
            "kind": Categorical(["a", "b", "c"], default="b"),
            "size": Ordinal([1, 2]),
            "n": Integer(1, 9, log=True),
            "x": Float(0.0, 1.0, step=0.1, default=0.5),
            "my-name": Float(1e-3, 1.0, log=True),
            "k": Constant((1, 2)),
            "of a": Float(0.0, 1.0).when(kind="a"),
            "of a, too": Categorical([True, False]).when(kind={"a", "b"}),
            "below": Integer(0, 1).when(**{"of a, too": True}, kind="a"),
            "of n": Float(0.0, 1.0).when(n={1, 2}),
            "of x": Float(0.0, 1.0).when(x={0.0, 0.3}),
        },
        ["n + x <= 9", LinearConstraint({"of a": 1.0, "x": 1.0}, 1.5)],
    )

    fixed = space.fixed({"my-name": 1, "of a, too": True}, kind="b", size=2, n=2.0, x=0.1 + 0.2)

    assert fixed == SearchSpace(
        {
            "kind": Constant("b"),
            "size": Constant(2),
            "n": Integer(2, 2, default=2),
            "x": Float(0.1 + 0.2, 0.1 + 0.2, default=0.1 + 0.2),
            "my-name": Float(1.0, 1.0, default=1.0),
            "k": Constant((1, 2)),
            "of a, too": Constant(True).when(kind="b"),
            "of n": Float(0.0, 1.0).when(n=2),
            "of x": Float(0.0, 1.0).when(x=0.1 + 0.2),
        },
        ["n + x <= 9"],
    )
    assert fixed.defaults() == {
        "kind": "b",
        "size": 2,
        "n": 2,
        "x": 0.1 + 0.2,
        "my-name": 1.0,
        "k": (1, 2),
        "of a, too": True,
    }
    assert space.fixed() == space.fixed({}) == space
    assert space.fixed(kind="a", n=5).names == tuple(n for n in space.names if n != "of n")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"y": 1}, "Unknown parameter 'y'. The space has: 'kind', 'x', 'child', 'grandchild'"),
        ({"x": 2.0}, "Parameter 'x': 2.0 is not in"),
        ({"x": True}, "Parameter 'x': True is not in"),
        ({"kind": "c"}, "Parameter 'kind': 'c' is not one of the choices"),
        ({"kind": "a", "child": 1}, "'child' cannot be fixed to 1: it needs kind in .'b',."),
        (
            {"grandchild": 1, "child": 1},
            "'grandchild' cannot be fixed to 1: it needs child in .2,.",
        ),
        ({"kind": "a", "grandchild": 1}, "'grandchild' cannot be fixed to 1: it needs child in"),
    ],
)
def test_values_that_cannot_be_fixed_are_refused(values: dict[str, Any], message: str) -> None:
    space = SearchSpace(
        {
            "kind": ["a", "b"],
            "x": (0.0, 1.0),
            "child": Integer(1, 2).when(kind="b"),
            "grandchild": Constant(1).when(child=2),
        }
    )
    with pytest.raises(InvalidParametersError, match=message):
        space.fixed(values)


def test_values_that_violate_a_constraint_are_refused() -> None:
    space = SearchSpace({"a": (0.0, 1.0), "b": (0.0, 1.0)}, ["a + b <= 1"])
    assert space.fixed(a=0.5).sample(0)["b"] <= 0.5
    with pytest.raises(SpaceError, match="can never hold"):
        space.fixed(a=1.0, b=0.5)
