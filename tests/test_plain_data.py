"""Any value as plain data and back; its identity, the same in every process."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import os
import subprocess
import sys
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystallize_opt import Categorical, SearchSpace
from crystallize_opt.errors import UsageError
from crystallize_opt.identity import identity
from crystallize_opt.plain_data import (
    StoredObject,
    decode,
    described,
    encode,
)
from tests import plain_values
from tests.plain_values import Color, Layer, Named, Plain, Point, Slotted, one

EXACT, OBJECTS = plain_values.exact_values(), plain_values.objects()


def alike(one: Any, other: Any) -> bool:
    """Whether two values are equal with all their types; nan is nan, and 0.0 is not -0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, dict):
        return alike([*one.items()], [*other.items()])
    if isinstance(one, (set, frozenset)):
        return len(one) == len(other) and all(any(alike(a, b) for b in other) for a in one)
    if isinstance(one, (int, Fraction)):  # of any length
        return bool(one == other)
    return repr(one) == repr(other)


# Written and read -------------------------------------------------------------------------------

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters(codec=None, exclude_categories=())),  # surrogates, too
    st.binary(),
    st.complex_numbers(),
    st.decimals(),
    st.fractions(),
    st.uuids(),
    st.dates(),
    st.times().map(lambda time: time.replace(fold=0)),
    st.datetimes(timezones=st.none() | st.just(dt.UTC)).map(lambda time: time.replace(fold=0)),
    st.timedeltas(),
    st.builds(range, st.integers(), st.integers(), st.integers(min_value=1)),
    st.text("ab/. ").map(Path),
)
hashable = st.recursive(
    # Not signaling nan, which has no hash.
    scalars.filter(lambda value: not (isinstance(value, Decimal) and value.is_snan())),
    lambda inner: st.lists(inner).map(tuple) | st.frozensets(inner),
    max_leaves=5,
)
values = st.recursive(
    scalars | hashable,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.sets(hashable, max_size=4)
        | st.dictionaries(hashable, inner, max_size=4)
    ),
    max_leaves=8,
)


@given(values)
def test_values_are_read_as_they_were_written(value: Any) -> None:
    written = encode(value)

    assert alike(decode(json.loads(json.dumps(written, allow_nan=False))), value)


@pytest.mark.parametrize("value", EXACT, ids=lambda value: type(value).__name__)
def test_every_exact_value_is_read_as_it_was_written(value: Any) -> None:
    written = encode(value)

    read = decode(json.loads(json.dumps(written, allow_nan=False)))
    assert alike(read, value)
    assert encode(read) == written


@pytest.mark.parametrize("value", OBJECTS, ids=lambda value: type(value).__name__)
def test_objects_are_described_and_not_serialised(value: Any) -> None:
    written = json.loads(json.dumps(encode(value), allow_nan=False))

    assert encode(decode(written)) == written  # What was described stays so described.
    assert encode(value, other=lambda _: "other") != written
    if "object" in written:
        assert decode(written) == StoredObject(described(value))


def test_other_objects_are_written_as_one_likes() -> None:
    space = SearchSpace({"a": [one, {1, 2}, Color.RED, (Layer(1), {"k": Plain(a=1)})]})

    again = SearchSpace.from_dict(space.to_dict())

    assert again == space
    assert again["a"].default is space["a"].default
    assert Categorical([one]).choices[0] is again["a"].choices[0]  # type: ignore[attr-defined]


def test_a_description_imports_and_runs_nothing() -> None:
    assert decode({"object": "os.system"}) == StoredObject("os.system")
    assert repr(decode({"object": "os.system"})) == "<os.system>"


@pytest.mark.parametrize(
    "data",
    [
        *(
            {},
            {"set": [1], "tuple": []},
            {"unknown": 1},
            {"object": 1},
            {"tuple": 1},
            {"dict": [1]},
        ),
        *(
            {"set": [[]]},
            {"decimal": "x"},
            {"fraction": [1, 0]},
            {"range": [1, 2, 0]},
            {"uuid": "1"},
        ),
        *(
            {"date": 1},
            {"path": ["Path", "a"]},
            {"path": ["os", "a"]},
            {"bytes": "x"},
            {"int": "g"},
        ),
        *(
            {"complex": [1, 2, 3]},
            {"float": "one"},
            {"timedelta": [10**30]},
            [{"float": None}],
            {1: 2},
        ),
    ],
    ids=str,
)
def test_other_data_are_refused(data: Any) -> None:
    with pytest.raises(UsageError, match="Not plain data"):
        decode(data)


def nested(depth: int, wrap: Any) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = wrap(value)
    return value


