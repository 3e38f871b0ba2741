"""Converts a search space to the parameters of an Ax experiment, and points to and from it.

Ax gets private names, `p0`, `p1`, …, because it reads constraints with sympy, to which `E`,
`lambda` or `val-loss` mean something else: https://github.com/facebook/Ax/issues/4549. A parameter
that Ax cannot store gets another form, from which every value comes back exact.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

from crystallize_opt.errors import UnsupportedSpaceError
from crystallize_opt.space.choices import Categorical, Ordinal
from crystallize_opt.space.codes import ChoiceIndex, Code, GridIndex, Number, Position
from crystallize_opt.space.constraint import LinearConstraint
from crystallize_opt.space.numbers import Float, Integer
from crystallize_opt.space.parameter import Parameter
from crystallize_opt.space.region import Region
from crystallize_opt.space.space import SearchSpace

Stored = str | int | float
Config = RangeParameterConfig | ChoiceParameterConfig
Dependents = Mapping[Stored, Sequence[str]]

# Ax lists all values of an integer range for every suggestion: 10**9 values exhaust the memory.
_MOST_INTEGERS = 100_000
_MOST_CHOICES = 1000  # More are an error: https://github.com/facebook/Ax/issues/5108.
_MOST_EXACT = 2**53  # Ax computes with integers as floats.
# Ax refuses ranges below 1.5e-5, also of logarithms: https://github.com/facebook/Ax/issues/2183. Of
# ranges to 1e50, or with an offset of 1e9 times their width, its models cannot be fitted.
_NARROWEST, _WIDEST, _LEAST_WIDTH_TO_OFFSET = 2e-5, 1e15, 1e-6
# A suggestion may violate a constraint by a rounding of Ax's solver, which is 1e-8.
_ROUNDING = 1e-6


class _Stored(ABC):
    """How one parameter is stored in Ax.

    Attributes:
        line: Offset and slope, if the user's number is `offset + slope * stored`; else None.
        middle: The value that Ax gets if the parameter is inactive.
    """

    line: tuple[float, float] | None = None
    middle: Stored = 0.5

    @abstractmethod
    def config(self, name: str, dependents: Dependents | None) -> Config:
        """Return Ax's counterpart of the parameter."""

    @abstractmethod
    def decode(self, stored: Any) -> Any:
        """Return the user's value."""

    @abstractmethod
    def encode(self, value: Any) -> Stored:
        """Return the value that Ax stores, with the same type as in Ax's suggestions."""


class _Number(Number, _Stored):
    """A number, stored unchanged. Integers of very many values are floats in Ax, and rounded."""

    def __init__(self, parameter: Float | Integer) -> None:
        super().__init__(parameter)
        low, high = parameter.low, parameter.high
        whole = isinstance(parameter, Integer) and parameter.size <= _MOST_INTEGERS
        self._kind: type[int | float] = int if whole else float
        if parameter.log:
            self.middle = self.encode(math.sqrt(low) * math.sqrt(high))
        else:
            self.middle = self.encode(low + (high - low) / 2)
            self.line = (0.0, 1.0)

    def config(self, name: str, dependents: Dependents | None) -> Config:
        return RangeParameterConfig(
            name=name,
            bounds=(self.parameter.low, self.parameter.high),
            parameter_type="int" if self._kind is int else "float",
            scaling="log" if self.parameter.log else "linear",
        )

    def encode(self, value: float) -> float:
        return self._kind(value)


class _Position(Position, _Stored):
    """A float, stored as its position in the range."""

    def __init__(self, parameter: Float) -> None:
        super().__init__(parameter)
        low, high = parameter.low, parameter.high
        if not parameter.log and math.isfinite(high - low):
            self.line = (low, high - low)

    def config(self, name: str, dependents: Dependents | None) -> Config:
        return RangeParameterConfig(name=name, bounds=(0.0, 1.0), parameter_type="float")


