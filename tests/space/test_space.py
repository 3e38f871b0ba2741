"""The search space: its points, their validation and keys, and conditions."""

from __future__ import annotations

import itertools
import math
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystallize_opt import Categorical, Constant, Float, Integer, LinearConstraint, SearchSpace
from crystallize_opt.errors import InvalidParametersError, SpaceError
from crystallize_opt.space.parameter import same_value
from crystallize_opt.space.space import as_space
from tests.strategies import Blob, points, seeds, spaces

# A second definition of what a point is -------------------------------------------------------


def is_active(space: SearchSpace, name: str, values: Mapping[str, Any]) -> bool:
    """Whether a parameter is active, given values of all parameters, active or not."""
    return all(
        is_active(space, condition.parent, values)
        and any(same_value(values[condition.parent], value) for value in condition.values)
        for condition in space[name].conditions
    )


def holds(constraint: LinearConstraint, params: Mapping[str, Any]) -> bool:
    if not all(name in params for name in constraint.coefficients):
        return True
    terms = [factor * params[name] for name, factor in constraint.coefficients.items()]
    slack = 1e-9 * (sum(map(abs, terms)) + abs(constraint.bound))
    return bool(math.fsum(terms) <= constraint.bound + slack)


def all_points(space: SearchSpace) -> list[dict[str, Any]]:
    """Return the different points of a finite space, by going through all values."""
    found: list[dict[str, Any]] = []
    for values in itertools.product(*(list(parameter.values()) for parameter in space.values())):
        everything = dict(zip(space.names, values, strict=True))
        point = {n: v for n, v in everything.items() if is_active(space, n, everything)}
        if all(holds(each, point) for each in space.constraints) and not contains(found, point):
            found.append(point)
    return found


def contains(found: list[dict[str, Any]], point: dict[str, Any]) -> bool:
    return any(same_value(point, other) for other in found)


# Points ----------------------------------------------------------------------------------------


@given(spaces(), seeds)
def test_a_sample_is_a_point(space: SearchSpace, seed: int) -> None:
    point = space.sample(seed)

    assert list(point) == [name for name in space.names if name in point]
    for name, parameter in space.items():
        parents_hold = all(
            condition.parent in point and condition.holds(point[condition.parent])
            for condition in parameter.conditions
        )
        assert (name in point) is parents_hold
        if name in point and isinstance(parameter, (Float, Integer)):
            assert type(point[name]) is (float if isinstance(parameter, Float) else int)
            assert parameter.low <= point[name] <= parameter.high
        elif name in point:
            assert any(point[name] is value for value in parameter.values())
    assert all(holds(constraint, point) for constraint in space.constraints)
    assert same_value(space.validate(point), point)


@given(spaces(), seeds)
def test_a_seed_gives_the_same_sample_in_every_form(space: SearchSpace, seed: int) -> None:
    point = space.sample(seed)
    assert same_value(space.sample(random.Random(seed)), point)
    assert same_value(space.sample(np.int64(seed)), point)


@pytest.mark.parametrize("make", [random.Random, np.random.default_rng, np.random.RandomState])
def test_every_random_source_samples_plain_values(make: Any) -> None:
    space = SearchSpace(
        {
            "x": Float(1e-3, 1.0, log=True),
            "y": Float(0, 1, step=0.1),
            "k": Integer(1, 10**9, log=True),
            "n": (0, 10**9),
            "c": ["a", True, 1],
        }
    )
    rng, again = make(7), make(7)
    drawn = [space.sample(rng) for _ in range(20)]
    assert drawn == [space.sample(again) for _ in range(20)]
    assert len({space.key(point) for point in drawn}) == 20
    for point in drawn:
        types = {name: type(value) for name, value in point.items()}
        assert types.pop("c") in (str, bool, int)
        assert types == {"x": float, "y": float, "k": int, "n": int}


def test_without_a_seed_samples_differ() -> None:
    space = SearchSpace({"x": (0.0, 1.0)})
    assert space.sample() != space.sample()


