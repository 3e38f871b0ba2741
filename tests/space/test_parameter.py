"""Each kind of parameter on its own: its values, its errors, and its conditions."""

from __future__ import annotations

import copy
import decimal
import itertools
import math
import pickle
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystallize_opt import Categorical, Constant, Float, Integer, Ordinal, SearchSpace
from crystallize_opt.errors import InvalidParametersError, SpaceError
from crystallize_opt.space.parameter import NO_DEFAULT, Condition, Parameter, same_value
from crystallize_opt.space.short_forms import parameter_from
from tests import strategies
from tests.strategies import Blob

LARGEST = 1.7976931348623157e308
APART: list[Any] = [None, True, 1, 1.0, "1", (1,), (True,), (1.0,)]

# Untyped, for arguments that a type checker refuses.
FLOAT: Any = Float
INTEGER: Any = Integer
CATEGORICAL: Any = Categorical
ORDINAL: Any = Ordinal


class FixedDraws:
    """A random source that gives the same number every time."""

    def __init__(self, number: float) -> None:
        self.number = number

    def random(self) -> float:
        return self.number


# What is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FLOAT(1.0, 0.0), r"Float\(1.0, 0.0\): low is greater than high"),
        (lambda: INTEGER(5, 1), r"Integer\(5, 1\): low is greater than high"),
        (lambda: FLOAT(0.0, math.inf), "high is a finite number, not inf"),
        (lambda: FLOAT(-math.inf, 0.0), "low is a finite number, not -inf"),
        (lambda: FLOAT(math.nan, 1.0), "low is a finite number, not nan"),
        (lambda: FLOAT(0.0, 10**400), "high is a finite number, not 1000"),
        (lambda: FLOAT("0", 1.0), "low is a finite number, not '0'"),
        (lambda: FLOAT(False, 1.0), "low is a finite number, not False"),
        (lambda: FLOAT(0.0, 1.0, step=True), "step is a finite number, not True"),
        (lambda: INTEGER(0, True), "high is a whole number, not True"),
        (lambda: INTEGER(0, 1.0), "high is a whole number, not 1.0. For real numbers use Float"),
        (lambda: INTEGER(0, math.nan), "high is a whole number, not nan"),
        (lambda: FLOAT(0.0, 1.0, log=True), "log=True needs low > 0"),
        (lambda: FLOAT(-1.0, 1.0, log=True), "log=True needs low > 0"),
        (lambda: INTEGER(0, 5, log=True), "log=True needs low > 0"),
        (lambda: INTEGER(1, 10**400, log=True), "numbers up to 1.8e308, the largest float"),
        (lambda: FLOAT(1.0, 2.0, log=1), "log is True or False, not 1"),
        (lambda: FLOAT(1.0, 2.0, log=True, step=0.5), "log=True and step=0.5 exclude each other"),
        (lambda: INTEGER(1, 9, log=True, step=2), "log=True and step=2 exclude each other"),
        (lambda: FLOAT(0.0, 1.0, step=0.0), "step must be positive, not 0.0"),
        (lambda: FLOAT(0.0, 1.0, step=-0.1), "step must be positive, not -0.1"),
        (lambda: INTEGER(0, 4, step=0), "step must be positive, not 0"),
        (lambda: FLOAT(0.0, 1.0, step=0.3), "last value on the grid is 0.9; give that"),
        (lambda: INTEGER(1, 10, step=4), "last value on the grid is 9; give that"),
        (lambda: FLOAT(1e16, 1e16 + 2, step=0.5), "step=0.5 is too small"),
        (lambda: CATEGORICAL([]), "Categorical needs at least one choice"),
        (lambda: CATEGORICAL("abc"), "takes a list of choices, not 'abc'"),
        (lambda: ORDINAL(b"abc"), "takes a list of choices, not b'abc'"),
        (lambda: CATEGORICAL(3), "takes a list of choices, not 3"),
        (lambda: CATEGORICAL({"a"}), r"Give sorted\(\{'a'\}\)"),
        (lambda: ORDINAL(frozenset("a")), "the order of a set differs"),
        (lambda: CATEGORICAL(("a", "b", "a")), "has the choice 'a' twice"),
        (lambda: ORDINAL(([1], [1])), r"has the choice \[1\] twice"),
        (lambda: FLOAT(0.0, 1.0).when(), "needs at least one parent"),
        (lambda: FLOAT(0.0, 1.0).when(a=set()), "needs at least one value, not an empty set"),
        (lambda: parameter_from((1, 2, 3)), r"\(1, 2, 3\) is not a parameter"),
        (lambda: parameter_from((False, True)), "is not a parameter"),
        (lambda: parameter_from({1, 2}), "is not a parameter"),
        (lambda: parameter_from("abc"), "is not a parameter"),
    ],
)
def test_an_ill_defined_parameter_is_refused(build: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        build()


@pytest.mark.parametrize(
    "build",
    [
        lambda: Float(0.0, 1.0, default=1.5),
        lambda: Float(0.0, 1.0, step=0.5, default=0.3),
        lambda: Integer(0, 9, default=True),
        lambda: Integer(0, 9, step=3, default=4),
        lambda: Categorical((1, 2), default=1.0),
        lambda: Ordinal(("a",)).with_default("b"),
        lambda: Constant(1).with_default(True),
    ],
)
def test_a_default_outside_of_the_range_is_refused(build: Any) -> None:
    with pytest.raises(InvalidParametersError):
        build()


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        (Float(0.0, 1.0), 1.0000000000000002),
        (Float(0.0, 1.0), math.nan),
        (Float(0.0, 1.0), True),
        (Float(0.0, 1.0), "0.5"),
        (Float(0.0, 1.0), 10**400),
        (Float(0.0, 1.0, step=0.1), 0.31),
        (Float(1.0, 1.0), 1.1),
        (Integer(0, 9), 0.5),
        (Integer(0, 9), math.inf),
        (Integer(0, 9), math.nan),
        (Integer(0, 9), 10),
        (Integer(0, 9), False),
        (Integer(0, 9, step=3), 4),
        (Constant(None), False),
        *(
            (Categorical((other,)), value)
            for value in APART
            for other in APART
            if value is not other
        ),
        *((Constant(other), value) for value in APART for other in APART if value is not other),
    ],
)
def test_a_value_outside_of_the_range_is_refused(parameter: Parameter, value: Any) -> None:
    with pytest.raises(InvalidParametersError):
        parameter.canonical(value)


