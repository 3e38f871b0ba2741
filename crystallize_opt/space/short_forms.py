"""Short forms of parameters: `(0.0, 1.0)`, `(1, 8)`, `["a", "b"]`."""

from __future__ import annotations

from typing import Any

from crystallize_opt.errors import SpaceError
from crystallize_opt.space.choices import Categorical
from crystallize_opt.space.numbers import Float, Integer
from crystallize_opt.space.parameter import Parameter, real_number


def parameter_from(short: Any) -> Parameter:
    """Return the parameter for a short form.

    Args:
        short: A `Parameter`; `(low, high)` (an `Integer` if both are whole numbers, else a
            `Float`); or a list of choices (a `Categorical`).

    Raises:
        SpaceError: `short` is none of these.

    Example:
        >>> parameter_from((0.0, 1.0)), parameter_from((1, 8)), parameter_from(["a", "b"])
        (Float(0.0, 1.0), Integer(1, 8), Categorical(['a', 'b']))
    """
    if isinstance(short, Parameter):
        return short
    if isinstance(short, list):
        return Categorical(tuple(short))
    if is_range(short):
        whole = all(isinstance(real_number(bound), int) for bound in short)
        return Integer(*short) if whole else Float(*short)
    if isinstance(short, type) and issubclass(short, Parameter):
        raise SpaceError(f"Give a parameter, such as {_EXAMPLES[short.__name__]}, not its class.")
    raise SpaceError(
        f"{short!r} is not a parameter. Give Float, Integer, Categorical, Ordinal or Constant, or "
        "a short form: (0.0, 1.0) for a Float, (1, 8) for an Integer, ['a', 'b'] for a Categorical."
    )


def is_range(short: Any) -> bool:
    """Whether a short form is that of a range: a tuple of two numbers."""
    return (
        isinstance(short, tuple)
        and len(short) == 2
        and all(real_number(bound) is not None for bound in short)
    )


def why_ambiguous(short: Any) -> str | None:
    """Return what to write instead of two choices that look like the ends of a range, or None."""
    if not isinstance(short, list) or len(short) != 2:
        return None
    numbers = [real_number(each) for each in short]
    # Two whole numbers, such as the batch sizes [16, 32], are common choices.
    if None in numbers or not any(isinstance(number, float) for number in numbers):
        return None
    return (
        f"{short!r} means two choices. For the range between them, write {tuple(short)!r}; "
        f"to have just the two choices, write Categorical({short!r})."
    )


_EXAMPLES = {
    "Float": "Float(0.0, 1.0)",
    "Integer": "Integer(1, 8)",
    "Categorical": "Categorical(['a', 'b'])",
    "Ordinal": "Ordinal(['small', 'large'])",
    "Constant": "Constant('adam')",
}