def recursive() -> list[Any]:
    a: list[Any] = []
    a.append(a)
    b: dict[str, Any] = {}
    b["b"] = [b]
    layer = Layer(1)
    layer.names = [layer]
    return [a, b, (a,), layer, [layer], nested(100_000, lambda v: [v]), nested(101, lambda v: (v,))]


@pytest.mark.parametrize("value", recursive()[:3] + recursive()[5:], ids=["a", "b", "c", "d", "e"])
def test_what_has_no_end_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="contains itself, or is nested more than 100 levels"):
        encode(value)


@pytest.mark.parametrize("value", [*recursive()[:3], recursive()[5]], ids=["a", "b", "c", "d"])
def test_what_has_no_end_has_no_identity(value: Any) -> None:
    with pytest.raises(UsageError, match="contains itself, or is nested more than 100 levels"):
        identity(value)


@pytest.mark.parametrize("value", [Layer(1, recursive()[0]), recursive()[3], recursive()[4]])
def test_an_object_that_contains_itself_is_described_with_an_end(value: Any) -> None:
    assert len(described(value)) < 300
    assert json.dumps(encode(value))


def test_what_json_can_just_hold_is_written() -> None:
    for wrap in (lambda v: [v], lambda v: {"a": v}, lambda v: (v,), lambda v: frozenset({v})):
        value = nested(100, wrap)
        assert alike(decode(json.loads(json.dumps(encode(value)))), value)


# The same in every process ----------------------------------------------------------------------

SCRIPT = """
import json
from crystallize_opt.identity import describe, identity
from crystallize_opt.plain_data import described, encode
from tests import plain_values

values = plain_values.exact_values() + plain_values.objects()
print(json.dumps([[identity(v), encode(v), describe(v), described(v)] for v in values]))
"""


def test_values_are_written_alike_in_every_process() -> None:
    written = []
    for seed in ("0", "1", "2", "3"):
        ran = subprocess.run(  # noqa: S603
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        written.append(json.loads(ran.stdout))

    for others in written[1:]:
        for value, here, there in zip(EXACT + OBJECTS, written[0], others, strict=True):
            assert here == there, repr(value)
    assert " at 0x" not in json.dumps(written[0])


def test_different_values_have_different_identities() -> None:
    identities = [identity(value) for value in EXACT + OBJECTS]

    found = Counter(identities)
    assert [value for value in found if found[value] > 1] == []
    again = plain_values.exact_values() + plain_values.objects()
    assert [identity(value) for value in again] == identities


@given(st.lists(hashable, unique=True, max_size=5), st.randoms(use_true_random=False))
def test_the_order_of_a_dict_or_set_is_not_its_identity(members: list[Any], rng: Any) -> None:
    shuffled = rng.sample(members, len(members))

    assert identity(set(members)) == identity(set(shuffled))
    assert identity(dict.fromkeys(members)) == identity(dict.fromkeys(shuffled))
    assert encode(frozenset(members)) == encode(frozenset(shuffled))


def test_zero_is_zero() -> None:
    assert identity(-0.0) == identity(0.0) != identity(0)
    assert identity([complex(-0.0, 1)]) == identity([complex(0.0, 1)])
    assert repr(decode(encode(-0.0))) == "-0.0"


def test_an_identity_does_not_hang_on_how_numbers_are_printed() -> None:
    array = np.linspace(0, 1, 5)
    before = identity(array), described(array), identity(array[1]), described(array[1])

    with np.printoptions(precision=2, legacy="1.25"), decimal.localcontext(prec=2):
        assert (
            identity(array),
            described(array),
            identity(array[1]),
            described(array[1]),
        ) == before
        assert decode(encode(Decimal("1.2345"))) == Decimal("1.2345")


# Runs that earlier versions recorded ------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (len, "builtins.len"),
        (Plain, "tests.plain_values.Plain"),
        (Plain(), "tests.plain_values.Plain: <tests.plain_values.Plain object>"),
        (Named("a"), "tests.plain_values.Named: Named('a')"),
        (Color.RED, "tests.plain_values.Color: <Color.RED: 1>"),
        (Slotted(2), "tests.plain_values.Slotted: Slotted(size=2)"),
        (Point(1, ["a", (2.5,)]), "tests.plain_values.Point: Point(x=1, y=['a', (2.5,)])"),
        (Counter("aab"), "collections.Counter: Counter({'a': 2, 'b': 1})"),
        (StoredObject("builtins.len"), "builtins.len"),
    ],
)
def test_descriptions_are_those_of_earlier_versions(value: Any, text: str) -> None:
    assert encode(value) == {"object": text}