# Values ----------------------------------------------------------------------------------------


@given(strategies.parameters(), st.randoms(use_true_random=False))
def test_a_sampled_value_is_canonical(parameter: Parameter, rng: random.Random) -> None:
    value = parameter.sample(rng)
    assert same_value(parameter.canonical(value), value)


@given(strategies.parameters(), st.sampled_from([0.0, 1.0 - 2**-53]))
def test_the_extreme_draws_lie_in_the_range(parameter: Parameter, draw: float) -> None:
    value = parameter.sample(FixedDraws(draw))
    assert same_value(parameter.canonical(value), value)
    if parameter.size < 100:
        assert same_value(value, list(parameter.values())[0 if draw == 0.0 else -1])


@given(strategies.parameters(finite=True))
def test_values_are_all_different_and_as_many_as_size_says(parameter: Parameter) -> None:
    values = list(parameter.values())
    assert len(values) == parameter.size
    assert len({parameter.identity(value) for value in values}) == len(values)
    assert all(same_value(parameter.canonical(value), value) for value in values)


@pytest.mark.parametrize(
    ("low", "high", "log"),
    [
        (-1e308, 1e308, False),
        (-LARGEST, LARGEST, False),
        (5e-324, LARGEST, True),
        (5e-324, 1e-320, True),
        (0.0, 5e-324, False),
    ],
)
def test_the_widest_and_narrowest_ranges_give_finite_values(
    low: float, high: float, log: bool
) -> None:
    parameter = Float(low, high, log=log)
    draws = [0.0, 1e-17, 0.25, 0.5, 1 - 2**-53]
    values = [parameter.sample(FixedDraws(draw)) for draw in draws]
    assert all(math.isfinite(value) and low <= value <= high for value in values)
    assert values == sorted(values)
    assert values[0] < values[-1]


def test_rounding_of_logarithms_leaves_no_range() -> None:
    lows = [k / 1000 for k in range(1, 100)]
    assert any(math.exp(math.log(low)) < low for low in lows)
    for low in lows:
        parameter = Float(low, 7 * low, log=True)
        for draw in (0.0, 1 - 2**-53):
            assert low <= parameter.sample(FixedDraws(draw)) <= 7 * low


def test_integers_have_no_largest_one() -> None:
    parameter = Integer(-(10**400), 10**400)
    assert parameter.sample(FixedDraws(0.0)) == -(10**400)
    assert parameter.sample(FixedDraws(0.5)) == 0
    assert parameter.size == 2 * 10**400 + 1


def test_a_grid_has_the_numbers_as_they_are_written() -> None:
    assert list(Float(0, 0.7, step=0.1).values()) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    assert Float(0, 1, step=0.1).sample(FixedDraws(0.3)) == 0.3
    assert Float(0, 1e300, step=1e299).size == 11


