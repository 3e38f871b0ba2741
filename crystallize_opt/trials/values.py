"""Values that trials measure: what counts as a number, and how it is shown and averaged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from crystallize_opt.errors import UsageError


def value_and_type(value: Any) -> str:
    """Return a value and its type for a message: `'0.5' (str)`."""
    try:
        shown = repr(value)
    except Exception:  # noqa: BLE001  (foreign code, called for a message only)
        shown = "a value"
    shown = " ".join(shown.split())
    if len(shown) > _SHOWN:
        shown = f"{shown[:_SHOWN]}..."
    kind = type(value)
    module = "" if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}."
    return f"{shown} ({module}{kind.__qualname__})"


_SHOWN = 80
"""How many characters of a value a message shows."""


def as_number(value: Any) -> float | None:
    """Return a real number, or a 0-d array or tensor, as a float; None for anything else."""
    if type(value) is float:
        return value
    try:
        if getattr(value, "shape", None) == () and hasattr(value, "item"):
            mask = getattr(value, "mask", False)
            if not callable(mask) and mask:
                return None  # The `item()` of a masked number is the number, or 0.0.
            if getattr(value.dtype, "kind", None) in ("m", "M"):  # A time or duration, in any unit.
                return None
            # `__float__` would drop imaginary parts and parse texts (numpy) or warn of gradients
            # (torch).
            value = value.item()
        if isinstance(value, (str, bytes, bytearray)) or getattr(value, "shape", ()) != ():
            return None
        return float(value)
    except Exception:  # noqa: BLE001  (foreign code: torch raises RuntimeError, for example)
        return None


def checked_value(metric: str, value: Any) -> float:
    """Return an intermediate value as a plain float.

    Raises:
        UsageError: It is not a number.
    """
    number = as_number(value)
    if number is None:
        raise UsageError(f"A value of {metric!r} is a number, not {value_and_type(value)}.")
    return number


def mean_of(values: Sequence[float]) -> float:
    """Return the correctly rounded mean; nan or infinite if the values are."""
    try:
        return math.fsum(values) / len(values)
    except (OverflowError, ValueError):  # The sum is too large, or contains both infinities.
        from statistics import mean  # Exact fractions, which are slow and seldom needed.

        return mean(values)
