"""Converts a search space to BayBE's parameters, and points to and from rows of a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from crystallize_opt.adapters.baybe.library import (
    BayBESearchSpace,
    CategoricalParameter,
    ContinuousLinearConstraint,
    NumericalContinuousParameter,
    NumericalDiscreteParameter,
)
from crystallize_opt.errors import UnsupportedSpaceError
from crystallize_opt.space.choices import Categorical, Ordinal
from crystallize_opt.space.codes import Position
from crystallize_opt.space.numbers import Float, Integer
from crystallize_opt.space.parameter import Parameter
from crystallize_opt.space.space import SearchSpace

MOST_COMBINATIONS = 10_000
"""Of discrete values, where nothing is continuous: BayBE keeps a table of all of them."""

MOST_BESIDE_CONTINUOUS = 64
"""Beside continuous parameters: BayBE optimizes these anew for every combination, at each ask."""

_LARGEST = 1e100  # BayBE scales a range to [0, 1], and the model to unit variance.
_NARROWEST = 1e-9  # Of a range, relative to its bounds, or of a log scale.
_MOST_INTEGERS = 2**53


class _Stored:
    """How one parameter is stored: as a number, a discrete number, or the index of a choice."""

    def __init__(self, name: str, parameter: Any, *, discrete: bool) -> None:
        self.name = name
        self.parameter = parameter
        self.is_grid = not isinstance(parameter, Float) or parameter.step is not None
        self.is_discrete = discrete and self.is_grid
        self._values: dict[float, Any] = {}
        if self.is_discrete and not isinstance(parameter, Categorical):
            values = parameter.values()
            self._values = {self.number(value): value for value in values}

    def native(self) -> Any:
        if isinstance(self.parameter, Categorical):
            indices = [str(index) for index in range(len(self.parameter.choices))]
            return CategoricalParameter(self.name, values=indices, encoding="OHE")
        if self.is_discrete:
            return NumericalDiscreteParameter(self.name, values=sorted(self._values))
        return NumericalContinuousParameter(self.name, bounds=self._bounds())

    def _bounds(self) -> tuple[float, float]:
        parameter = self.parameter
        if isinstance(parameter, Ordinal):
            return 0.0, len(parameter.choices) - 1.0
        if parameter.step is not None:
            return 0.0, parameter.size - 1.0
        if _is_position(parameter):
            return 0.0, 1.0
        return self.number(parameter.low), self.number(parameter.high)

    def number(self, value: Any) -> float:
        """Return the number that stands for a value."""
        parameter = self.parameter
        if isinstance(parameter, Ordinal) or parameter.step is not None:
            return float(parameter.index(value))
        if _is_position(parameter):
            return Position(parameter).encode(value)
        return math.log10(value) if parameter.log else float(value)

    def encode(self, value: Any) -> Any:
        if isinstance(self.parameter, Categorical):
            return str(self.parameter.index(value))
        number = self.number(value)
        if self.is_discrete:
            return number
        low, high = self._bounds()
        return min(max(number, low), high)

    def decode(self, stored: Any) -> Any:
        parameter = self.parameter
        if isinstance(parameter, Categorical):
            return parameter.choices[int(stored)]
        stored = float(stored)
        if self.is_discrete:
            nearest = min(self._values, key=lambda number: abs(number - stored))
            return self._values[nearest]
        if isinstance(parameter, Ordinal):
            return parameter.choices[round(stored)]
        if parameter.step is not None:
            return parameter.value_at(round(stored))
        if _is_position(parameter):
            return Position(parameter).decode(stored)
        number = 10.0**stored if parameter.log else stored
        whole = round(number) if isinstance(parameter, Integer) else number
        return min(max(whole, parameter.low), parameter.high)


class BayBESpace:
    """A `SearchSpace` in the form that BayBE searches.

    Args:
        space: The search space.

    Attributes:
        native: BayBE's search space; None if there is nothing to choose.

    Raises:
        UnsupportedSpaceError: There are too many combinations of choices.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        searched = {name: each for name, each in space.items() if each.size > 1}
        for name, parameter in searched.items():
            _refuse_large(name, parameter)
        discrete = _are_numbers_discrete(searched)
        self._stored = {
            name: _Stored(f"p{number}", searched[name], discrete=discrete)
            for number, name in enumerate(searched)
        }
        self.is_rounded = any(
            each.is_grid and not each.is_discrete and not isinstance(each.parameter, Categorical)
            for each in self._stored.values()
        )
        parameters = [each.native() for each in self._stored.values()]
        self.native = None
        if parameters:
            self.native = BayBESearchSpace.from_product(parameters, constraints=self._constraints())

    def _constraints(self) -> list[Any]:
        """Return the linear constraints between continuous parameters, which BayBE takes."""
        found = []
        for constraint in self._space.constraints:
            kinds = [self._space[name] for name in constraint.coefficients]
            if all(
                isinstance(kind, Float)
                and kind.size == math.inf
                and not (kind.log or _is_position(kind))
                for kind in kinds
            ):
                names = [self._stored[name].name for name in constraint.coefficients]
                factors = list(constraint.coefficients.values())
                found.append(ContinuousLinearConstraint(names, "<=", factors, constraint.bound))
        return found

    def decode(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the point of a row of BayBE's table."""
        point: dict[str, Any] = {}
        for name, parameter in self._space.items():
            stored = self._stored.get(name)
            point[name] = (
                next(parameter.values()) if stored is None else stored.decode(row[stored.name])
            )
        return point

    def encode(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the row of a point."""
        return {each.name: each.encode(params[name]) for name, each in self._stored.items()}

    def row(self, suggested: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the row that is reported for a suggestion: its own numbers, unless rounded."""
        return {
            each.name: each.encode(params[name]) if each.is_grid else float(suggested[each.name])
            for name, each in self._stored.items()
        }


def _are_numbers_discrete(searched: Mapping[str, Parameter]) -> bool:
    """Whether BayBE gets the values of numbers on a grid; else they are continuous, and rounded.

    Raises:
        UnsupportedSpaceError: There are too many combinations of choices.
    """
    choices = {n: p for n, p in searched.items() if isinstance(p, Categorical)}
    combinations = math.prod(int(each.size) for each in choices.values())
    grids = [p.size for p in searched.values() if p.size < math.inf]
    is_continuous = any(each.size == math.inf for each in searched.values())
    if math.prod(grids) <= (MOST_BESIDE_CONTINUOUS if is_continuous else MOST_COMBINATIONS):
        return True
    only_choices = len(choices) == len(searched)
    most = MOST_COMBINATIONS if only_choices else MOST_BESIDE_CONTINUOUS
    if combinations > most:
        largest = max(choices, key=lambda name: choices[name].size)
        raise UnsupportedSpaceError(
            f"BayBEOptimizer cannot take {largest!r}, {choices[largest]!r}: with it, there are "
            f"{combinations} combinations of choices, and BayBE tries each of them at every ask. It"
            f" takes up to {MOST_COMBINATIONS}, and up to {MOST_BESIDE_CONTINUOUS} beside other "
            "numbers. OptunaOptimizer, SMACOptimizer and NevergradOptimizer can take it; or make "
            "ordered choices an Ordinal."
        )
    return False


def _refuse_large(name: str, parameter: Any) -> None:
    if isinstance(parameter, Integer) and max(abs(parameter.low), abs(parameter.high)) > (
        _MOST_INTEGERS
    ):
        raise UnsupportedSpaceError(
            f"BayBEOptimizer cannot take {name!r}, {parameter!r}: BayBE holds whole numbers as "
            "floats, which are exact up to 2**53 only. Narrow the range, or use OptunaOptimizer or "
            "RandomOptimizer."
        )


def _is_position(parameter: Any) -> bool:
    """Whether a range is too wide or too narrow for BayBE, and stored as a position."""
    if not isinstance(parameter, Float) or parameter.step is not None:
        return False
    low, high = parameter.low, parameter.high
    if parameter.log:
        return math.log10(high) - math.log10(low) < _NARROWEST
    largest = max(abs(low), abs(high))
    return largest > _LARGEST or (high - low) / largest < _NARROWEST or high - low < 1e-100


def names_of(metrics: Sequence[str]) -> dict[str, str]:
    """Return private names of metrics, which BayBE uses as columns beside the parameters."""
    return {metric: f"m{number}" for number, metric in enumerate(metrics)}