def test_the_callers_decimal_context_changes_no_grid() -> None:
    with decimal.localcontext(prec=3) as context:
        context.traps[decimal.Inexact] = True
        parameter = Float(1.23456, 1.23459, step=0.00001)
        assert list(parameter.values()) == [1.23456, 1.23457, 1.23458, 1.23459]
        assert parameter.canonical(1.23457) == 1.23457


def test_a_value_beside_the_grid_by_rounding_is_kept_but_is_the_same_point() -> None:
    parameter = Float(0, 1, step=0.1)
    assert 3 * 0.1 != 0.3
    assert parameter.canonical(3 * 0.1) == 3 * 0.1
    assert parameter.identity(3 * 0.1) == parameter.identity(0.3)
    assert parameter.identity(0.3) != parameter.identity(0.4)


def test_a_value_that_was_written_with_fewer_digits_is_moved_to_the_grid() -> None:
    parameter = Float(1 / 3, 1 / 3 + 1, step=0.001)

    for value in (*list(parameter.values())[:9], parameter.high):
        assert parameter.canonical(float(f"{value:.8f}")) == pytest.approx(value, abs=0)
        for off in (1e-5, -1e-5):
            with pytest.raises(InvalidParametersError):
                parameter.canonical(value + off)
    with pytest.raises(InvalidParametersError, match="is not in"):
        parameter.canonical(parameter.low - 0.001)
    with pytest.raises(InvalidParametersError, match="is not in"):
        parameter.canonical(float("nan"))


@pytest.mark.parametrize(
    "parameter",
    [Float(1e9, 1e9 + 1, step=1e-6), Float(-1e12, 1e12, step=0.1), Float(0, 1e-9, step=1e-12)],
)
def test_a_fine_grid_far_from_zero_takes_its_own_values(parameter: Float) -> None:
    rng = random.Random(0)
    for _ in range(50):
        value = parameter.sample(rng)
        assert parameter.canonical(value) == value
        assert parameter.value_at(parameter.index(value)) == value
    assert parameter.step is not None
    with pytest.raises(InvalidParametersError, match="not on the grid"):
        parameter.canonical(parameter.low + 1.5 * parameter.step)


def _distance_from_uniform(shares: list[float]) -> float:
    """Return the Kolmogorov-Smirnov distance of numbers in [0, 1] from the uniform distribution."""
    ordered = sorted(shares)
    return max(abs(share - (i + 0.5) / len(ordered)) for i, share in enumerate(ordered))


@pytest.mark.parametrize(
    ("parameter", "share"),
    [
        (Float(-3.0, 5.0), lambda x: (x + 3.0) / 8.0),
        (Float(1e-4, 1e4, log=True), lambda x: (math.log10(x) + 4.0) / 8.0),
        (
            Integer(100, 10**8, log=True),
            lambda x: math.log(x / 99.5) / math.log(100_000_000.5 / 99.5),
        ),
        (Integer(0, 10**9), lambda x: x / 10**9),
    ],
)
def test_a_wide_range_is_sampled_uniformly_on_its_scale(parameter: Parameter, share: Any) -> None:
    rng = random.Random(0)
    shares = [share(parameter.sample(rng)) for _ in range(4000)]
    # A uniform sample exceeds 1.63 / sqrt(n) with a probability of 1 %; the seed is fixed.
    assert _distance_from_uniform(shares) < 1.63 / math.sqrt(4000)


@pytest.mark.parametrize(
    ("parameter", "expected"),
    [
        (Categorical(("a", "b", "c", "d")), dict.fromkeys("abcd", 0.25)),
        (Integer(1, 7, step=2), dict.fromkeys((1, 3, 5, 7), 0.25)),
        (Float(0, 0.3, step=0.1), dict.fromkeys((0.0, 0.1, 0.2, 0.3), 0.25)),
        (
            Integer(1, 4, log=True),
            {k: math.log((k + 0.5) / (k - 0.5)) / math.log(4.5 / 0.5) for k in range(1, 5)},
        ),
    ],
)
def test_each_of_few_values_gets_its_share(
    parameter: Parameter, expected: dict[Any, float]
) -> None:
    rng = random.Random(1)
    counts = Counter(parameter.sample(rng) for _ in range(4000))
    assert set(counts) == set(expected)
    chi_square = sum((counts[v] - 4000 * p) ** 2 / (4000 * p) for v, p in expected.items())
    assert chi_square < 11.34  # 1 % for three degrees of freedom; the seed is fixed


