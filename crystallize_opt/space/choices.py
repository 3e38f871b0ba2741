"""Parameters whose values are any Python objects: `Categorical`, `Ordinal` and `Constant`."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from crystallize_opt.errors import InvalidParametersError, SpaceError
from crystallize_opt.space.parameter import (
    NO_DEFAULT,
    Condition,
    DescribedParameter,
    RandomSource,
    plain_scalar,
    position_of,
    same_value,
    set_default,
    set_fields,
    shown_choices,
)


@dataclass(frozen=True, eq=False, repr=False)
class _Choices(DescribedParameter):
    """The base of `Categorical` and `Ordinal`. Choices are any Python objects.

    Two choices are the same if they are equal and of one type: `None`, `True`, `1` and `1.0` are
    distinct choices.
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
        set_fields(self, choices=tuple(map(plain_scalar, self.choices)))
        if not self.choices:
            raise SpaceError(f"{kind} needs at least one choice.")
        for positions in self._positions.values():
            for number, position in enumerate(positions):
                choice = self.choices[position]
                if any(same_value(choice, self.choices[each]) for each in positions[:number]):
                    raise SpaceError(
                        f"{kind} has the choice {choice!r} twice: {shown_choices(self.choices)}."
                    )
        set_default(self)

    @cached_property
    def _positions(self) -> dict[Hashable, list[int]]:
        """The positions of the choices by `_in_common`, which is equal for equal choices."""
        found: dict[Hashable, list[int]] = {}
        for position, choice in enumerate(self.choices):
            found.setdefault(_in_common(choice), []).append(position)
        return found

    def __getstate__(self) -> dict[str, Any]:
        # Leave the positions out, because hashes differ between processes.
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @property
    def size(self) -> float:
        return len(self.choices)

    def values(self) -> Iterator[Any]:
        return iter(self.choices)

    def sample(self, rng: RandomSource) -> Any:
        return self.choices[position_of(rng, len(self.choices))]

    def index(self, value: Any) -> int:
        """Return the position of a choice.

        Raises:
            InvalidParametersError: `value` is not a choice.
        """
        for candidate in (value, plain_scalar(value)):
            for position in self._positions.get(_in_common(candidate), ()):
                if same_value(candidate, self.choices[position]):
                    return position
        raise InvalidParametersError(
            f"{value!r} is not one of the choices {shown_choices(self.choices)}. (None, True, 1 "
            "and 1.0 are different choices.)"
        )

    def canonical(self, value: Any) -> Any:
        return self.choices[self.index(value)]

    def identity(self, value: Any) -> int:
        return self.index(value)  # choices may be unhashable


def _in_common(value: Any) -> Hashable:
    """Return a hashable that is equal for equal choices; their type if they are unhashable."""
    kind = type(value)
    if kind in _PLAIN:
        return kind, value
    if kind is float:
        return kind, value if value == value else None  # nan is nan
    if isinstance(value, (tuple, list)):
        return kind, tuple(map(_in_common, value))
    if isinstance(value, dict):
        return kind, frozenset((_in_common(key), _in_common(each)) for key, each in value.items())
    if isinstance(value, set):
        return kind, frozenset(value)
    try:
        return kind, hash(value)
    except TypeError:
        return (kind,)


_PLAIN = frozenset({bool, int, str, type(None)})


class Categorical(_Choices):
    """One of several unordered choices, which may be any Python objects.

    Args:
        choices: At least one; all distinct, as `None`, `True`, `1` and `1.0` are.
        default: The choice used without a search.

    Example:
        >>> Categorical(["rbf", None, True, 1])
        Categorical(['rbf', None, True, 1])
    """


class Ordinal(_Choices):
    """One of several ordered choices: `Ordinal(["small", "medium", "large"])`.

    Args:
        choices: At least one; all distinct, in order.
        default: The choice used without a search.
    """


@dataclass(frozen=True, eq=False, repr=False)
class Constant(DescribedParameter):
    """A parameter with one value. Every treatment in which it is active has the value.

    Example:
        >>> Constant("adam").sample(None)
        'adam'
    """

    value: Any
    conditions: tuple[Condition, ...] = dataclasses.field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        set_fields(self, value=plain_scalar(self.value))

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
        if not any(same_value(candidate, self.value) for candidate in (value, plain_scalar(value))):
            raise InvalidParametersError(f"{value!r} is not the constant {self.value!r}.")
        return self.value
