"""Reads what a client sent, and refuses what has the wrong type, by its name."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from crystallize_opt.service.refusal import Refusal, bad

T = TypeVar("T")
LONGEST_NAME = 100
_SHOWN = 60


def shown(value: Any) -> str:
    """Return a value as a message shows it: of a long one, the beginning."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


class Given:
    """A JSON object from a client. Null counts as left out, as SigOpt has it.

    Args:
        data: The object.
        what: What it is, for messages: `"the experiment"`.

    Raises:
        Refusal: It is no object.

    Example:
        >>> given = Given({"limit": 3, "name": None}, "the experiment")
        >>> given.integer("limit", low=1), given.text("name")
        (3, None)
        >>> given.text("limit")
        Traceback (most recent call last):
        ...
        crystallize_opt.service.refusal.Refusal: `limit` of the experiment is a text, not 3.
    """

    def __init__(self, data: Any, what: str) -> None:
        if not isinstance(data, Mapping):
            raise bad(f"{what[:1].upper()}{what[1:]} is a JSON object, not {shown(data)}.")
        self.data: Mapping[str, Any] = data
        self.what = what

    def __contains__(self, key: str) -> bool:
        return self.data.get(key) is not None

    def error(self, key: str, expected: str) -> Refusal:
        """Return the refusal of a value."""
        return bad(f"`{key}` of {self.what} is {expected}, not {shown(self.data.get(key))}.")

    def refuse_unknown(self, known: Collection[str]) -> None:
        """Check that the object has no other keys."""
        if unknown := [key for key in self.data if key not in known]:
            raise bad(
                f"Unknown: {', '.join(f'`{shown(key)[1:-1]}`' for key in unknown[:5])} in "
                f"{self.what}. Known: {', '.join(f'`{key}`' for key in sorted(known)) or 'none'}."
            )

    def refuse_missing(self, *keys: str) -> None:
        """Check that the object has some keys."""
        for key in keys:
            if key not in self:
                raise bad(f"`{key}` of {self.what} is missing.")

    def text(self, key: str, *, longest: int | None = None) -> str | None:
        """Return a text; with `longest`, it is a name: not empty, without control characters."""
        value = self.data.get(key)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self.error(key, "a text")
        if longest is None:
            return value
        value = value.strip()
        if not 1 <= len(value) <= longest or not all(ord(each) >= 32 for each in value):
            raise self.error(key, f"a text of 1 to {longest} characters, without control ones")
        return value

    def choice(self, key: str, choices: Sequence[str]) -> str | None:
        """Return one of some texts."""
        value = self.data.get(key)
        if value is None:
            return None
        if value not in choices or not isinstance(value, str):
            raise self.error(key, f"one of {', '.join(map(repr, choices))}")
        return value

    def boolean(self, key: str) -> bool | None:
        """Return true or false."""
        value = self.data.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.error(key, "true or false")
        return value

    def integer(self, key: str, *, low: int | None = None) -> int | None:
        """Return a whole number."""
        value = self.data.get(key)
        if value is None:
            return None
        if not is_integer(value) or (low is not None and value < low):
            more = "" if low is None else f" of at least {low}"
            raise self.error(key, f"a whole number{more}")
        return int(value)

    def number(self, key: str) -> float | None:
        """Return a finite number."""
        value = self.data.get(key)
        if value is not None and not is_number(value):
            raise self.error(key, "a finite number")
        return value

    def mapping(self, key: str) -> dict[str, Any] | None:
        """Return an object."""
        value = self.data.get(key)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self.error(key, "an object")
        return dict(value)

    def array(self, key: str) -> list[Any] | None:
        """Return an array."""
        value = self.data.get(key)
        if value is None:
            return None
        if not isinstance(value, list):
            raise self.error(key, "an array")
        return value

    def each(self, key: str, read: Callable[[Any], T]) -> list[T]:
        """Return the items of an array, each read by a function; none if it is left out."""
        return [read(item) for item in self.array(key) or ()]


def is_integer(value: Any) -> bool:
    """Whether a value is a whole number, which JSON can say exactly."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    if isinstance(value, float):
        return math.isfinite(value)
    return is_integer(value)


def metadata_of(given: Given, key: str = "metadata") -> dict[str, Any] | None:
    """Return metadata: at most 100 keys, whose values are texts, numbers or null."""
    found = given.mapping(key)
    if found is None:
        return None
    if len(found) > 100:
        raise bad(f"`{key}` of {given.what} has at most 100 keys, not {len(found)}.")
    for name, value in found.items():
        if len(name) > LONGEST_NAME:
            raise bad(f"A key of `{key}` of {given.what} has at most 100 characters: {shown(name)}")
        is_text = isinstance(value, str) and len(value) <= 500
        if value is not None and not is_text and not is_number(value):
            raise bad(
                f"`{key}` of {given.what} holds texts of up to 500 characters and numbers; "
                f"{shown(name)} is {shown(value)}."
            )
    return {name: value for name, value in found.items() if value is not None}


def number_of(text: Any, what: str) -> int:
    """Return the number that an id stands for.

    Raises:
        Refusal: It is no number: there is no such thing.
    """
    if is_integer(text) and text > 0:
        return int(text)
    if isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 19:
        return int(text)
    raise Refusal(404, f"There is no {what} {shown(text)}: an id is a number, such as '12'.")
