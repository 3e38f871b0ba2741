"""Checks of arguments; an error states the allowed and the given value."""

from __future__ import annotations

import math
import operator
import random
from numbers import Real
from typing import Any

from crystallize_opt.errors import UsageError

SEED_LIMIT = 2**32
"""Seeds are less than this, because numpy takes no others."""


def whole_number(what: str, value: Any, low: int = 1, high: int | None = None) -> int:
    """Return a whole number as a plain `int`.

    Args:
        what: The name of the argument, for the message.
        value: The argument. A numpy integer is a whole number; a bool is not.
        low: The lowest allowed value.
        high: The highest allowed value, or None.

    Raises:
        UsageError: The argument is not a whole number, or out of range.

    Example:
        >>> whole_number("replicates", 3)
        3
        >>> whole_number("replicates", 0)
        Traceback (most recent call last):
        ...
        crystallize_opt.errors.UsageError: replicates is a whole number, at least 1, not 0.
    """
    number = _whole(value)
    if number is None or number < low or (high is not None and number > high):
        allowed = f"at least {low}" if high is None else f"from {low} to {high}"
        raise UsageError(f"{what} is a whole number, {allowed}, not {value!r}.")
    return number


def finite_number(what: str, value: Any, above: float = -math.inf) -> float:
    """Return a finite number as a plain `int` or `float`.

    Args:
        what: The name of the argument, for the message.
        value: The argument. A number of numpy is a number; a bool is not.
        above: The number must be greater than this.

    Raises:
        UsageError: The argument is not a number, not finite, or not greater than `above`.
    """
    number = _real(value)
    if number is None or not above < number < math.inf:
        allowed = "a finite number" if above == -math.inf else f"a number above {above:g}"
        raise UsageError(f"{what} is {allowed}, not {value!r}.")
    return number


def checked_seed(seed: Any) -> int:
    """Return a seed as a plain `int`.

    Raises:
        UsageError: The seed is not a whole number in [0, 2**32).
    """
    number = _whole(seed)
    if number is None or not 0 <= number < SEED_LIMIT:
        raise UsageError(f"A seed is a whole number in [0, 2**32), not {seed!r}.")
    return number


def _whole(value: Any) -> int | None:
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def _real(value: Any) -> float | None:
    is_real = isinstance(value, Real) and not isinstance(value, bool)
    try:
        number = float(value) if is_real else None
    except OverflowError:
        return None
    return value if type(value) is int else number


def drawn_seed() -> int:
    """Draw a seed, without the global generator, which belongs to the caller."""
    return random.SystemRandom().randrange(SEED_LIMIT)
