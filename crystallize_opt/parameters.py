"""The parameters a search space is made of.

Every class is immutable, is validated when it is built, and says with `.when(...)` under which
values of other parameters it is active. They know nothing of any optimizer.
"""

from __future__ import annotations

import dataclasses
import math
import operator
import sys
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any, Protocol, Self, cast

from crystallize_opt.errors import InvalidParametersError, SpaceError


class RandomSource(Protocol):
    """Anything with `random()` in [0, 1): `random.Random`, `numpy.random.Generator`, ..."""

    def random(self) -> float: ...


class _NoDefault:
    def __repr__(self) -> str:
        return "NO_DEFAULT"

    def __reduce__(self) -> str:
        return "NO_DEFAULT"


NO_DEFAULT = _NoDefault()

# Of a context of its own, because the caller's may round to any number of digits. This many hold
# every sum and difference of two floats.
_EXACT = Context(prec=700, traps=[])


@dataclass(frozen=True)
class Condition:
    """A parameter is active only where `parent` has one of `values`."""

    parent: str
    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(map(_plain, self.values)))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Condition)
            and self.parent == other.parent
            and all(map(other.holds, self.values))
            and all(map(self.holds, other.values))
        )

    __hash__ = None  # type: ignore[assignment]  # values may be unhashable

    def holds(self, value: Any) -> bool:
        return any(same_value(value, allowed) for allowed in self.values)


class Parameter(ABC):
    """One parameter of a search space: `Float`, `Integer`, `Categorical`, `Ordinal`, `Constant`."""

    default: Any
    conditions: tuple[Condition, ...]

    @abstractmethod
    def canonical(self, value: Any) -> Any:
        """Return `value` as the plain Python value, or the user's own choice, that it stands for.

        Raises:
            InvalidParametersError: The value is not in the range.
        """

    @abstractmethod
    def sample(self, rng: RandomSource) -> Any:
        """Draw a value uniformly (on a logarithmic scale where `log=True`)."""

    def identity(self, value: Any) -> Hashable:
        """Return what tells this value, in canonical form, from the others of the parameter."""
        return cast("Hashable", value)  # of a float or an integer: itself

    @property
    @abstractmethod
    def size(self) -> float:
        """The number of different values; `math.inf` for a continuous range."""

    @abstractmethod
    def values(self) -> Iterator[Any]:
        """Iterate over the values of a finite parameter, lazily and in order."""

    @property
    def has_default(self) -> bool:
        return self.default is not NO_DEFAULT

    def with_default(self, default: Any) -> Self:
        """Return a copy with another default, which must lie in the range."""
        return dataclasses.replace(self, default=default)  # type: ignore[type-var]

    def when(self, /, **parents: Any) -> Self:
        """Return a copy that is active only where every named parent has the given value.

        Args:
            **parents: Parent name to one value, or to a set of values of which any will do. For
                names that are no identifiers: `.when(**{"my-name": value})`.

        Example:
            >>> Float(0.0, 1.0).when(kernel={"rbf", "poly"}, scaled=True).conditions[1]
            Condition(parent='scaled', values=(True,))
        """
        if not parents:
            raise SpaceError("when() needs at least one parent, for example .when(kernel='rbf').")
        added = []
        for parent, value in parents.items():
            several = isinstance(value, (set, frozenset))
            # Sorted, because the order of a set differs from process to process.
            values = tuple(sorted(value, key=repr)) if several else (value,)
            if not values:
                raise SpaceError(f"when({parent}=...) needs at least one value, not an empty set.")
            added.append(Condition(parent, values))
        return dataclasses.replace(  # type: ignore[type-var]
            self, conditions=(*self.conditions, *added)
        )