# Plain Python ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameter", "value", "plain"),
    [
        (parameter_from((np.float64(0.0), np.int64(2))), np.float32(0.5), 0.5),
        (Float(0, 2), 1, 1.0),
        (Float(0, 2, step=np.float64(0.5)), np.array(1.5), 1.5),
        (parameter_from((np.int64(0), np.uint8(9))), np.int32(3), 3),
        (Integer(0, 9), 3.0, 3),
        (Integer(0, 9), np.float64(3.0), 3),
        (Categorical(("a", "b")), np.str_("b"), "b"),
        (Categorical((True, "a")), np.bool_(True), True),
        (Categorical((1, 1.0)), np.int64(1), 1),
        (Categorical((1, 1.0)), np.float64(1), 1.0),
        (Categorical(tuple(np.array([1, 2]))), 2, 2),
        (Ordinal(tuple(np.linspace(0, 1, 3))), 0.5, 0.5),
        (Constant(np.float64(0.5)), 0.5, 0.5),
    ],
)
def test_numpy_scalars_become_plain_values(parameter: Parameter, value: Any, plain: Any) -> None:
    for each in (parameter.canonical(value), parameter.with_default(value).default):
        assert type(each) is type(plain)
        assert each == plain
    assert "np." not in repr(parameter)
    first = (
        next(iter(parameter.values()))
        if parameter.size < math.inf
        else parameter.sample(np.random.default_rng(0))
    )
    assert type(first) in (float, int, str, bool)


def test_a_choice_is_handed_out_as_the_users_own_object() -> None:
    blob = Blob(1)
    assert Categorical((Blob(0), blob)).canonical(Blob(1)) is blob
    assert Constant(blob).canonical(Blob(1)) is blob
    array = np.zeros(2)
    assert Categorical((None, array)).canonical(array) is array


def test_nan_is_a_choice_like_any_other() -> None:
    parameter = Categorical((math.nan, None))
    assert math.isnan(parameter.canonical(float("nan")))
    with pytest.raises(SpaceError, match="has the choice nan twice"):
        Categorical((math.nan, float("nan")))


# Equality, text, conditions --------------------------------------------------------------------


def test_none_true_and_the_ones_are_different_values() -> None:
    parameter = Categorical(tuple(APART))
    for position, value in enumerate(APART):
        assert parameter.index(value) == position
        assert type(parameter.canonical(value)) is type(value)
    for one in APART:
        for other in APART:
            assert same_value(one, other) is (one is other)
            assert (Constant(one) == Constant(other)) is (one is other)
            assert (Condition("a", (one,)) == Condition("a", (other,))) is (one is other)
            assert Condition("a", (one,)).holds(other) is (one is other)


def test_values_inside_of_lists_and_dicts_are_kept_apart_too() -> None:
    assert same_value([1, {"a": (1.0,)}], [1, {"a": (1.0,)}])
    assert not same_value([1], [True])
    assert not same_value({"a": 1}, {"a": 1.0})
    assert not same_value({1: "a"}, {True: "a"})
    assert not same_value({"a": 1}, {"a": 1, "b": 2})
    assert not same_value({"a": 1}, {"b": 1})
    assert not same_value(np.zeros(2), np.zeros(2))


@pytest.mark.parametrize(
    "different",
    [
        Float(0.0, 2.0),
        Float(-1.0, 1.0),
        Float(0.0, 1.0, step=0.5),
        Float(0.0, 1.0, default=0.5),
        Float(0.0, 1.0).when(a=1),
        Integer(0, 1),
        Constant(0.0),
        (0.0, 1.0),
    ],
)
def test_parameters_that_differ_in_one_thing_are_not_equal(different: Any) -> None:
    assert Float(0, 1) == Float(0.0, 1.0)
    assert Float(0.0, 1.0) != different
    assert Float(1.0, 2.0) != Float(1.0, 2.0, log=True)
    assert Ordinal(("a", "b")) != Categorical(("a", "b"))
    assert Ordinal(("a", "b")) != Ordinal(("b", "a"))


@given(strategies.parameters(objects=False))
def test_a_copy_and_a_pickle_are_equal(parameter: Parameter) -> None:
    assert copy.deepcopy(parameter) == parameter
    again = pickle.loads(pickle.dumps(parameter))  # noqa: S301
    assert again == parameter
    assert again.has_default is parameter.has_default


def test_the_text_of_a_parameter_builds_it_again() -> None:
    for parameter in (
        Float(1e-3, 10.0, log=True, default=0.1),
        Integer(0, 9, step=3).when(kind="a"),
        Categorical((None, "b"), default=None),
        Float(0.0, 1.0).when(a={1, 2}, b=True),
    ):
        assert eval(repr(parameter)) == parameter  # noqa: S307


