"""What is compared on a resume: two values have one identity only if they are equal.

That it is the same in every process is tested with the values of `plain_values`.
"""

from __future__ import annotations

import collections
import datetime as dt
import enum
import functools
import importlib
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, Literal, NewType, TypeVar

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from crystallize_opt.identity import describe, identity, without_identity
from crystallize_opt.source_code import functions_of, is_users
from tests import plain_values
from tests.plain_values import Color, Layer, Plain, Point, Slots, Slotted, one, two

# Any changed leaf changes the identity ------------------------------------------------------------


def category(categories: list[str], *, ordered: bool = False) -> Any:
    return pd.Series(pd.Categorical(["a", "b"], categories, ordered=ordered))


LEAVES: list[tuple[Any, Any]] = [
    (1, 2),
    (1, 1.0),
    (1, True),
    ("a", "b"),
    ("1", 1),
    (None, False),
    (b"a", b"b"),
    (1j, 2j),
    (Decimal("0.1"), Decimal("0.2")),
    (dt.date(2020, 1, 1), dt.date(2021, 1, 1)),
    (Path("v1.csv"), Path("v2.csv")),
    (range(3), range(5)),
    (slice(1), slice(2)),
    (frozenset({"age"}), frozenset({"height"})),
    (Color.RED, Color.GREEN),
    (enum.StrEnum("E", ["A", "B"]).A, enum.StrEnum("E", ["A", "B"]).B),  # type: ignore[attr-defined]
    (np.float64(0.1), np.float64(0.2)),
    (np.float32(0.5), np.float64(0.5)),
    (np.arange(3), np.arange(3.0)),
    (np.zeros(4), np.zeros((2, 2))),
    (np.array(["a", None]), np.array(["b", None])),
    (pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [1, 3]})),
    (pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"b": [1, 2]})),
    (pd.DataFrame({"a": ["x", None]}), pd.DataFrame({"a": ["x", "y"]})),
    (pd.DataFrame({"a": [1]}, index=[0]), pd.DataFrame({"a": [1]}, index=[1])),
    (pd.Series([1], name="a"), pd.Series([1], name="b")),
    (pd.Series(["a", "b"], dtype="category"), pd.Series(["a", "c"], dtype="category")),
    (category(["a", "b"]), category(["b", "a"])),
    (category(["a", "b"]), category(["a", "b", "c"])),
    (category(["a", "b"]), category(["a", "b"], ordered=True)),
    (pd.DataFrame({"a": category(["a", "b"])}), pd.DataFrame({"a": category(["b", "a"])})),
    (pd.Index(category(["a", "b"])), pd.Index(category(["b", "a"]))),
    (functools.partial(pow, 2), functools.partial(pow, 3)),
    (functools.partial(one), functools.partial(two)),
    (one, two),
    (lambda v: v, lambda v: -v),
    ({"age", "name"}, {"age", "height"}),
    (LogisticRegression(C=1.0), LogisticRegression(C=2.0)),
    (
        make_pipeline(StandardScaler(), LogisticRegression()),
        make_pipeline(StandardScaler(with_mean=False), LogisticRegression()),
    ),
    (np.random.default_rng(1), np.random.default_rng(2)),
    (np.random.RandomState(1), np.random.RandomState(2)),
    (collections.Counter("aab"), collections.Counter("abb")),
    (collections.OrderedDict(a=1, b=2), collections.OrderedDict(b=2, a=1)),
    (MappingProxyType({"a": 1}), MappingProxyType({"a": 2})),
    ("a" * 2000, "a" * 1999 + "b"),
    ([0.5] * 2000, [0.5] * 1999 + [0.25]),
    ([1], (1,)),
    ({"tuple": [1]}, (1,)),
    ({"(tuple)": [1]}, (1,)),
    ({1: "a"}, {"1": "a"}),
]


class Holder:
    def __init__(self, value: Any) -> None:
        self.value = value

    def get(self) -> Any:
        return self.value