@dataclass(frozen=True, eq=False, repr=False)
class _Described(Parameter):
    """Equality and repr over the fields, keeping None, True, 1 and 1.0 apart."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and same_value(_fields(self), _fields(other))

    def __hash__(self) -> int:
        # `Annotated[float, Float(0, 1)] | None` hashes it. Its choices may be unhashable.
        return hash(type(self))

    def __repr__(self) -> str:
        shown = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in ("low", "high", "choices", "value"):
                shown.append(repr(list(value) if field.name == "choices" else value))
            elif field.name != "conditions" and value is not field.default:
                shown.append(f"{field.name}={value!r}")
        text = f"{type(self).__name__}({', '.join(shown)})"
        for condition in self.conditions:
            values = condition.values
            only = repr(values[0]) if len(values) == 1 else f"{{{', '.join(map(repr, values))}}}"
            text += f".when({condition.parent}={only})"
        return text


@dataclass(frozen=True, eq=False, repr=False)
class Float(_Described):
    """A real number in `[low, high]`.

    Args:
        low: The lowest value, finite.
        high: The highest value, finite, at least `low`.
        log: Search on a logarithmic scale; needs `low > 0`.
        step: Only the values `low`, `low + step`, …, `high`; must divide the range, and excludes
            `log`.
        default: The value without a search; must lie in the range.

    Raises:
        SpaceError: The range is not well defined.
        InvalidParametersError: The default is not in the range.

    Example:
        >>> Float(1e-4, 1e2, log=True)
        Float(0.0001, 100.0, log=True)
        >>> list(Float(0, 0.3, step=0.1).values())
        [0.0, 0.1, 0.2, 0.3]
    """

    low: float
    high: float
    log: bool = dataclasses.field(default=False, kw_only=True)
    step: float | None = dataclasses.field(default=None, kw_only=True)
    default: Any = dataclasses.field(default=NO_DEFAULT, kw_only=True)
    conditions: tuple[Condition, ...] = dataclasses.field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        _set(self, low=_float(self.low, "low", self), high=_float(self.high, "high", self))
        if self.step is not None:
            _set(self, step=_float(self.step, "step", self))
        _check_range(self.low, self.high, self.step, log=self.log, kind="Float")
        _set_default(self)

    @property
    def size(self) -> float:
        if self.low == self.high:
            return 1
        return math.inf if self.step is None else self.index(self.high) + 1

    def value_at(self, index: int) -> float:
        """Return the value with this index on the grid of `step`: 0.3, not 0.30000000000000004."""
        if self.step is None:
            return self.low
        return float(_EXACT.fma(_decimal(self.step), index, _decimal(self.low)))

    def index(self, value: float) -> int:
        """Return the index of the value of the grid of `step` that is nearest to `value`."""
        if self.step is None:
            return 0
        above_low = _EXACT.subtract(_decimal(value), _decimal(self.low))
        return round(_EXACT.divide(above_low, _decimal(self.step)))

    def identity(self, value: float) -> float:
        # Backends compute low + i * step in floats: the same point, where the last digit differs.
        return value if self.step is None else self.index(value)

    def values(self) -> Iterator[float]:
        return (self.value_at(index) for index in range(int(self.size)))

    def sample(self, rng: RandomSource) -> float:
        if self.size < math.inf:
            return self.value_at(_index(rng, int(self.size)))
        u = float(rng.random())
        if self.log:
            value = math.exp(math.log(self.low) + u * (math.log(self.high) - math.log(self.low)))
        else:
            # Not low + u * (high - low): the difference overflows for ranges of huge numbers.
            value = self.low * (1.0 - u) + self.high * u
        return min(max(value, self.low), self.high)

    def canonical(self, value: Any) -> float:
        number = _real(value)
        if number is None or not self.low <= number <= self.high:
            raise InvalidParametersError(f"{value!r} is not in {self!r}.")
        number = float(number)
        if self.step is not None:
            # Backends compute low + i * step in floats: their value is kept, not rounded.
            off_grid = abs(number - self.value_at(self.index(number)))
            rounding = 4 * math.ulp(max(abs(self.low), abs(self.high)))
            if off_grid > max(1e-6 * self.step, min(rounding, self.step / 4)):
                raise InvalidParametersError(f"{value!r} is not on the grid of {self!r}.")
        return number


@dataclass(frozen=True, eq=False, repr=False)
class Integer(_Described):
    """A whole number in `[low, high]`, both included.

    Args:
        low: The lowest value.
        high: The highest value, at least `low`.
        log: Search on a logarithmic scale; needs `low >= 1`.
        step: Only the values `low`, `low + step`, …, `high`; must divide the range, and excludes
            `log`.
        default: The value without a search; must lie in the range.

    Raises:
        SpaceError: The range is not well defined.
        InvalidParametersError: The default is not in the range.

    Example:
        >>> list(Integer(1, 7, step=3).values())
        [1, 4, 7]
    """

    low: int
    high: int
    log: bool = dataclasses.field(default=False, kw_only=True)
    step: int | None = dataclasses.field(default=None, kw_only=True)
    default: Any = dataclasses.field(default=NO_DEFAULT, kw_only=True)
    conditions: tuple[Condition, ...] = dataclasses.field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        _set(self, low=_integer(self.low, "low", self), high=_integer(self.high, "high", self))
        if self.step is not None:
            _set(self, step=_integer(self.step, "step", self))
        _check_range(self.low, self.high, self.step, log=self.log, kind="Integer")
        _set_default(self)

    @property
    def size(self) -> float:
        return (self.high - self.low) // (self.step or 1) + 1

    def value_at(self, index: int) -> int:
        return self.low + index * (self.step or 1)

    def values(self) -> Iterator[int]:
        return iter(range(self.low, self.high + 1, self.step or 1))

    def sample(self, rng: RandomSource) -> int:
        if not self.log:
            return self.value_at(_index(rng, int(self.size)))
        # Every integer gets its share of the log scale, also the two at the ends.
        low, high = math.log(self.low - 0.5), math.log(self.high + 0.5)
        value = round(math.exp(low + float(rng.random()) * (high - low)))
        return min(max(value, self.low), self.high)

    def canonical(self, value: Any) -> int:
        number = _real(value)
        if number is None or number != number or number in (math.inf, -math.inf):
            raise InvalidParametersError(f"{value!r} is not in {self!r}.")
        whole = int(number)
        if whole != number or not self.low <= whole <= self.high:
            raise InvalidParametersError(f"{value!r} is not in {self!r}.")
        if (whole - self.low) % (self.step or 1):
            raise InvalidParametersError(f"{value!r} is not on the grid of {self!r}.")
        return whole


@dataclass(frozen=True, eq=False, repr=False)
class _Choices(_Described):
    """What `Categorical` and `Ordinal` share. Choices are any Python objects.

    `None`, `True`, `1` and `1.0` are different choices; two choices are the same where their types
    are the same and they are equal.
    """

    choices: Sequence[Any]
    default: Any = dataclasses.field(default=NO_DEFAULT, kw_only=True)
    conditions: tuple[Condition, ...] = dataclasses.field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        kind = type(self).__name__
        if isinstance(self.choices, (str, bytes)) or not isinstance(self.choices, Iterable):
            raise SpaceError(f"{kind} takes a list of choices, not {self.choices!r}.")
        if isinstance(self.choices, (set, frozenset)):
            raise SpaceError(
                f"{kind} takes a list of choices; the order of a set differs from process to "
                f"process. Give sorted({self.choices!r})."
            )
        _set(self, choices=tuple(map(_plain, self.choices)))
        if not self.choices:
            raise SpaceError(f"{kind} needs at least one choice.")
        for position, choice in enumerate(self.choices):
            if any(same_value(choice, earlier) for earlier in self.choices[:position]):
                raise SpaceError(f"{kind} has the choice {choice!r} twice: {list(self.choices)!r}.")
        _set_default(self)

    @property
    def size(self) -> float:
        return len(self.choices)

    def values(self) -> Iterator[Any]:
        return iter(self.choices)

    def sample(self, rng: RandomSource) -> Any:
        return self.choices[_index(rng, len(self.choices))]

    def index(self, value: Any) -> int:
        """Return the position of a choice.

        Raises:
            InvalidParametersError: It is not a choice.
        """
        for candidate in (value, _plain(value)):
            for position, choice in enumerate(self.choices):
                if same_value(candidate, choice):
                    return position
        raise InvalidParametersError(
            f"{value!r} is not one of the choices {list(self.choices)!r}. (None, True, 1 and 1.0 "
            "are different choices.)"
        )

    def canonical(self, value: Any) -> Any:
        return self.choices[self.index(value)]

    def identity(self, value: Any) -> int:
        return self.index(value)  # choices may be unhashable


class Categorical(_Choices):
    """One of several unordered choices, which may be any Python objects.

    Args:
        choices: At least one, each different. `None`, `True`, `1` and `1.0` are kept apart.
        default: The choice without a search.

    Example:
        >>> Categorical(["rbf", None, True, 1])
        Categorical(['rbf', None, True, 1])
    """


class Ordinal(_Choices):
    """One of several choices whose order means something: `Ordinal(["small", "medium", "large"])`.

    Args:
        choices: At least one, each different, in order.
        default: The choice without a search.
    """


@dataclass(frozen=True, eq=False, repr=False)
class Constant(_Described):
    """A parameter with one value, which every treatment carries.

    Example:
        >>> Constant("adam").sample(None)
        'adam'
    """

    value: Any
    conditions: tuple[Condition, ...] = dataclasses.field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        _set(self, value=_plain(self.value))

    @property
    def default(self) -> Any:
        return self.value

    @property
    def size(self) -> float:
        return 1

    def values(self) -> Iterator[Any]:
        return iter((self.value,))

    def sample(self, rng: RandomSource | None) -> Any:
        return self.value

    def identity(self, value: Any) -> None:
        return None

    def with_default(self, default: Any) -> Self:
        self.canonical(default)
        return self

    def canonical(self, value: Any) -> Any:
        if not any(same_value(candidate, self.value) for candidate in (value, _plain(value))):
            raise InvalidParametersError(f"{value!r} is not the constant {self.value!r}.")
        return self.value


def parameter_from(short: Any) -> Parameter:
    """Return the parameter that a short form stands for.

    Args:
        short: A `Parameter`; `(low, high)` (an `Integer` where both are whole numbers, else a
            `Float`); or a list of choices (a `Categorical`).

    Raises:
        SpaceError: It is none of these.

    Example:
        >>> parameter_from((0.0, 1.0)), parameter_from((1, 8)), parameter_from(["a", "b"])
        (Float(0.0, 1.0), Integer(1, 8), Categorical(['a', 'b']))
    """
    if isinstance(short, Parameter):
        return short
    if isinstance(short, list):
        return Categorical(tuple(short))
    if isinstance(short, tuple) and len(short) == 2:
        bounds = [_real(bound) for bound in short]
        if all(bound is not None for bound in bounds):
            whole = all(isinstance(bound, int) for bound in bounds)
            return Integer(*short) if whole else Float(*short)
    raise SpaceError(
        f"{short!r} is no parameter. Give Float, Integer, Categorical, Ordinal or Constant, or a "
        "short form: (0.0, 1.0) for a Float, (1, 8) for an Integer, ['a', 'b'] for a Categorical."
    )


def same_value(a: Any, b: Any) -> bool:
    """Whether two values are the same: same type and equal. True, 1 and 1.0 are three values."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(same_value, a, b))
    if isinstance(a, dict):
        keys = {key: key for key in b}
        return len(a) == len(b) and all(
            key in keys and same_value(key, keys[key]) and same_value(a[key], b[key]) for key in a
        )
    try:
        return bool(a == b) or (isinstance(a, float) and a != a and b != b)  # nan is nan
    except (ValueError, TypeError):  # an array: equality has no single truth value
        return False