def test_a_default_of_none_is_a_default() -> None:
    assert Categorical((None, "a"), default=None).has_default
    assert not Categorical((None, "a")).has_default
    assert Categorical((None, "a")).default is NO_DEFAULT
    assert Constant(None).has_default


def test_when_adds_to_the_conditions() -> None:
    parameter = Float(0.0, 1.0).when(a=1).when(b={"x", "y"}, c=(1, 2))
    assert parameter.conditions == (
        Condition("a", (1,)),
        Condition("b", ("y", "x")),
        Condition("c", ((1, 2),)),
    )
    assert parameter != Float(0.0, 1.0)
    assert Float(0.0, 1.0).when(self=1).conditions[0].parent == "self"


def test_conditions_are_equal_where_they_allow_the_same_values() -> None:
    assert Condition("a", (1, 2)) == Condition("a", (2, 1))
    assert Condition("a", (1, 1)) != Condition("a", (1, 2))
    assert Condition("a", (1, 2)) != Condition("a", (1, 1))
    assert Condition("a", (1,)) != Condition("b", (1,))
    assert Condition("a", tuple(np.arange(2))) == Condition("a", (0, 1))


@pytest.mark.parametrize(
    ("short", "parameter"),
    [
        ((0, 1), Integer(0, 1)),
        ((0, 1.0), Float(0.0, 1.0)),
        ((np.int64(1), 8), Integer(1, 8)),
        ((np.float64(0), 8), Float(0.0, 8.0)),
        (["a", None], Categorical(("a", None))),
        ([0, 1], Categorical((0, 1))),
        (Ordinal(("a", "b")), Ordinal(("a", "b"))),
    ],
)
def test_short_forms(short: Any, parameter: Parameter) -> None:
    assert parameter_from(short) == parameter


# Many choices ----------------------------------------------------------------------------------


class Looked:
    """A hashable choice that counts how often it is compared."""

    compared = 0

    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        Looked.compared += 1
        return isinstance(other, Looked) and self.number == other.number

    def __hash__(self) -> int:
        return hash(self.number)


@pytest.mark.parametrize("kind", [Looked, lambda number: (1, Looked(number))])
def test_a_choice_is_found_without_comparing_it_with_all(kind: Callable[[int], Any]) -> None:
    before = Looked.compared
    parameter = Categorical([kind(number) for number in range(10_000)])

    assert [parameter.index(kind(number)) for number in (0, 5000, 9999)] == [0, 5000, 9999]
    assert Looked.compared - before < 10


@given(st.lists(strategies.values(), min_size=1, max_size=12))
def test_choices_are_distinct_where_no_two_are_the_same(found: list[Any]) -> None:
    distinct = not any(same_value(a, b) for a, b in itertools.combinations(found, 2))
    if not distinct:
        with pytest.raises(SpaceError, match="twice"):
            Categorical(found)
        return
    parameter = Categorical(found)
    for again in (parameter, copy.deepcopy(parameter), pickle.loads(pickle.dumps(parameter))):  # noqa: S301
        assert [again.index(value) for value in found] == [*range(len(found))]


def test_nan_is_one_choice() -> None:
    assert Categorical([math.nan, (math.nan,), 0.0]).index((float("nan"),)) == 1
    assert Categorical([0.0, math.nan]).index(float("nan")) == 1
    assert Categorical([0.0, 1]).index(-0.0) == 0
    with pytest.raises(SpaceError, match="twice"):
        Categorical([(math.nan, 1), (float("nan"), 1)])


def test_ten_thousand_choices_of_any_kind_are_looked_up_by_hash() -> None:
    """Comparing each with each other would be 50 million comparisons."""
    compared = 0

    class Counted:
        def __init__(self, number: int) -> None:
            self.number = number

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return isinstance(other, Counted) and other.number == self.number

        def __hash__(self) -> int:
            return hash(self.number)

    kinds: list[Any] = [Counted, lambda i: [Counted(i)], lambda i: {"a": Counted(i)}]
    for make in kinds:
        choices = Categorical([make(number) for number in range(10_000)])
        assert choices.index(make(9_999)) == 9_999
    assert compared < 10 * 10_000


def test_two_numbers_that_look_like_a_range_are_pointed_out() -> None:
    with pytest.warns(UserWarning, match=r"'lr': \[1e-05, 0.1\] means two choices.*\(1e-05, 0.1\)"):
        SearchSpace({"lr": [1e-5, 1e-1]})
    for clear in ([16, 32], [0.1, 0.2, 0.3], ["a", 0.5], Categorical([1e-5, 1e-1]), (1e-5, 1e-1)):
        SearchSpace({"lr": clear})  # A warning would be an error.
