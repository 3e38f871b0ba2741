"""Arguments that are numbers: what is taken, and what the message says of the rest."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystallize_opt import (
    Constraint,
    Failures,
    MaxTime,
    Objective,
    TargetValue,
    TrialLimits,
)
from crystallize_opt.errors import ObjectiveError, UsageError
from crystallize_opt.runtime.checks import checked_seed, finite_number, whole_number

NO_NUMBERS: list[Any] = [True, None, "1", 1.0, 0.5, math.nan, [1]]


@given(st.integers(0, 2**32 - 1))
def test_a_seed_is_a_plain_int(seed: int) -> None:
    found = [checked_seed(seed), checked_seed(np.uint64(seed))]

    assert found == [seed, seed]
    assert [type(each) for each in found] == [int, int]


@pytest.mark.parametrize("seed", [-1, 2**32, *NO_NUMBERS], ids=repr)
def test_a_seed_is_a_whole_number_that_numpy_takes(seed: Any) -> None:
    with pytest.raises(UsageError, match=r"A seed is a whole number in \[0, 2\*\*32\), not "):
        checked_seed(seed)


@given(st.integers(-5, 5), st.integers(-5, 5), st.none() | st.integers(-5, 5))
def test_a_whole_number_is_within_its_bounds(value: int, low: int, high: int | None) -> None:
    if low <= value and (high is None or value <= high):
        assert whole_number("n", value, low, high) == value
    else:
        allowed = f"at least {low}" if high is None else f"from {low} to {high}"
        with pytest.raises(UsageError, match=rf"n is a whole number, {allowed}, not {value}\."):
            whole_number("n", value, low, high)


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_what_is_no_whole_number_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="n is a whole number, at least 1, not "):
        whole_number("n", value)


@given(st.floats())
def test_a_number_is_finite_and_above_its_bound(value: float) -> None:
    if math.isfinite(value) and value > 0:
        assert finite_number("seconds", value, above=0) == value
    else:
        with pytest.raises(UsageError, match="seconds is a number above 0, not "):
            finite_number("seconds", value, above=0)


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (5, 5),
        (np.int64(5), 5.0),
        (np.float32(0.5), 0.5),
        (np.float64(0.5), 0.5),
        (Fraction(1, 2), 0.5),
    ],
    ids=repr,
)
def test_a_number_of_numpy_becomes_a_plain_one_wherever_a_number_is_given(
    value: Any, plain: float
) -> None:
    found = [
        finite_number("n", value),
        Constraint("loss", "<=", value).bound,
        Objective("loss", "minimize", threshold=value).threshold,
        MaxTime(value).seconds,
        TargetValue(value).value,
        TrialLimits(seconds=value).seconds,
        Failures(min_share=value / 8).min_share * 8,
    ]

    assert found == [plain] * 7
    assert {type(each) for each in found[:-1]} == {type(plain)}
    assert type(Failures(min_share=value / 8).min_share) is float


def test_true_is_no_bound() -> None:
    with pytest.raises(ObjectiveError, match="bound of 'loss' is a finite number, not True"):
        Constraint("loss", "<=", True)
    with pytest.raises(ObjectiveError, match="threshold of 'loss' is a finite number, not True"):
        Objective("loss", "minimize", threshold=True)


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, True, np.True_, None, "1", 10**400, np.float32("nan"), 1j],
    ids=repr,
)
def test_what_is_no_finite_number_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="bound is a finite number, not "):
        finite_number("bound", value)