def test_sampling_leaves_the_global_random_state_alone() -> None:
    before = random.getstate(), pickle.dumps(np.random.get_state())
    SearchSpace({"x": (0.0, 1.0)}).sample(0)
    SearchSpace({"x": (0.0, 1.0)}).sample()
    assert (random.getstate(), pickle.dumps(np.random.get_state())) == before


IN_ANOTHER_PROCESS = """
from crystallize_opt import Categorical, Float, Integer, SearchSpace
space = SearchSpace(
    {
        "x": Float(0.0, 1.0).when(kind={"a", "b", "c"}, n={1, 2, 3}),
        "kind": ["a", "b", "c", "d"],
        "n": Integer(1, 4),
        "val-loss": Float(1e-3, 1.0, log=True).when(kind={"d", "c"}),
    },
    constraints=["x <= n / 4"],
)
print(space, space.to_dict(), [space.sample(seed) for seed in range(20)])
"""


def test_another_process_samples_the_same() -> None:
    texts = {
        subprocess.run(  # noqa: S603
            [sys.executable, "-c", IN_ANOTHER_PROCESS],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "1", "2")
    }
    assert len(texts) == 1
    assert "val-loss" in texts.pop()


@given(spaces(finite=True, max_size=4))
def test_points_gives_each_point_once(space: SearchSpace) -> None:
    expected = all_points(space)
    found = list(space.points())
    assert len(found) == len(expected)
    assert all(contains(found, point) for point in expected)
    assert len({space.key(point) for point in found}) == len(found)
    assert all(same_value(space.validate(point), point) for point in found)
    if space.is_conditional or space.constraints:
        assert len(found) <= space.size
    else:
        assert len(found) == space.size


def test_points_come_in_order_and_lazily() -> None:
    space = SearchSpace({"a": ["x", "y"], "n": (1, 3)})
    assert [tuple(p.values()) for p in space.points()] == [
        ("x", 1), ("x", 2), ("x", 3), ("y", 1), ("y", 2), ("y", 3),
    ]  # fmt: skip
    huge = SearchSpace({"n": (0, 10**9), "m": (0, 10**9)})
    assert list(itertools.islice(huge.points(), 2)) == [{"n": 0, "m": 0}, {"n": 0, "m": 1}]


def test_points_of_a_continuous_parameter_need_levels() -> None:
    space = SearchSpace({"x": (0.0, 1.0), "flag": [True, False]})
    with pytest.raises(SpaceError, match=r"Parameter 'x', .* has no finite set of values"):
        space.points()
    assert len(list(space.points({"x": [0.0, 0.5, 1.0]}))) == 6


@given(spaces())
def test_size_is_the_product_of_the_sizes(space: SearchSpace) -> None:
    continuous = any(parameter.size == math.inf for parameter in space.values())
    assert (space.size == math.inf) is continuous
    if not continuous:
        assert space.size == math.prod(int(parameter.size) for parameter in space.values())


def test_the_size_of_many_wide_ranges_is_no_overflow() -> None:
    wide = {f"n{i}": Integer(0, 10**9) for i in range(40)}
    assert SearchSpace(wide).size == (10**9 + 1) ** 40
    assert SearchSpace({**wide, "x": (0.0, 1.0)}).size == math.inf


# Validation ------------------------------------------------------------------------------------