class _Choice(_Stored):
    """A choice, stored as its index in text form, because Ax silently coerces mixed types."""

    def __init__(self, parameter: Categorical | Ordinal) -> None:
        self._parameter = parameter
        self._choices = _in_the_order_of_ax(parameter)
        self._positions = {
            parameter.identity(choice): str(index) for index, choice in enumerate(self._choices)
        }
        self.middle = str(len(self._choices) // 2)

    def config(self, name: str, dependents: Dependents | None) -> Config:
        return ChoiceParameterConfig(
            name=name,
            values=list(self._positions.values()),
            parameter_type="str",
            is_ordered=isinstance(self._parameter, Ordinal),
            dependent_parameters=dependents,
        )

    def decode(self, stored: str) -> Any:
        return self._choices[int(stored)]

    def encode(self, value: Any) -> str:
        return self._positions[self._parameter.identity(value)]


class _Index(_Stored):
    """One of equally spaced values, stored as its index; if there are very many, as its position.

    Ax's `step_size` would give 0.30000000000000004 on a grid of 0.1, and violate linear
    constraints: https://github.com/facebook/Ax/issues/5256.
    """

    def __init__(self, parameter: Float | Integer | Categorical | Ordinal) -> None:
        is_number = isinstance(parameter, (Float, Integer))
        self._code: Code = (GridIndex if is_number else ChoiceIndex)(parameter)
        self._count = int(parameter.size)
        self._is_index = self._count <= _MOST_INTEGERS
        if self._is_index:
            self.middle = self._count // 2
        if isinstance(parameter, (Float, Integer)) and self._count <= _MOST_EXACT:
            low, step = float(parameter.low), float(parameter.step or 1)
            self.line = (low, step) if self._is_index else (low - step / 2, step * self._count)

    def config(self, name: str, dependents: Dependents | None) -> Config:
        if self._is_index:
            bounds = (0, self._count - 1)
            return RangeParameterConfig(name=name, bounds=bounds, parameter_type="int")
        return RangeParameterConfig(name=name, bounds=(0.0, 1.0), parameter_type="float")

    def decode(self, stored: float) -> Any:
        if not self._is_index:
            # A fraction, because a float would skip indices beyond 2**53.
            stored = min(int(Fraction(stored) * self._count), self._count - 1)
        return self._code.decode(stored)

    def encode(self, value: Any) -> float:
        index: int = self._code.encode(value)
        return index if self._is_index else (2 * index + 1) / (2 * self._count)


class AxSpace:
    """A `SearchSpace` in the form that Ax searches.

    Ax supports conditions on one value of one parent that is a choice. It refuses a child of two
    parents, or of two values of one, as "a cycle"; such a child is always suggested, and discarded
    if it is inactive.

    Args:
        space: The search space.

    Attributes:
        parameters: The parameters for `Client.configure_experiment`.
        parameter_constraints: The linear constraints that Ax can take.

    Raises:
        UnsupportedSpaceError: Ax cannot store a parameter.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._region = space.region or (Region(space) if space.constraints else None)
        self._fixed = {name: next(p.values()) for name, p in space.items() if p.size == 1}
        self._codes = {name: _code_of(name, p) for name, p in space.items() if p.size > 1}
        self._private = {name: f"p{index}" for index, name in enumerate(self._codes)}
        # Child -> its parent, and the parent's stored value under which the child is active.
        self._parents = {
            name: parent for name in self._codes if (parent := self._native_parent(name))
        }
        self.parameters = self._configs()
        self.parameter_constraints = [
            text for each in space.constraints if (text := self._native_constraint(each))
        ]

    @property
    def has_choice(self) -> bool:
        """Whether there is anything to search: a parameter with more than one value."""
        return bool(self._codes)

    def decode(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return the point of a suggestion of Ax; it may violate linear constraints."""
        params: dict[str, Any] = {}
        for name in self._space.names:
            if not self._space.is_active(name, params):
                continue
            if name in self._fixed:
                params[name] = self._fixed[name]
            else:
                params[name] = self._codes[name].decode(stored[self._private[name]])
        return self._moved_inside(params) if self._space.constraints else params

    def encode(self, params: Mapping[str, Any]) -> dict[str, Stored]:
        """Return the values that Ax stores for a point of the space."""
        stored: dict[str, Stored] = {}
        for name, code in self._codes.items():
            if name in self._parents:
                parent, value = self._parents[name]
                if stored.get(self._private[parent]) != value:
                    continue
            stored[self._private[name]] = (
                code.encode(params[name]) if name in params else code.middle
            )
        return stored or {"p0": "0"}

    def _native_parent(self, name: str) -> tuple[str, Stored] | None:
        conditions = self._space[name].conditions
        if len(conditions) != 1 or len(conditions[0].values) != 1:
            return None
        parent = self._codes.get(conditions[0].parent)
        if not isinstance(parent, _Choice):  # Ax knows dependents of choices only.
            return None
        return conditions[0].parent, parent.encode(conditions[0].values[0])

    def _configs(self) -> list[Config]:
        if not self._codes:  # Ax needs at least one parameter.
            return [ChoiceParameterConfig(name="p0", values=["0"], parameter_type="str")]
        children: dict[str, dict[Stored, list[str]]] = {}
        for child, (parent, value) in self._parents.items():
            children.setdefault(parent, {}).setdefault(value, []).append(self._private[child])
        return [
            code.config(self._private[name], children.get(name))
            for name, code in self._codes.items()
        ]

    def _native_constraint(self, constraint: LinearConstraint) -> str | None:
        """Return a constraint in Ax's form, or None if Ax cannot take it.

        Ax takes none on log scales, and crashes on parameters that may be inactive.
        """
        bound = constraint.bound
        factors: dict[str, float] = {}
        for name, factor in constraint.coefficients.items():
            if self._space[name].conditions:
                return None
            if name in self._fixed:
                bound -= factor * self._fixed[name]
                continue
            line = self._codes[name].line
            if line is None:
                return None
            bound -= factor * line[0]
            factors[self._private[name]] = factor * line[1]
        if not factors or not all(map(math.isfinite, (bound, *factors.values()))):
            return None
        return " + ".join(f"{factor!r}*{name}" for name, factor in factors.items()) + (
            f" <= {bound!r}"
        )

    def _moved_inside(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a point that violates constraints by no more than a rounding, moved inside."""
        violated = [each for each in self._space.constraints if not each.holds(params)]
        if not violated or self._region is None or (whole := self._region.whole) is None:
            return params
        for each in violated:
            terms = [factor * params[name] for name, factor in each.coefficients.items()]
            if each.violation(params) > _ROUNDING * (sum(map(abs, terms)) + abs(each.bound)):
                return params
        inside = whole.inside(whole.point(params))
        return params if inside is None else {**params, **whole.values(inside)}


def _code_of(name: str, parameter: Parameter) -> _Stored:
    match parameter:
        case Float(step=None):
            return _Number(parameter) if _fits(parameter) else _Position(parameter)
        case Integer(log=True) if parameter.high > 10**300:
            raise UnsupportedSpaceError(
                f"AxOptimizer cannot take {name!r}, {parameter!r}: Ax computes with floats, which "
                "cannot hold numbers of that size. GridOptimizer can take it."
            )
        case Integer(step=None) if _fits(parameter):
            return _Number(parameter)
        case Categorical() | Ordinal() if len(parameter.choices) <= _MOST_CHOICES:
            return _Choice(parameter)
        case Float() | Integer() | Categorical() | Ordinal():
            return _Index(parameter)
    raise UnsupportedSpaceError(f"AxOptimizer does not know {name!r}, {parameter!r}.")


def _fits(parameter: Float | Integer) -> bool:
    """Whether Ax can store a range unchanged, and fit a model on it."""
    low, high = parameter.low, parameter.high
    if parameter.log:
        if high - low < _NARROWEST:
            return False
        low, high = math.log10(low), math.log10(high)
    elif isinstance(parameter, Integer) and max(abs(low), abs(high)) > _MOST_EXACT:
        return False
    width = high - low
    return (
        _NARROWEST <= width <= _WIDEST
        and width / max(abs(low), abs(high)) >= _LEAST_WIDTH_TO_OFFSET
    )


def _in_the_order_of_ax(parameter: Categorical | Ordinal) -> Sequence[Any]:
    """Return the choices in the order in which Ax itself would store them."""
    kinds = {type(choice) for choice in parameter.choices}
    if isinstance(parameter, Ordinal) or kinds not in ({bool}, {int}, {float}):
        return parameter.choices
    return sorted(parameter.choices)
