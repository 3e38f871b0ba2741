"""Parameters: the base class, conditions, and the identity of values.

Parameters are immutable and checked when they are built. `.when(...)` states under which values of
other parameters a parameter is active. Parameters know no optimizer.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, cast

from crystallize_opt.errors import InvalidParametersError, SpaceError

_CHOICES_SHOWN = 30  # Of more, a message would be longer than a screen.


class RandomSource(Protocol):
    """An object with `random()` in [0, 1): `random.Random`, `numpy.random.Generator`, ..."""

    def random(self) -> float: ...


class _NoDefault:
    def __repr__(self) -> str:
        return "NO_DEFAULT"

    def __reduce__(self) -> str:
        return "NO_DEFAULT"


NO_DEFAULT = _NoDefault()


@dataclass(frozen=True)
class Condition:
    """A parameter is active only if `parent` has one of `values`."""

    parent: str
    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(map(plain_scalar, self.values)))

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
        """Return the plain Python value or the choice object for `value`.

        Raises:
            InvalidParametersError: The value is not in the range.
        """

    @abstractmethod
    def sample(self, rng: RandomSource) -> Any:
        """Draw a value uniformly, on a logarithmic scale if `log=True`."""

    def identity(self, value: Any) -> Hashable:
        """Return a hashable that identifies a value, given in canonical form."""
        return cast("Hashable", value)  # a number is its own identity

    @property
    def values_are_identities(self) -> bool:
        """Whether `identity` returns each value itself."""
        return type(self).identity is Parameter.identity

    @property
    @abstractmethod
    def size(self) -> float:
        """The number of distinct values; `math.inf` for a continuous range."""

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
        """Return a copy that is active only if every named parent has the given value.

        Args:
            **parents: Parent name to a value, or to a set of allowed values. For names that are not
                identifiers: `.when(**{"my-name": value})`.

        Example:
            >>> from crystallize_opt.space.numbers import Float
            >>> Float(0.0, 1.0).when(kernel={"rbf", "poly"}, scaled=True).conditions[1]
            Condition(parent='scaled', values=(True,))
        """
        if not parents:
            raise SpaceError("when() needs at least one parent, for example .when(kernel='rbf').")
        added = []
        for parent, value in parents.items():
            several = isinstance(value, (set, frozenset))
            # Sort, because the order of a set differs between processes.
            values = tuple(sorted(value, key=repr)) if several else (value,)
            if not values:
                raise SpaceError(f"when({parent}=...) needs at least one value, not an empty set.")
            added.append(Condition(parent, values))
        return dataclasses.replace(  # type: ignore[type-var]
            self, conditions=(*self.conditions, *added)
        )


@dataclass(frozen=True, eq=False, repr=False)
class DescribedParameter(Parameter):
    """Compares and shows parameters by their fields; None, True, 1 and 1.0 are distinct."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and same_value(_fields(self), _fields(other))

    def __hash__(self) -> int:
        # `Annotated[float, Float(0, 1)] | None` needs a hash, and choices may be unhashable.
        return hash(type(self))

    def __repr__(self) -> str:
        shown = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in ("low", "high", "choices", "value"):
                shown.append(shown_choices(value) if field.name == "choices" else repr(value))
            elif field.name != "conditions" and value is not field.default:
                shown.append(f"{field.name}={value!r}")
        text = f"{type(self).__name__}({', '.join(shown)})"
        for condition in self.conditions:
            values = condition.values
            only = repr(values[0]) if len(values) == 1 else f"{{{', '.join(map(repr, values))}}}"
            text += f".when({condition.parent}={only})"
        return text


def same_value(a: Any, b: Any) -> bool:
    """Whether two values are equal and of one type: True, 1 and 1.0 are three distinct values."""
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
    except (ValueError, TypeError):  # arrays: their equality has no single truth value
        return False


def shown_choices(choices: Sequence[Any]) -> str:
    """Return choices as a message shows them: of very many, the first and the last."""
    if len(choices) <= _CHOICES_SHOWN:
        return repr(list(choices))
    first = ", ".join(map(repr, choices[:3]))
    return f"[{first}, ... {len(choices)} choices ..., {choices[-1]!r}]"


def _fields(parameter: Any) -> list[Any]:
    return [getattr(parameter, field.name) for field in dataclasses.fields(parameter)]


def set_fields(parameter: Parameter, **values: Any) -> None:
    """Set fields of a parameter that is being built."""
    for name, value in values.items():
        object.__setattr__(parameter, name, value)  # a frozen dataclass, in __post_init__


def set_default(parameter: Parameter) -> None:
    """Convert the default into canonical form.

    Raises:
        InvalidParametersError: The default is not in the range.
    """
    if parameter.has_default:
        set_fields(parameter, default=parameter.canonical(parameter.default))


def plain_scalar(value: Any) -> Any:
    """Return a numpy scalar as a Python value, and anything else unchanged."""
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        return value.item()
    return value


def real_number(value: Any) -> float | int | None:
    """Return a real number as a plain int or float; None for anything else, bools included."""
    value = plain_scalar(value)
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return int(value)
    return float(value) if isinstance(value, float) else None


def position_of(rng: RandomSource, size: int) -> int:
    """Draw a position: a whole number from 0 to `size - 1`."""
    # Multiply integers, which have no upper limit; a random float has 53 bits.
    return int(float(rng.random()) * 2**53) * size >> 53


def refuse_unknown(given: Iterable[str], names: Collection[str]) -> None:
    """Check that a space has all the given names of parameters.

    Raises:
        InvalidParametersError: A name is unknown; the message lists those of the space.
    """
    for name in given:
        if name not in names:
            raise InvalidParametersError(
                f"Unknown parameter {name!r}. The space has: {', '.join(map(repr, names))}."
            )


def canonical_value(name: str, parameter: Parameter, value: Any) -> Any:
    """Return the parameter's canonical form of a value.

    Raises:
        InvalidParametersError: The value is out of range; the message names the parameter.
    """
    try:
        return parameter.canonical(value)
    except InvalidParametersError as error:
        raise InvalidParametersError(f"Parameter {name!r}: {error}") from None