@given(spaces(), st.data())
def test_a_point_with_a_parameter_more_or_less_is_refused(
    space: SearchSpace, data: st.DataObject
) -> None:
    point = data.draw(points(space))
    name = data.draw(st.sampled_from(space.names))
    if name in point:
        rest = {other: value for other, value in point.items() if other != name}
        with pytest.raises(InvalidParametersError, match="is missing"):
            space.validate(rest)
    else:
        value = space[name].sample(random.Random(0))
        with pytest.raises(InvalidParametersError, match="is inactive here: it needs"):
            space.validate({**point, name: value})


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"z": 1}, r"Unknown parameter 'z'. The space has: 'kind', 'x', 'y'."),
        ({"kind": "b"}, "Parameter 'y', .*, is missing"),
        ({"kind": "c", "y": 0.5}, "Parameter 'kind': 'c' is not one of the choices"),
        ({"kind": "b", "y": 1.5}, "Parameter 'y': 1.5 is not in"),
        ({"kind": "b", "x": 1.0, "y": 0.5}, r"'x' is inactive here: it needs kind in \['a'\]"),
        ({"kind": "a", "x": 0.5, "y": 0.75}, "violates LinearConstraint"),
    ],
)
def test_the_message_says_what_is_wrong_with_a_point(params: Any, message: str) -> None:
    space = SearchSpace(
        {"kind": ["a", "b"], "x": Float(0, 1).when(kind="a"), "y": (0.0, 1.0)},
        constraints=["x + y <= 1"],
    )
    assert space.validate({"kind": "a", "x": 0.5, "y": 0.5})
    assert space.validate({"kind": "b", "y": 0.75})
    with pytest.raises(InvalidParametersError, match=message):
        space.validate(params)


def test_validate_gives_plain_values_in_the_order_of_the_space() -> None:
    space = SearchSpace({"n": (0, 9), "x": (0.0, 1.0), "c": ["a", Blob(1)]})
    given_ = {"c": np.str_("a"), "x": np.float32(0.5), "n": np.int64(3)}
    point = space.validate(given_)
    assert list(point.items()) == [("n", 3), ("x", 0.5), ("c", "a")]
    assert [type(value) for value in point.values()] == [int, float, str]
    assert list(given_) == ["c", "x", "n"]
    assert space.validate({**point, "c": Blob(1)})["c"] is space["c"].choices[1]  # type: ignore[attr-defined]


# Keys ------------------------------------------------------------------------------------------


@given(spaces(finite=True, constraints=False), st.data())
def test_keys_are_equal_where_points_are(space: SearchSpace, data: st.DataObject) -> None:
    one, other = data.draw(points(space)), data.draw(points(space))
    assert (space.key(one) == space.key(other)) is same_value(one, other)
    assert space.key(one) == space.key(dict(one))
    assert hash(space.key(one)) == hash(space.key(dict(one)))


def test_keys_of_choices_that_compare_equal_differ() -> None:
    values = [None, True, 1, 1.0, (1,), (True,), [1], [True]]
    space = SearchSpace({"a": values, "b": ["x"]})
    assert len({space.key(point) for point in space.points()}) == len(values)


def test_a_number_beside_the_grid_by_rounding_is_the_same_point() -> None:
    space = SearchSpace({"x": Float(0, 1, step=0.1), "y": Float(0, 1, step=0.1).when(x={0.3, 0.7})})
    beside = 3 * 0.1  # 0.30000000000000004, as backends compute it
    point = space.validate({"x": beside, "y": 7 * 0.1})
    assert point == {"x": beside, "y": 7 * 0.1}
    assert space.key(point) == space.key({"x": 0.3, "y": 0.7})
    assert space.key(point) != space.key({"x": 0.3, "y": 0.8})


# Conditions ------------------------------------------------------------------------------------


def test_choices_that_compare_equal_are_different_parents() -> None:
    values = [None, True, 1, 1.0]
    space = SearchSpace(
        {"a": values, **{f"b{i}": Constant(0).when(a=value) for i, value in enumerate(values)}}
    )
    points_ = list(space.points())
    assert len(points_) == 4
    for i, value in enumerate(values):
        assert same_value(points_[i], {"a": value, f"b{i}": 0})
        assert space.validate(points_[i]) == points_[i]


def test_children_are_moved_behind_their_parents_and_the_rest_keeps_its_order() -> None:
    space = SearchSpace(
        {
            "z": (0.0, 1.0),
            "c": Float(0, 1).when(b=1),
            "y": (0.0, 1.0),
            "b": Integer(0, 1).when(a="on"),
            "a": ["on", "off"],
        }
    )
    assert space.names == ("z", "a", "b", "c", "y")
    assert space.is_conditional
    assert not SearchSpace({"x": (0, 1)}).is_conditional


