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
    if isinstance(short, tuple) and len(short) == 2:
        bounds = [real_number(bound) for bound in short]
        if all(bound is not None for bound in bounds):
            whole = all(isinstance(bound, int) for bound in bounds)
            return Integer(*short) if whole else Float(*short)
    raise SpaceError(
        f"{short!r} is no parameter. Give Float, Integer, Categorical, Ordinal or Constant, or a "
        "short form: (0.0, 1.0) for a Float, (1, 8) for an Integer, ['a', 'b'] for a Categorical."
    )
