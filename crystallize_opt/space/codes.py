"""Codes for a parameter's values, for libraries that cannot hold the values themselves.

Each code decodes to exactly the encoded value: a plain Python value or the space's choice object.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from crystallize_opt.space.choices import Categorical, Ordinal
from crystallize_opt.space.numbers import Float, Integer
from crystallize_opt.space.parameter import Parameter


class Code(ABC):
    """Encodes the values of one parameter for a library.

    Attributes:
        parameter: The parameter.
    """

    def __init__(self, parameter: Parameter) -> None:
        self.parameter: Any = parameter

    @abstractmethod
    def decode(self, stored: Any) -> Any:
        """Return the value that a stored code stands for."""

    @abstractmethod
    def encode(self, value: Any) -> Any:
        """Return the stored code of a value in canonical form."""


class Number(Code):
    """A number itself; decoding clips a number that a library rounded out of its range."""

    parameter: Float | Integer

    def decode(self, stored: Any) -> Any:
        number = round(stored) if isinstance(self.parameter, Integer) else float(stored)
        return min(max(number, self.parameter.low), self.parameter.high)

    def encode(self, value: Any) -> Any:
        return value


class Position(Code):
    """A float, stored as its position in the range, from 0 to 1; on a log scale if `log=True`."""

    parameter: Float

    def decode(self, stored: float) -> float:
        low, high = self.parameter.low, self.parameter.high
        if self.parameter.log:
            value = math.exp(between(math.log(low), math.log(high), stored))
        else:
            value = between(low, high, stored)
        return min(max(value, low), high)

    def encode(self, value: float) -> float:
        low, high = self.parameter.low, self.parameter.high
        if self.parameter.log:
            value, low, high = math.log(value), math.log(low), math.log(high)
        # Subtract halves, because the difference of two large floats may overflow.
        return min(max((value / 2 - low / 2) / (high / 2 - low / 2), 0.0), 1.0)


class GridIndex(Code):
    """A number on a grid, stored as its index: exact, unlike `low + index * step` in floats."""

    parameter: Float | Integer

    def decode(self, stored: Any) -> Any:
        return self.parameter.value_at(int(stored))

    def encode(self, value: Any) -> int:
        return self.parameter.index(value)


class ChoiceIndex(Code):
    """A choice, which may be any Python object, stored as its index."""

    parameter: Categorical | Ordinal

    def decode(self, stored: Any) -> Any:
        return self.parameter.choices[int(stored)]

    def encode(self, value: Any) -> int:
        return self.parameter.index(value)


class OnlyValue(Code):
    """The only value of a constant or of a range of one value, stored as 0 or not at all."""

    def decode(self, stored: Any = 0) -> Any:
        return next(self.parameter.values())

    def encode(self, value: Any) -> int:
        return 0


def has_one_value(parameter: Parameter) -> bool:
    """Whether a parameter has a single value, as a constant and a range of one number have."""
    if isinstance(parameter, (Float, Integer)):
        return parameter.low == parameter.high
    return parameter.size == 1


def only_value(parameter: Parameter) -> Any:
    """Return the single value of a parameter."""
    if isinstance(parameter, (Float, Integer)):
        return parameter.low
    return next(parameter.values())


def is_indexed(parameter: Parameter) -> bool:
    """Whether a number is on a grid coarser than all whole numbers, so that its index is stored."""
    return (
        isinstance(parameter, (Float, Integer))
        and parameter.step is not None
        and (isinstance(parameter, Float) or parameter.step != 1)
    )


class CodedPoints:
    """Codes for the points of a space, for libraries that hold plain numbers only.

    A choice and a value of a grid are their index. A parameter with one value is left out.

    Args:
        space: The search space, without conditions.

    Attributes:
        codes: The code of each parameter that is stored, by name.
    """

    def __init__(self, space: Mapping[str, Parameter]) -> None:
        self._names = list(space)
        self._only = {name: only_value(each) for name, each in space.items() if has_one_value(each)}
        self.codes = {n: _code(each) for n, each in space.items() if n not in self._only}

    def decode(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return the point that stored values stand for, in the space's order."""
        return {
            name: self._only[name] if name in self._only else self.codes[name].decode(stored[name])
            for name in self._names
        }

    def encode(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the stored values of a point."""
        return {name: code.encode(params[name]) for name, code in self.codes.items()}


def _code(parameter: Parameter) -> Code:
    if isinstance(parameter, (Categorical, Ordinal)):
        return ChoiceIndex(parameter)
    return GridIndex(parameter) if is_indexed(parameter) else Number(parameter)


def between(low: Any, high: Any, position: Any) -> Any:
    """Return the number at a position from 0 to 1 between two numbers, or between two arrays.

    In `low + position * (high - low)`, the difference may overflow.
    """
    return low * (1.0 - position) + high * position