def test_a_grandchild_needs_its_parent_to_be_active() -> None:
    space = SearchSpace(
        {
            "a": ["on", "off"],
            "b": Integer(0, 1).when(a="on"),
            "c": Float(0, 1).when(b={0, 1}),
        }
    )
    assert space.validate({"a": "off"}) == {"a": "off"}
    with pytest.raises(InvalidParametersError, match="'c' is inactive here"):
        space.validate({"a": "off", "c": 0.5})


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"x": Float(0, 1).when(y=1)}, "'x' depends on 'y', which is not in the space.* has: 'x'"),
        (
            {"x": Float(0, 1).when(y="c"), "y": ["a", "b"]},
            "'x' depends on 'y'='c': 'c' is not one of the choices",
        ),
        (
            {"x": Float(0, 1).when(y=["a", "b"]), "y": ["a", "b"]},
            r"'x' depends on 'y'=.*Several values are a set: when\(y=\{'a', 'b'\}\)",
        ),
        ({"x": Float(0, 1).when(y=True), "y": [1, 2]}, "'x' depends on 'y'=True"),
        ({"x": Float(0, 1).when(y=11), "y": (0, 10)}, "'x' depends on 'y'=11: 11 is not in"),
        ({"x": Float(0, 1).when(y=3.0), "y": (0, 10)}, "'x' depends on 'y'=3.0; write 3"),
        (
            {"x": Float(0, 1).when(y=1), "y": Float(0, 2, step=1)},
            "'x' depends on 'y'=1; write 1.0",
        ),
        (
            {"x": Float(0, 1).when(y=0.5), "y": (0.0, 1.0)},
            "'x' depends on 'y', .* A parent has a finite set",
        ),
        ({"x": Integer(0, 1).when(x=1)}, "conditions form a cycle: x -> x"),
        (
            {
                "w": (0, 1),
                "x": Integer(0, 1).when(z=1),
                "y": Integer(0, 1).when(x=1, w=1),
                "z": Integer(0, 1).when(y=1),
            },
            "conditions form a cycle: x -> z -> y -> x",
        ),
    ],
)
def test_conditions_that_make_no_sense_are_refused(parameters: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        SearchSpace(parameters)


# The space itself ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ([("a", (0, 1))], "takes a mapping of names to parameters"),
        ({1: (0, 1)}, "name is a non-empty string, not 1"),
        ({"": (0, 1)}, "name is a non-empty string, not ''"),
        ({"a": "text"}, "Parameter 'a': 'text' is not a parameter"),
        ({"a": (1, 0)}, r"Parameter 'a': Integer\(1, 0\): low is greater than high"),
        ({"a": []}, "Parameter 'a': Categorical needs at least one choice"),
    ],
)
def test_an_ill_defined_space_is_refused(parameters: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        SearchSpace(parameters)


def test_a_space_is_a_read_only_mapping() -> None:
    parameters = {"a": (0, 1), "b": ["x"]}
    space = SearchSpace(parameters)
    assert dict(space) == {"a": Integer(0, 1), "b": Categorical(("x",))}
    assert len(space) == 2
    assert "a" in space
    assert parameters == {"a": (0, 1), "b": ["x"]}
    parameters["c"] = (0, 1)
    assert space.names == ("a", "b")
    with pytest.raises(TypeError):
        space["a"] = Integer(0, 2)  # type: ignore[index]
    assert as_space(space) is space
    assert as_space({"a": (0, 1), "b": ["x"]}) == space


def test_spaces_that_differ_in_one_thing_are_not_equal() -> None:
    parameters = {"a": Float(0, 1), "b": Integer(1, 2)}
    space = SearchSpace(parameters, ["a <= b"])
    assert space == SearchSpace(dict(parameters), ["a - b <= 0"])
    assert space != SearchSpace(parameters)
    assert space != SearchSpace(parameters, ["b <= a + 2"])
    assert space != SearchSpace(dict(reversed(parameters.items())), ["a <= b"])
    assert space != SearchSpace({**parameters, "b": Integer(1, 3)}, ["a <= b"])
    assert SearchSpace({"a": [1]}) != SearchSpace({"a": [True]})
    assert space != parameters
