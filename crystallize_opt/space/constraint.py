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
    An equality is two constraints, of which one is the `opposite` of the other.

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
        """Read a single constraint with `<=` or `>=`, such as `"a + 2*b <= 10"`.

        Raises:
            SpaceError: The text is not a linear constraint of that form.
        """
        found = cls.parse_all(text)
        if len(found) != 1:
            raise SpaceError(
                f"{text!r} is {len(found)} constraints. LinearConstraint.parse_all() reads them."
            )
        return found[0]

    @classmethod
    def parse_all(cls, text: str) -> list[LinearConstraint]:
        """Read a text with `<=`, `>=` or `==`, which may be a chain such as `"a <= b <= c"`.

        Returns:
            One constraint for each `<=` and `>=`, and two for each `==`.

        Raises:
            SpaceError: The text is not of that form.

        Example:
            >>> [each.text for each in LinearConstraint.parse_all("a + b == 1")]
            ['a + b <= 1', 'a + b >= 1']
        """
        try:
            comparison = ast.parse(text.strip(), mode="eval").body
            if not isinstance(comparison, ast.Compare):
                raise _NotLinearError("a <=, >= or == is needed")
            if not all(isinstance(each, (ast.LtE, ast.GtE, ast.Eq)) for each in comparison.ops):
                raise _NotLinearError("only <=, >= and == can be used")
            sides = [_linear(side) for side in (comparison.left, *comparison.comparators)]
        except (SyntaxError, ValueError, OverflowError, RecursionError, _NotLinearError) as error:
            raise SpaceError(
                f"Cannot read the constraint {text!r}: {error}. Write a linear one such as "
                "'a + 2*b <= 10'; for names that are not identifiers, give "
                "LinearConstraint({'my-name': 1.0}, bound)."
            ) from error
        found = []
        for operator, left, right in zip(comparison.ops, sides, sides[1:], strict=False):
            names = dict.fromkeys([*left[0], *right[0]])
            factors = {name: left[0].get(name, 0.0) - right[0].get(name, 0.0) for name in names}
            at_most = cls(factors, right[1] - left[1])
            if not isinstance(operator, ast.GtE):
                found.append(at_most)
            if not isinstance(operator, ast.LtE):
                found.append(at_most.opposite)
        return found

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

    @property
    def text(self) -> str:
        """The constraint as people write it: `a + 2*b <= 10`."""
        if all(factor < 0 for factor in self.coefficients.values()):
            return self.opposite.written(">=")
        return self.written("<=")

    @property
    def opposite(self) -> LinearConstraint:
        """The constraint with the other sign, `sum >= bound`; both together are an equality."""
        factors = {name: -factor for name, factor in self.coefficients.items()}
        return LinearConstraint(factors, -self.bound)

    def written(self, comparison: str) -> str:
        """Return the sum, a comparison and the bound."""
        terms = ""
        for name, factor in self.coefficients.items():
            sign = ("-" if factor < 0 else "") if not terms else (" - " if factor < 0 else " + ")
            terms += sign + ("" if abs(factor) == 1 else f"{abs(factor):g}*") + name
        return f"{terms} {comparison} {self.bound:g}"

    def __repr__(self) -> str:
        return f"LinearConstraint({dict(self.coefficients)!r}, {self.bound!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return LinearConstraint, (dict(self.coefficients), self.bound)


class _NotLinearError(Exception):
    pass


# The coefficients of a linear expression, and its constant.
_Expression = tuple[dict[str, float], float]


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or isinstance(value, str):
        raise SpaceError(f"A linear constraint takes finite numbers, not {value!r}.")
    return number


def _linear(node: ast.expr) -> _Expression:  # noqa: C901  (one case a line)
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


def _scaled(expression: _Expression, factor: float) -> _Expression:
    coefficients, constant = expression
    return {name: factor * value for name, value in coefficients.items()}, factor * constant
