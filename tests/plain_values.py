"""Values of every kind, made anew in each process: no two of them are the same value."""

from __future__ import annotations

import collections
import datetime as dt
import enum
import functools
import re
import uuid
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

import numpy as np

WORDS = ("alpha", "beta", "gamma", "delta", "epsilon")  # whose order in a set differs


class Color(enum.Enum):
    RED = 1
    GREEN = 2


class Words(enum.Enum):
    FEW = frozenset(WORDS[:2])
    MANY = frozenset(WORDS)


class Word(enum.StrEnum):
    ALPHA = "alpha"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


@dataclass
class Layer:
    size: int
    names: Any = ()
    hidden: Any = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Slotted:
    size: int


class Point(NamedTuple):
    x: Any
    y: Any = 0


class Plain:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Slots:
    __slots__ = ("__b", "a")

    def __init__(self, a: Any, b: Any) -> None:
        self.a = a
        self.__b = b


class Named:
    def __init__(self, name: str, **attributes: Any) -> None:
        self.__dict__.update(attributes)
        self.name = name

    def __repr__(self) -> str:
        return f"Named({self.name!r}) at 0x{id(self):x}"


class Whole(int):
    pass


def one(x: int) -> int:
    return x + 1


def two(x: int) -> int:
    return x + 2


SCALE = 2.0


def helper(x: float) -> float:
    return SCALE * x


def calls_helper(x: float) -> float:
    return helper(x) + 1 if WORDS else Layer(1).size


def even(x: int) -> bool:
    return odd(x - 1) if x else True


def odd(x: int) -> bool:
    return even(x - 1) if x else False


def chain(depth: int, end: Any) -> Any:
    """Nest a value in dataclasses."""
    return end if not depth else Layer(0, chain(depth - 1, end))


def exact_values() -> list[Any]:
    """Values that `encode` writes exactly."""
    utc = dt.timezone.utc  # noqa: UP017  (next to another time zone)
    there = dt.timezone(dt.timedelta(hours=-3, seconds=7))
    scalars = [
        None,
        True,
        False,
        1,
        0,
        1.0,
        0.0,
        "",
        "1",
        "None",
        float("inf"),
        float("nan"),
        5e-324,
    ]
    return [
        *scalars,
        *(10**4299, 10**5000, -(10**5000), "\ud800"),
        *((), [], {}, set(), frozenset(), b"", 0j, range(0)),
        *((1,), [1], {1}, frozenset({1}), {1: 1}, b"1", 1 + 0j, range(1), range(1, 9, 2)),
        *((1.0,), [1.0], {1.0}, {True}, {1: True}, {True: 1}, {"1": 1}, ([1],), [(1,)]),
        *({"tuple": [1]}, {"object": "x"}, {"a": {"b": {"c": ({1, 2},)}}}),
        *(set(WORDS), frozenset(WORDS), {frozenset(WORDS), frozenset(WORDS[:3])}),
        *(dict.fromkeys(WORDS), {word: set(WORDS[:3]) for word in WORDS}),
        *(complex(float("inf"), 0.5), complex(0.5, float("inf")), bytes(range(256))),
        *(Decimal(1), Decimal("1.50"), Decimal("Infinity"), Decimal("sNaN1"), Decimal("1E+999999")),
        *(Fraction(1), Fraction(1, 3), Fraction(10**5000, 7)),
        *(uuid.UUID(int=1), uuid.UUID(int=2**128 - 1)),
        *(dt.date(1, 1, 1), dt.time(1, 2), dt.time(1, 2, 0, 5), dt.time(1, 2, tzinfo=there)),
        *(dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 1, tzinfo=utc)),  # noqa: DTZ001
        dt.datetime(2020, 1, 1, 1, 2, 3, 4, tzinfo=there),
        *(dt.timedelta(), dt.timedelta(-1, 5, 7), dt.timedelta.max),
        *(Path("a/b"), PurePosixPath("a/b"), PureWindowsPath("a/b"), Path("/"), Path()),
    ]


def objects() -> list[Any]:
    """Values that `encode` only describes."""
    return [
        *(Color.RED, Color.GREEN, Words.FEW, Words.MANY, Word.ALPHA, Access.READ),
        Access.READ | Access.WRITE,
        *(Layer(1), Layer(1, (1,)), Layer(1, [1]), Layer(1, {*WORDS}), Layer(1, hidden=2)),
        *(chain(5, 1), chain(5, 2), chain(5, Color.RED), chain(5, {*WORDS})),
        *(Slotted(1), Slotted(2), Point(1), Point(1.0), Point(1, {*WORDS}), Point(Point(1), 2)),
        *(Plain(), Plain(a=1), Plain(a=2), Plain(a=[1, 2]), Plain(a=Plain(b=1)), Plain(b={*WORDS})),
        *(Slots(1, 2), Slots(2, 2), Slots(2, 3), Named("a"), Named("b"), Named("b", more=2)),
        *(Whole(1), Whole(2), collections.Counter("ab"), collections.deque([1]), re.compile("a")),
        *(collections.OrderedDict(a=1), collections.OrderedDict(a=2), collections.deque([2])),
        *(one, two, calls_helper, even, odd, len, str.join, Color, Layer, int),
        dt.datetime(2020, 1, 1, fold=1),  # noqa: DTZ001
        *(functools.partial(one, 1), functools.partial(one, 2), functools.partial(two, 1)),
        *(np.arange(3), np.arange(4), np.arange(3.0), np.arange(3.0).reshape(3, 1), np.zeros(0)),
        *(np.array([1.0, float("nan")]), np.array(1.0), np.arange(1000), np.array(["a", "b"])),
        *(np.array([1, "a"], dtype=object), np.array([1, Plain(a=1)], dtype=object)),
        *(
            np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
            np.array([(1, 2)], dtype="i4,i4"),
        ),
        *(np.float64(1.0), np.float32(0.1), np.float64(0.1), np.int64(1), np.bool_(True)),
        *(np.datetime64("2020-01-01"), np.datetime64("2020-01-01", "ns"), np.longdouble(0.1)),
        *({np.float64(1.0), "a"}, (Color.RED,), [Plain(a=1)], {"a": one}, {one, two, *WORDS}),
        *({*Color}, {Slotted(1), Slotted(2)}, {calls_helper, helper}),
    ]