WRAPS: list[Callable[[Any], Any]] = [
    lambda leaf: [0, leaf],
    lambda leaf: (leaf, 0),
    lambda leaf: {"a": leaf, "b": 0},
    lambda leaf: {3: leaf},
    lambda leaf: Layer(1, leaf),
    lambda leaf: Layer(1, hidden=leaf),
    lambda leaf: Slotted(leaf),
    lambda leaf: Point(leaf),
    lambda leaf: Plain(a=leaf),
    lambda leaf: Slots(1, leaf),
    lambda leaf: functools.partial(one, leaf),
    lambda leaf: functools.partial(one, x=leaf),
    lambda leaf: collections.deque([leaf]),
    lambda leaf: lambda: leaf,
    lambda leaf: lambda x=leaf: x,
    lambda leaf: Holder(leaf).get,
    lambda leaf: np.array([leaf, None], dtype=object),
    lambda leaf: type("Made", (), {"a": leaf})(),
]


# Not named by their texts: those of sets and functions differ from process to process.
@pytest.mark.parametrize("pair", LEAVES, ids=range(len(LEAVES)))
def test_two_values_are_two(pair: tuple[Any, Any]) -> None:
    assert identity(pair[0]) == identity(pair[0])
    assert identity(pair[0]) != identity(pair[1])


@settings(max_examples=40)
@given(st.sampled_from(LEAVES), st.lists(st.sampled_from(WRAPS), max_size=4))
def test_any_changed_leaf_changes_the_identity(
    pair: tuple[Any, Any], wraps: list[Callable[[Any], Any]]
) -> None:
    def wrapped(leaf: Any) -> Any:
        for wrap in wraps:
            leaf = wrap(leaf)
        return leaf

    first, again, other = wrapped(pair[0]), wrapped(pair[0]), wrapped(pair[1])

    assert identity(first) == identity(again)
    assert identity(first) != identity(other)
    assert list(without_identity(describe(first))) == []
    json.dumps(describe(first), allow_nan=False)


def test_a_value_that_did_not_change_is_described_as_before() -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"], "c": pd.Categorical(["u", "v"])})
    assert identity(frame) == identity(frame.copy())
    assert identity(frame) == identity(frame[["a"]].join(frame[["b", "c"]]))
    array = np.arange(6).reshape(2, 3)
    assert identity(array) == identity(np.asfortranarray(array))
    assert identity(Plain(a=1, b=2)) == identity(Plain(b=2, a=1))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (0.0, -0.0),
        ([1.0, 0.0], [1.0, -0.0]),
        ({0, 8}, {8, 0}),  # In a table of eight places, in two orders.
        (frozenset({0, 8}), frozenset({8, 0})),
        ({1: "a", 2: "b"}, {2: "b", 1: "a"}),
        ({"a": {0, 8}}, {"a": {8, 0}}),
        (collections.Counter("ab"), collections.Counter("ba")),
        (Slots(1, 2), Slots(1, 2)),
    ],
    ids=range(8),
)
def test_equal_values_have_one_identity(one: Any, other: Any) -> None:
    assert one == other or isinstance(one, Slots)
    assert identity(one) == identity(other)


def closing_over(value: Any) -> Any:
    return lambda: value


# Values with code, made anew at each call: equal ones are not the same object.
MADE: list[Callable[[], Any]] = [
    *(lambda: Color.RED, lambda: Color.GREEN, lambda: Slotted(1), lambda: Slotted(2)),
    *(lambda: plain_values.calls_helper, lambda: plain_values.helper, lambda: Slotted),
    *(lambda: plain_values.even, lambda: plain_values.odd, lambda: Point(Color.RED)),
]


@given(st.data())
def test_the_order_in_which_code_is_met_does_not_count(data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.sampled_from(range(len(MADE))), max_size=6, unique=True))
    shuffled = data.draw(st.permutations(chosen))

    def values(numbers: list[int]) -> Any:
        made = {f"{number}": MADE[number]() for number in numbers}
        pairs = [(each, name) for name, each in made.items()]
        return [made, dict(pairs), [made[name] for name in sorted(made)]]

    assert identity(values(chosen)) == identity(values(shuffled))