def _fields(parameter: Any) -> list[Any]:
    return [getattr(parameter, field.name) for field in dataclasses.fields(parameter)]


def _set(parameter: Parameter, **values: Any) -> None:
    for name, value in values.items():
        object.__setattr__(parameter, name, value)  # a frozen dataclass, in __post_init__


def _set_default(parameter: Parameter) -> None:
    if parameter.has_default:
        _set(parameter, default=parameter.canonical(parameter.default))


def _plain(value: Any) -> Any:
    """Return a numpy scalar as the Python value it holds, anything else as it is."""
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        return value.item()
    return value


def _real(value: Any) -> float | int | None:
    """Return a real number as a plain int or float, or None for anything else (bools too)."""
    value = _plain(value)
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return int(value)
    return float(value) if isinstance(value, float) else None


def _float(value: Any, name: str, parameter: Parameter) -> float:
    number = _real(value)
    try:
        number = math.nan if number is None else float(number)
    except OverflowError:  # a whole number that no float can hold
        number = math.inf
    if not math.isfinite(number):
        raise SpaceError(f"{type(parameter).__name__}: {name} is a finite number, not {value!r}.")
    return number


def _integer(value: Any, name: str, parameter: Parameter) -> int:
    number = _real(value)
    if not isinstance(number, int):
        hint = " For real numbers use Float." if isinstance(number, float) else ""
        raise SpaceError(
            f"{type(parameter).__name__}: {name} is a whole number, not {value!r}.{hint}"
        )
    return operator.index(number)


