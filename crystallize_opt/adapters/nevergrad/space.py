"""Converts a search space to Nevergrad's parametrization, and points to and from candidates.

See `_stored` for the form in which each kind of parameter is stored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from crystallize_opt.adapters.nevergrad.library import ng
from crystallize_opt.errors import UnsupportedSpaceError
from crystallize_opt.space.choices import Categorical, Ordinal
from crystallize_opt.space.codes import ChoiceIndex, Code, GridIndex, Number, OnlyValue, Position
from crystallize_opt.space.constraint import LinearConstraint
from crystallize_opt.space.numbers import Float, Integer
from crystallize_opt.space.parameter import Parameter
from crystallize_opt.space.space import SearchSpace

CHOSEN = "choice"
"""The key, in a branch, of the index of the choice; the other keys are names of parameters."""

_MOST_INTEGERS = 2**53  # Nevergrad holds whole numbers as floats.
_WIDEST = 1e300  # Nevergrad adds and subtracts the bounds, and multiplies them with six or so.
_LEAST_RATIO = 1 + 1e-6  # Of the bounds of a log scale, whose base is the sixth root of the ratio.


class NevergradSpace:
    """A `SearchSpace` in the form that Nevergrad searches.

    Args:
        space: The search space.

    Attributes:
        space: The search space.

    Raises:
        UnsupportedSpaceError: Nevergrad cannot store a parameter exactly.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self._codes = {name: _code(name, parameter) for name, parameter in space.items()}
        self._branches = {name: _branch_of(name, space) for name in space}

    def parametrization(self) -> ng.p.Dict | None:
        """Return a fresh parametrization; None if there is nothing to choose."""
        content = self._content(None)
        if not content:
            return None
        made = ng.p.Dict(**content)
        for constraint in self.space.constraints:
            made.register_cheap_constraint(Allowed(self, constraint))
        return made

    def _content(self, branch: tuple[str, int] | None) -> dict[str, Any]:
        return {
            name: self._stored(name)
            for name in self.space
            if self._branches[name] == branch and self._is_searched(name)
        }

    def _is_searched(self, name: str) -> bool:
        return not isinstance(self._codes[name], OnlyValue)

    def _stored(self, name: str) -> ng.p.Parameter:
        """Return Nevergrad's counterpart of a parameter, and of the children in its branches."""
        parameter: Any = self.space[name]
        code = self._codes[name]
        if isinstance(code, Position):
            return ng.p.Scalar(lower=0.0, upper=1.0)
        if isinstance(code, GridIndex):
            return ng.p.Scalar(lower=0, upper=int(parameter.size) - 1).set_integer_casting()
        if isinstance(code, ChoiceIndex):
            kind = ng.p.TransitionChoice if isinstance(parameter, Ordinal) else ng.p.Choice
            return kind(self._choices(name, len(parameter.choices)))
        kind = ng.p.Log if parameter.log else ng.p.Scalar
        number = kind(lower=parameter.low, upper=parameter.high)
        return number.set_integer_casting() if isinstance(parameter, Integer) else number

    def _choices(self, name: str, number: int) -> list[Any]:
        """Return indices; or, if a choice has a branch, a dict with the index for each choice."""
        contents = [self._content((name, index)) for index in range(number)]
        if not any(contents):
            return list(range(number))
        return [ng.p.Dict(**{CHOSEN: index}, **each) for index, each in enumerate(contents)]

    def decode(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """Return the point of a candidate's value: the active parameters in the space's order."""
        flat = _flat(value)
        point: dict[str, Any] = {}
        for name, code in self._codes.items():
            if self.space.is_active(name, point):
                point[name] = code.decode(flat[name] if self._is_searched(name) else 0)
        return {name: point[name] for name in self.space if name in point}

    def set_point(self, candidate: ng.p.Dict, params: Mapping[str, Any]) -> None:
        """Set a fresh child of the parametrization to a point; inactive parameters stay."""
        for name, value in self._encoded(params, None).items():
            candidate[name].value = value

    def _encoded(self, params: Mapping[str, Any], branch: tuple[str, int] | None) -> dict[str, Any]:
        encoded: dict[str, Any] = {}
        for name, value in params.items():
            if self._branches[name] != branch or not self._is_searched(name):
                continue
            stored = encoded[name] = self._codes[name].encode(value)
            if self._has_branches(name):
                inner = self._encoded(params, (name, stored))
                encoded[name] = {CHOSEN: stored, **inner}
        return encoded

    def _has_branches(self, name: str) -> bool:
        return any(
            branch is not None and branch[0] == name and self._is_searched(child)
            for child, branch in self._branches.items()
        )


class Allowed:
    """A linear constraint as Nevergrad takes it: at least 0 where a candidate satisfies it.

    A class, because Nevergrad's candidates, which hold their constraints, must be copied.

    Args:
        space: The space.
        constraint: The constraint.
    """

    def __init__(self, space: NevergradSpace, constraint: LinearConstraint) -> None:
        self._space = space
        self._constraint = constraint

    def __call__(self, value: Mapping[str, Any]) -> float:
        point = self._space.decode(value)
        return 0.0 if self._constraint.holds(point) else -self._constraint.violation(point)


def _flat(value: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, stored in value.items():
        if isinstance(stored, Mapping):
            flat[name] = stored[CHOSEN]
            flat |= _flat({key: each for key, each in stored.items() if key != CHOSEN})
        else:
            flat[name] = stored
    return flat


def _branch_of(name: str, space: SearchSpace) -> tuple[str, int] | None:
    """Return the parent and the index of the choice in whose branch a parameter is; or None.

    A condition on one choice of one parent is a branch. A parameter with any other condition is
    always in a candidate, and left out of its point where it is inactive.
    """
    if len(space[name].conditions) != 1:
        return None
    (condition,) = space[name].conditions
    parent = space[condition.parent]
    if not isinstance(parent, Categorical | Ordinal) or len(condition.values) != 1:
        return None
    if parent.size == 1:  # Nevergrad does not have it.
        return None
    return condition.parent, parent.index(parent.canonical(condition.values[0]))


def _code(name: str, parameter: Parameter) -> Code:
    """Choose how to store a parameter.

    Raises:
        UnsupportedSpaceError: Nevergrad cannot store the parameter exactly.
    """
    match parameter:
        case Parameter(size=1):
            return OnlyValue(parameter)
        case Categorical() | Ordinal():
            return ChoiceIndex(parameter)
        case Float(step=None):
            return Number(parameter) if _fits(parameter) else Position(parameter)
        case Float() | Integer(log=False) if parameter.step and parameter.size <= _MOST_INTEGERS:
            return GridIndex(parameter)
        case Integer(step=None) if max(abs(parameter.low), abs(parameter.high)) <= _MOST_INTEGERS:
            return Number(parameter)
    raise UnsupportedSpaceError(
        f"NevergradOptimizer cannot take {name!r}, {parameter!r}: Nevergrad holds whole numbers as "
        "floats, which are exact up to 2**53 only. Narrow the range, or use OptunaOptimizer or "
        "RandomOptimizer."
    )


def _fits(parameter: Float) -> bool:
    """Whether Nevergrad can compute with the bounds."""
    if max(abs(parameter.low), abs(parameter.high)) > _WIDEST:
        return False
    if parameter.log:
        return math.log(parameter.high) - math.log(parameter.low) > math.log(_LEAST_RATIO)
    return parameter.high - parameter.low > 1e-290
