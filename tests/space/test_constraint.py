"""Linear constraints: reading them, and whether they hold."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crystallize_opt import Constant, LinearConstraint, SearchSpace
from crystallize_opt.errors import SpaceError


@pytest.mark.parametrize(
    ("text", "coefficients", "bound"),
    [
        ("a <= 1", {"a": 1}, 1),
        ("a >= 1", {"a": -1}, -1),
        ("1 <= a", {"a": -1}, -1),
        ("a <= b", {"a": 1, "b": -1}, 0),
        ("a + 2*b <= 10", {"a": 1, "b": 2}, 10),
        ("  a + b*2 <=\t10 ", {"a": 1, "b": 2}, 10),
        ("a + 2*b >= 3 - c", {"a": -1, "b": -2, "c": -1}, -3),
        ("-(a - 2) / 4 <= +b", {"a": -0.25, "b": -1}, -0.5),
        ("2 * (a + 3*(b - 1)) <= 0", {"a": 2, "b": 6}, 6),
        ("a + a + b <= a + 1", {"a": 1, "b": 1}, 1),
        ("a + 0*b <= 1", {"a": 1}, 1),
        ("a <= 1e3", {"a": 1}, 1000),
        ("größe <= E", {"größe": 1, "E": -1}, 0),
    ],
)
def test_text_is_read(text: str, coefficients: dict[str, float], bound: float) -> None:
    assert LinearConstraint.parse(text) == LinearConstraint(coefficients, bound)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a < b", "only <=, >= and == can be used"),
        ("a > 1", "only <=, >= and == can be used"),
        ("a + b", "a <=, >= or == is needed"),
        ("a <= 1 or b <= 1", "a <=, >= or == is needed"),
        ("a <= b < c", "only <=, >= and == can be used"),
        ("a != b", "only <=, >= and == can be used"),
        ("a * b <= 1", r"'a \* b' is not linear"),
        ("a * (b + 1) <= 1", r"'a \* \(b \+ 1\)' is not linear"),
        ("a ** 2 <= 1", r"'a \*\* 2' is not linear"),
        ("1 / a <= 1", "'1 / a' is not linear"),
        ("a / 0 <= 1", "'a / 0' is not linear"),
        ("a // 2 <= 1", "'a // 2' is not linear"),
        ("abs(a) <= 1", r"'abs\(a\)' is not linear"),
        ("a.b <= 1", "'a.b' is not linear"),
        ("a <= 'x'", "'x'\" is not linear"),
        ("True * a <= 1", "'True' is not linear"),
        ("1j * a <= 1", "'1j' is not linear"),
        ("not a <= 1", "a <=, >= or == is needed"),
        ("lambda <= 1", "invalid syntax"),
        ("val loss <= 1", "invalid syntax"),
        ("a\0 <= 1", "null bytes"),
        ("", "invalid syntax"),
        ("a <= " + "9" * 400, "too large"),
        ("+".join("a" * 5000) + " <= 1", "recursion"),
    ],
)
def test_other_text_is_refused_with_advice(text: str, message: str) -> None:
    with pytest.raises(SpaceError, match=message) as caught:
        LinearConstraint.parse(text)
    assert "'a + 2*b <= 10'" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a == b", ["a <= b", "a >= b"]),
        ("1 == a + b", ["a + b <= 1", "a + b >= 1"]),
        ("a <= b <= c", ["a <= b", "b <= c"]),
        ("0 <= a + b == c", ["a + b >= 0", "a + b <= c", "a + b >= c"]),
        ("3 >= a >= b + 1", ["a <= 3", "a >= b + 1"]),
    ],
)
def test_a_chain_is_several_constraints_and_an_equality_two(text: str, parts: list[str]) -> None:
    expected = {LinearConstraint.parse(part) for part in parts}
    found = LinearConstraint.parse_all(text)
    assert len(found) == len(parts)
    assert {(each.text, each.bound) for each in found} == {
        (each.text, each.bound) for each in expected
    }
    assert SearchSpace(dict.fromkeys("abc", (0.0, 9.0)), [text]).constraints == tuple(found)
    with pytest.raises(SpaceError, match=r"is \d constraints"):
        LinearConstraint.parse(text)


@pytest.mark.parametrize(
    ("given_", "text"),
    [
        ("a + 2*b <= 10", "a + 2*b <= 10"),
        ("10 >= a + b*2", "a + 2*b <= 10"),
        ("a - 0.5*b <= 0", "a - 0.5*b <= 0"),
        ("a >= 1", "a >= 1"),
        ("-a <= b", "a + b >= 0"),
    ],
)
def test_the_text_of_a_constraint_is_what_people_write(given_: str, text: str) -> None:
    constraint = LinearConstraint.parse(given_)
    assert constraint.text == text
    assert LinearConstraint.parse(text) == constraint


@pytest.mark.parametrize(
    ("coefficients", "bound", "message"),
    [
        ({}, 1, "needs at least one parameter"),
        ({"a": 0.0}, 1, "needs at least one parameter"),
        ({"a": math.nan}, 1, "finite numbers, not nan"),
        ({"a": 1, "b": -math.inf}, 1, "finite numbers, not -inf"),
        ({"a": 1}, math.inf, "finite numbers, not inf"),
        ({"a": 1}, 10**400, "finite numbers, not 1000"),
        ({"a": "2"}, 1, "finite numbers, not '2'"),
        ({"a": 1}, None, "finite numbers, not None"),
    ],
)
def test_numbers_are_finite_and_some(coefficients: Any, bound: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        LinearConstraint(coefficients, bound)


def test_text_without_a_parameter_is_refused() -> None:
    with pytest.raises(SpaceError, match="needs at least one parameter"):
        LinearConstraint.parse("a - a <= 1")
    with pytest.raises(SpaceError, match="finite numbers, not inf"):
        LinearConstraint.parse("a <= 1e999")


numbers = st.integers(-100, 100)


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from("abc"), numbers.filter(bool), min_size=1), numbers, st.data()
)
def test_it_holds_where_the_sum_is_at_most_the_bound(
    coefficients: dict[str, int], bound: int, data: st.DataObject
) -> None:
    params = {name: data.draw(numbers) for name in coefficients}
    total = sum(factor * params[name] for name, factor in coefficients.items())
    constraint = LinearConstraint(coefficients, bound)
    assert constraint.holds(params) is (total <= bound)
    assert constraint.violation(params) == pytest.approx(total - bound, abs=1e-3)
    text = " + ".join(f"{factor}*{name}" for name, factor in coefficients.items())
    assert LinearConstraint.parse(f"{text} <= {bound}") == constraint
    assert LinearConstraint.parse(f"{bound} >= {text}") == constraint


def test_rounding_of_floats_violates_nothing() -> None:
    constraint = LinearConstraint.parse("a + b <= 0.3")
    assert 0.1 + 0.2 > 0.3
    assert constraint.holds({"a": 0.1, "b": 0.2})
    assert not constraint.holds({"a": 0.1, "b": 0.200001})
    assert LinearConstraint.parse("a >= 1e-9").holds({"a": 1e-9})
    assert not LinearConstraint.parse("a >= 1e-9").holds({"a": 0.99e-9})


def test_it_does_not_apply_where_a_parameter_is_inactive() -> None:
    constraint = LinearConstraint.parse("a + b <= 0")
    assert not constraint.holds({"a": 5, "b": 5})
    assert constraint.holds({"a": 5})
    assert constraint.violation({"b": 5}) == 0.0


def test_it_is_a_value() -> None:
    constraint = LinearConstraint({"val-loss": 2, "x": -1}, 3)
    assert constraint == LinearConstraint({"x": -1.0, "val-loss": 2.0}, 3.0)
    assert hash(constraint) == hash(LinearConstraint({"x": -1.0, "val-loss": 2.0}, 3.0))
    assert constraint != LinearConstraint({"val-loss": 2, "x": -1}, 4)
    assert constraint != LinearConstraint({"val-loss": 2, "x": 1}, 3)
    assert pickle.loads(pickle.dumps(constraint)) == constraint  # noqa: S301
    assert copy.deepcopy(constraint) == constraint
    assert repr(constraint) == "LinearConstraint({'val-loss': 2.0, 'x': -1.0}, 3.0)"
    assert repr(LinearConstraint.parse("a >= b")) == "LinearConstraint({'a': -1.0, 'b': 1.0}, 0.0)"
    with pytest.raises(TypeError):
        constraint.coefficients["x"] = 1.0  # type: ignore[index]


def test_the_arguments_stay_as_they_were() -> None:
    coefficients = {"a": 1, "b": 0}
    constraint = LinearConstraint(coefficients, 1)
    assert coefficients == {"a": 1, "b": 0}
    coefficients["a"] = 5
    assert constraint.coefficients == {"a": 1.0}


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        ("x + z <= 1", "names the unknown parameter 'z'. The space has: 'x', 'n', 'kind', 'k'"),
        ("x + kind <= 1", "names 'kind', Categorical.* Only Float and Integer can be"),
        ("x + k <= 1", "names 'k', Constant.* Only Float and Integer can be"),
        ("x < n", "only <=, >= and == can be used"),
        ("x * n <= 1", "is not linear"),
        ("x + n >= 12", "can never hold in the given ranges"),
        ("x - n <= -11", "can never hold in the given ranges"),
        ("1e308*x + 1e308*n <= 1", "has a sum too large for floats"),
        (3, "A constraint is text such as 'a \\+ 2\\*b <= 10'"),
    ],
)
def test_constraints_that_make_no_sense_are_refused(constraint: Any, message: str) -> None:
    parameters = {"x": (0.0, 1.0), "n": (0, 10), "kind": ["a"], "k": Constant(1)}
    assert SearchSpace(parameters, ["x + n >= 11"]).constraints
    with pytest.raises(SpaceError, match=message):
        SearchSpace(parameters, [constraint])


def test_one_constraint_needs_no_list() -> None:
    parameters = {"a": (0.0, 1.0), "val-loss": (0.0, 1.0)}
    constraint = LinearConstraint({"a": 1, "val-loss": 1}, 1)
    space: Any = SearchSpace  # untyped, for arguments that a type checker refuses
    assert space(parameters, constraint).constraints == (constraint,)
    assert space(parameters, "a <= 0.5").constraints == (LinearConstraint({"a": 1}, 0.5),)
