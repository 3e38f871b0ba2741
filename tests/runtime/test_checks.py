"""Arguments that are numbers: what is taken, and what the message says of the rest."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystallize_opt.errors import UsageError
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


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, None, "1"], ids=repr)
def test_what_is_no_finite_number_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="bound is a finite number, not "):
        finite_number("bound", value)