class ById:
    """In a set, its place is its address."""

    def __init__(self, code: Any) -> None:
        self.code = code


def test_the_order_of_a_set_of_objects_with_code_does_not_count() -> None:
    kept: list[Any] = []
    found = set()
    for number in range(20):
        kept += [object()] * number
        members = {ById(Color.RED), ById(plain_values.calls_helper), ById(plain_values.helper)}
        kept.append(members)
        found.add(identity([members, np.array([Color.RED, None]), Slotted(1)]))
    assert len(found) == 1


def test_one_value_twice_is_two_equal_values() -> None:
    for make in (lambda: closing_over(1), lambda: Slotted(1), lambda: Layer(1, one)):
        value = make()
        assert identity([value, value]) == identity([value, make()])
    first = closing_over(closing_over(1))
    assert identity([first, first]) != identity([first, closing_over(closing_over(2))])
    assert identity([first, closing_over(1)]) != identity([first, closing_over(2)])


def test_an_array_of_objects_is_their_code_too(monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.array([plain_values.calls_helper, plain_values.even], dtype=object)
    values = [array, {"also": plain_values.helper, "array": array}]
    before = [identity(value) for value in values]
    assert identity([array, array.copy()]) == identity([array, array])
    monkeypatch.setattr(plain_values, "SCALE", 3.0)
    assert all(identity(value) != earlier for value, earlier in zip(values, before, strict=True))


ITSELF: list[Any] = []


def in_an_array() -> Any:
    return ITSELF


def test_code_that_uses_an_array_with_itself_has_an_identity(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(globals(), "ITSELF", np.array([in_an_array, None]))
    assert identity(in_an_array) != identity(ITSELF)


class Wide:
    """So large that the next one takes the place in memory of one that is gone."""

    __slots__ = ("value", *(f"_{number}" for number in range(40)))

    def __init__(self, value: int) -> None:
        self.value = value


class Remade:
    """Its parts exist only while it is described."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __reduce__(self) -> Any:
        return Remade, (Wide(self.value),)


def test_objects_that_exist_only_while_they_are_described_are_told_apart() -> None:
    values = [Remade(number) for number in range(9)]

    assert identity(values) != identity([values[0]] * 9)
    assert len({identity([values[0], each]) for each in values}) == 9


def test_the_identity_of_a_long_list_is_short() -> None:
    assert len(identity([0.5] * 100_000)) < 200


T = TypeVar("T")
Name = NewType("Name", str)
Numbers = list[int] | Mapping[str, Callable[[int], float]]


class Annotated(Generic[T]):
    first: T
    name: Name
    numbers: Numbers | None
    kind: Literal["a"] = "a"
    socket: socket.socket
    later: Annotated[Any]


# Code ---------------------------------------------------------------------------------------------


def test_what_a_function_calls_is_a_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = identity(plain_values.calls_helper)
    with monkeypatch.context() as patch:
        patch.setattr(plain_values, "SCALE", 3.0)
        assert identity(plain_values.calls_helper) != before
    with monkeypatch.context() as patch:
        patch.setattr(plain_values, "helper", one)
        assert identity(plain_values.calls_helper) != before
    assert identity(plain_values.calls_helper) == before
    assert identity(plain_values.even) != identity(plain_values.odd)


def test_the_attributes_of_a_function_are_parts_of_it() -> None:
    def made(**attributes: Any) -> Any:
        def function(x: float) -> float:
            return x

        vars(function).update(attributes)
        return function

    assert identity(made(scale=1)) == identity(made(scale=1))
    assert identity(made(scale=1)) != identity(made(scale=2))
    assert identity(made()) != identity(made(scale=1))


def test_the_bases_and_attributes_of_a_class_are_parts_of_it() -> None:
    def made(scale: float, offset: float) -> Any:
        class Base:
            def shift(self) -> float:
                return offset

        class Step(Base):
            factor = scale

            def __init__(self, path: Path) -> None:
                super().__init__()
                self.path = path

        return Step

    plain = identity(made(1, 2)(Path("a")))
    assert plain == identity(made(1, 2)(Path("a")))
    others = [made(1, 2)(Path("b")), made(3, 2)(Path("a")), made(1, 3)(Path("a"))]
    assert len({plain, *map(identity, others)}) == 4


# Modules of the user, written anew with another value ---------------------------------------------


def identity_in(folder: Path, files: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the identity of `VALUE` in `ours/job.py`, imported from a folder.

    A package without an `__init__` has another name, because `inspect` fails in a process in which
    one package is of both kinds.
    """
    package = "ours" if "__init__.py" in files else "loose"
    for name, text in files.items():
        file = folder / package / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.replace("ours", package), encoding="utf-8")
        os.utime(file, (1e9, 1e9))  # Written before this process began: not edited since.
    with monkeypatch.context() as patch:
        patch.syspath_prepend(folder)
        try:
            return identity(importlib.import_module(f"{package}.job").VALUE)
        finally:
            for name in [each for each in sys.modules if each.partition(".")[0] == package]:
                del sys.modules[name]


def identities(
    files: Mapping[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, str, str]:
    """Return identities with 1.0, with 1.0 in other files, and with 2.0 in place of `NUMBER`."""
    numbers = ("1.0", "1.0", "2.0")
    first, again, other = (
        identity_in(
            folder / f"{place}",
            {name: text.replace("NUMBER", number) for name, text in files.items()},
            monkeypatch,
        )
        for place, number in enumerate(numbers)
    )
    return first, again, other


def inside(line: str, call: str = "helper.rate()") -> str:
    return f"def VALUE():\n    {line}\n    return {call}\n"


RATE = "def rate():\n    return NUMBER\n"


@pytest.mark.parametrize(
    "job",
    [
        inside("import ours.helper as helper"),
        inside("from ours.helper import rate", "rate()"),
        inside("from ours import helper"),
        inside("from . import helper"),
        inside("from .helper import rate", "rate()"),
        "import ours.helper\n" + inside("pass", "ours.helper.rate()"),
        "from ours import helper\n" + inside("h = helper", "h.rate()"),
        "from ours import helper\n" + inside("pass", "[each.rate() for each in [helper]]"),
        "from ours import helper\nLIBRARIES = {1: helper}\n"
        + inside("pass", "LIBRARIES[1].rate()"),
        "from ours import helper\ndef VALUE(library=helper):\n    return library.rate()\n",
        "from ours import helper\nclass Step:\n    pass\nVALUE = Step()\nVALUE.library = helper\n",
        "def make():\n    from ours import helper\n    return lambda: helper\n\nVALUE = make()",
    ],
)
@pytest.mark.parametrize("top", [{}, {"__init__.py": ""}], ids=["namespace", "package"])
def test_a_module_of_the_user_is_compared_however_it_is_reached(
    job: str, top: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {**top, "helper.py": RATE, "job.py": job}
    first, again, other = identities(files, tmp_path, monkeypatch)
    assert first == again != other


def test_an_import_of_the_package_above_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "__init__.py": "",
        "helper.py": RATE,
        "sub/__init__.py": "",
        "sub/steps.py": "def step():\n    from ..helper import rate\n    return rate()\n",
        "job.py": "from ours.sub.steps import step\nVALUE = step\n",
    }
    first, again, other = identities(files, tmp_path, monkeypatch)
    assert first == again != other


def test_what_a_function_does_not_use_of_a_module_is_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "__init__.py": "",
        "helper.py": "OTHER = NUMBER\ndef rate():\n    return 1\n",
        "job.py": "from ours import helper\n" + inside("pass"),
    }
    first, again, other = identities(files, tmp_path, monkeypatch)
    assert first == again == other


DECORATOR = """
import functools

def helper(function):
    @functools.wraps(function)
    def call(*args):
        return function(*args) * NUMBER
    return call
"""
DESCRIPTOR = """
class helper:
    def __init__(self, function):
        self.function = function
    def __get__(self, owner, kind=None):
        return self.function(owner) * NUMBER
"""
DECORATED = "class VALUE:\n    @helper\n    def rate(self):\n        return 1\n"


@pytest.mark.parametrize(
    ("helper", "body"),
    [
        (DECORATOR, DECORATED),
        (DESCRIPTOR, DECORATED),
        (DESCRIPTOR, "class VALUE:\n    rate = helper(abs)\n"),
        (
            "def helper(cls):\n    cls.rate_ = NUMBER\n    return cls\n",
            "@helper\nclass VALUE: ...\n",
        ),
        ("class helper(type):\n    rate = NUMBER\n", "class VALUE(metaclass=helper): ...\n"),
        ("helper = NUMBER\n", "class VALUE:\n    def rate(self, r=helper): ...\n"),
        ("helper = NUMBER\n", "class VALUE:\n    def rate(self, *, r=helper): ...\n"),
        ("helper = NUMBER\n", "class VALUE:\n    _rate_ = helper\n"),
        (
            "helper = NUMBER\n",
            (
                "import functools\nclass VALUE:\n    def of(self, r): ...\n"
                "    rate = functools.partialmethod(of, helper)\n"
            ),
        ),
        (
            "helper = NUMBER\n",
            (
                "import dataclasses\n@dataclasses.dataclass(slots=True)\n"
                "class VALUE:\n    rate: float = helper\n"
            ),
        ),
        (
            "def helper():\n    return NUMBER\n",
            (
                "import dataclasses\n@dataclasses.dataclass\n"
                "class VALUE:\n    rate: float = dataclasses.field(default_factory=helper)\n"
            ),
        ),
        (
            "def helper():\n    return NUMBER\n",
            (
                "import dataclasses\n@dataclasses.dataclass\n"
                "class VALUE:\n    r: float = dataclasses.field(default_factory=lambda: helper())\n"
            ),
        ),
        ("def helper(self):\n    return NUMBER\n", "class VALUE: ...\nVALUE.rate = helper\n"),
        ("helper = NUMBER\n", "class VALUE: ...\nVALUE.rate = lambda self: helper\n"),
        (
            "helper = NUMBER\n",
            (
                "class W:\n    def __init__(self, of): self.of = of\n"
                "    def __get__(self, owner, kind=None): return self.of(owner)\n"
                "class VALUE:\n    @W\n    def rate(self): return helper\n"
            ),
        ),
    ],
)
def test_what_the_body_of_a_class_uses_is_a_part_of_it(
    helper: str, body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = body.replace("helper", "helper.helper")
    for place, job in enumerate(
        (f"from .helper import helper\n{body}", f"from . import helper\n{whole}")
    ):
        files = {"__init__.py": "", "helper.py": helper, "job.py": job}
        first, again, other = identities(files, tmp_path / f"{place}", monkeypatch)
        assert first == again != other


def test_a_class_with_any_annotations_has_an_identity() -> None:
    assert list(without_identity(describe(Annotated))) == []


def test_what_attrs_generates_is_not_compared() -> None:
    attrs = pytest.importorskip("attrs")
    made = attrs.make_class("Made", {"x": attrs.field(default=1)})
    files = {each.__code__.co_filename for each in functions_of(made)}
    assert [each for each in files if is_users(each)] == []


# No identity --------------------------------------------------------------------------------------


def generator() -> Any:
    yield 1


def test_what_has_no_identity_is_named() -> None:
    with socket.socket() as unknown:
        values = [unknown, generator(), threading.local(), MappingProxyType({"a": generator()})]
        for value in values:
            found = list(without_identity(describe({"a": [1, value]})))
            assert len(found) == 1
            assert found[0][0].startswith("a[1]")
    assert list(without_identity(describe([threading.Lock(), threading.Event(), json]))) == []


def test_an_object_that_contains_itself_has_an_identity() -> None:
    def circle(size: int, name: str) -> Plain:
        nodes = [Plain(name=name) for _ in range(size)]
        for node, following in zip(nodes, [*nodes[1:], nodes[0]], strict=True):
            node.__dict__["next"] = following
        return nodes[0]

    assert identity(circle(3, "a")) == identity(circle(3, "a"))
    assert len({identity(circle(*each)) for each in ((1, "a"), (2, "a"), (3, "a"), (3, "b"))}) == 4
