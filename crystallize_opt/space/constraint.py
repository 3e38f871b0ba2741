"""Linear constraints between the numeric parameters of a search space."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from crystallize_opt.errors import SpaceError

# Compare sums of floats with this relative slack, so that 0.1 + 0.2 <= 0.3 holds.
_SLACK = 1e-9


@dataclass(frozen=True)
class LinearConstraint:
    """`sum(coefficient * parameter) <= bound`.

    Usually written as text, `"a + 2*b <= 10"`. Use this class for names that are not identifiers.

    Args:
        coefficients: Parameter name to factor.
        bound: The right-hand side.

    Example:
        >>> LinearConstraint.parse("a + 2*b >= 3 - c")
        LinearConstraint({'a': -1.0, 'b': -2.0, 'c': -1.0}, -3.0)
        >>> LinearConstraint({"val-loss": 1.0, "x": -1.0}, 0.0).holds({"val-loss": 1, "x": 2})
        True
    """

    coefficients: Mapping[str, float] = field(hash=False)
    bound: float

    def __post_init__(self) -> None:
        numbers = {
            name: _number(factor) for name, factor in self.coefficients.items() if factor != 0
        }
        object.__setattr__(self, "coefficients", MappingProxyType(numbers))
        object.__setattr__(self, "bound", _number(self.bound) + 0.0)  # never -0.0
        if not numbers:
            raise SpaceError("A linear constraint needs at least one parameter.")

    @classmethod
    def parse(cls, text: str) -> LinearConstraint:
        """Read a constraint such as `"a + 2*b <= 10"`. `<=` and `>=` are allowed.

        Raises:
            SpaceError: The text is not a linear constraint of that form.
        """
        try:
            comparison = ast.parse(text.strip(), mode="eval").body
            if (
                not isinstance(comparison, ast.Compare)
                or len(comparison.ops) != 1
                or not isinstance(comparison.ops[0], (ast.LtE, ast.GtE))
            ):
                raise _NotLinearError("exactly one <= or >= is needed")
            left, left_constant = _linear(comparison.left)
            right, right_constant = _linear(comparison.comparators[0])
        except (SyntaxError, ValueError, OverflowError, RecursionError, _NotLinearError) as error:
            raise SpaceError(
                f"Cannot read the constraint {text!r}: {error}. Write a linear one such as "
                "'a + 2*b <= 10'; for names that are no identifiers give "
                "LinearConstraint({'my-name': 1.0}, bound)."
            ) from error
        sign = 1.0 if isinstance(comparison.ops[0], ast.LtE) else -1.0
        names = [*left, *(name for name in right if name not in left)]
        return cls(
            {name: sign * (left.get(name, 0.0) - right.get(name, 0.0)) for name in names},
            sign * (right_constant - left_constant),
        )

    def holds(self, params: Mapping[str, Any]) -> bool:
        """Whether the values satisfy the constraint, or a parameter of it is inactive."""
        return self.violation(params) <= 0.0

    def violation(self, params: Mapping[str, Any]) -> float:
        """Return by how much the values violate the constraint; zero or less if it holds.

        If one of its parameters is inactive, the constraint does not apply: the violation is 0.
        """
        try:
            terms = [factor * float(params[name]) for name, factor in self.coefficients.items()]
        except KeyError:
            return 0.0
        scale = sum(map(abs, terms)) + abs(self.bound)
        return math.fsum(terms) - self.bound - _SLACK * scale

    def __repr__(self) -> str:
        return f"LinearConstraint({dict(self.coefficients)!r}, {self.bound!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return LinearConstraint, (dict(self.coefficients), self.bound)


class _NotLinearError(Exception):
    pass


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or isinstance(value, str):
        raise SpaceError(f"A linear constraint takes finite numbers, not {value!r}.")
    return number


def _linear(node: ast.expr) -> tuple[dict[str, float], float]:  # noqa: C901  (one case a line)
    """Return the coefficients and the constant of a linear expression."""
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return {}, float(number)
        case ast.Name(id=name):
            return {name: 1.0}, 0.0
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _scaled(_linear(operand), -1.0)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _linear(operand)
        case ast.BinOp(op=ast.Add() | ast.Sub(), left=left, right=right):
            sign = 1.0 if isinstance(node.op, ast.Add) else -1.0
            coefficients, constant = _linear(left)
            more, more_constant = _scaled(_linear(right), sign)
            for name, factor in more.items():
                coefficients[name] = coefficients.get(name, 0.0) + factor
            return coefficients, constant + more_constant
        case ast.BinOp(op=ast.Mult(), left=left, right=right):
            one, other = _linear(left), _linear(right)
            if not one[0]:
                return _scaled(other, one[1])
            if not other[0]:
                return _scaled(one, other[1])
        case ast.BinOp(op=ast.Div(), left=left, right=right):
            divisor, constant = _linear(right)
            if not divisor and constant:
                return _scaled(_linear(left), 1.0 / constant)
    raise _NotLinearError(f"{ast.unparse(node)!r} is not linear")


def _scaled(
    expression: tuple[dict[str, float], float], factor: float
) -> tuple[dict[str, float], float]:
    coefficients, constant = expression
    return {name: factor * value for name, value in coefficients.items()}, factor * constant