def _check_range(low: float, high: float, step: float | None, *, log: bool, kind: str) -> None:
    shown = f"{kind}({low!r}, {high!r})"
    if low > high:
        raise SpaceError(f"{shown}: low is greater than high. Swap them.")
    if not isinstance(log, bool):
        raise SpaceError(f"{shown}: log is True or False, not {log!r}.")
    if log and low <= 0:
        raise SpaceError(f"{shown}: log=True needs low > 0.")
    if log and high > sys.float_info.max:
        raise SpaceError(f"{shown}: log=True takes numbers up to 1.8e308, the largest float.")
    if step is None:
        return
    if log:
        raise SpaceError(f"{shown}: log=True and step={step!r} exclude each other.")
    if step <= 0:
        raise SpaceError(f"{shown}: step must be positive, not {step!r}.")
    # In decimal, as it is written: 0.3 is three times 0.1, whatever binary floats say.
    rest = _EXACT.remainder(_EXACT.subtract(_decimal(high), _decimal(low)), _decimal(step))
    if rest:
        below = _EXACT.subtract(_decimal(high), rest)
        raise SpaceError(
            f"{shown}: step={step!r} does not divide the range. The last value on the grid is "
            f"{below}; give that as high, or another step."
        )
    if low < high and (low + step == low or high - step == high):
        raise SpaceError(f"{shown}: step={step!r} is too small: floats are further apart there.")


def _decimal(number: float) -> Decimal:
    return Decimal(repr(number))


def _index(rng: RandomSource, size: int) -> int:
    # In whole numbers, which have no largest one: a random float has 53 bits.
    return int(float(rng.random()) * 2**53) * size >> 53
