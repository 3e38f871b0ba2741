"""Other forms of a parameter's values, for libraries that cannot hold the values themselves.

From each form every value comes back exact, and is a plain Python value or the user's own object.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

from crystallize_opt.space.choices import Categorical, Ordinal
from crystallize_opt.space.numbers import Float, Integer
from crystallize_opt.space.parameter import Parameter


class Code(ABC):
    """How the values of one parameter are stored.

    Attributes:
        parameter: The parameter.
    """

    def __init__(self, parameter: Parameter) -> None:
        self.parameter: Any = parameter

    @abstractmethod
    def decode(self, stored: Any) -> Any:
        """Return the value that is stored in this form."""

    @abstractmethod
    def encode(self, value: Any) -> Any:
        """Return the stored form of a value in canonical form."""


class Number(Code):
    """A number as it is, brought back into its range where a library rounded it."""

    parameter: Float | Integer

    def decode(self, stored: Any) -> Any:
        number = round(stored) if isinstance(self.parameter, Integer) else float(stored)
        return min(max(number, self.parameter.low), self.parameter.high)

    def encode(self, value: Any) -> Any:
        return value


class Position(Code):
    """A float by its position in the range, from 0 to 1; on a log scale where `log=True`."""

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
        # Of halves, whose difference cannot overflow.
        return min(max((value / 2 - low / 2) / (high / 2 - low / 2), 0.0), 1.0)


class GridIndex(Code):
    """One of equally spaced numbers by its index: exact, where `low + index * step` is not."""

    parameter: Float | Integer

    def decode(self, stored: Any) -> Any:
        return self.parameter.value_at(int(stored))

    def encode(self, value: Any) -> int:
        return self.parameter.index(value)


class ChoiceIndex(Code):
    """A choice, which may be any Python object, by its index."""

    parameter: Categorical | Ordinal

    def decode(self, stored: Any) -> Any:
        return self.parameter.choices[int(stored)]

    def encode(self, value: Any) -> int:
        return self.parameter.index(value)


class OnlyValue(Code):
    """The value of a constant, or of a range of one value. It is stored as 0, or not at all."""

    def decode(self, stored: Any = 0) -> Any:
        return next(self.parameter.values())

    def encode(self, value: Any) -> int:
        return 0


def between(low: Any, high: Any, position: Any) -> Any:
    """Return the number at a position from 0 to 1; of arrays, too.

    Not `low + position * (high - low)`, whose difference may overflow.
    """
    return low * (1.0 - position) + high * position
