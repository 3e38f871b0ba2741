"""The code of functions and classes: its digest, and what it uses."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import pytest

from crystallize_opt.source_code import (
    bytecode_digest,
    closure_of,
    functions_of,
    globals_of,
    is_users,
    module_digest,
    source_digest,
)
from tests import plain_values
from tests.plain_values import Color, Layer, one

SCALE = 3


def uses_names(x: int) -> Any:  # never called
    def inner() -> Any:
        return SCALE, plain_values.one(x), plain_values.WORDS, np.sqrt(x), len([])

    return inner, Layer


def imports_when_it_runs() -> Any:
    import tests.toy
    from tests import strategies

    return strategies, tests.toy


def as_function(value: Any) -> FunctionType:
    assert isinstance(value, FunctionType)
    return value


def test_the_global_names_of_a_function() -> None:
    assert globals_of(as_function(uses_names)) == {
        "SCALE": 3,
        "plain_values.one": one,
        "plain_values.WORDS": plain_values.WORDS,
        "Layer": Layer,
    }
    assert set(globals_of(as_function(imports_when_it_runs))) == {
        "import tests.toy",
        "import tests",
        "import tests.strategies",
    }


def test_a_module_is_not_imported_for_its_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "lazily.py").write_text("raise RuntimeError\n", encoding="utf-8")
    before = module_digest("lazily")
    (tmp_path / "lazily.py").write_text("raise RuntimeError  # why\n", encoding="utf-8")
    same = module_digest("lazily")
    (tmp_path / "lazily.py").write_text("raise ValueError(2)\n", encoding="utf-8")

    assert before == same != module_digest("lazily")
    assert (
        module_digest("json") is module_digest("numpy.linalg") is module_digest("no.such") is None
    )


def test_lambdas_in_one_line_have_their_own_code() -> None:
    # fmt: off
    pair = (lambda v: v, lambda v: -v, lambda v: [lambda: v], lambda v: -v)
    # fmt: on
    digests = [source_digest(each) for each in pair]

    assert None not in digests
    assert len(set(digests)) == 3
    assert digests[1] == digests[3]


def test_the_code_of_a_class_is_that_of_its_last_definition() -> None:
    def make(number: int) -> Any:
        if number:

            class Made:
                size = 1

        else:

            class Made:  # type: ignore[no-redef]
                size = 2

        return Made

    assert source_digest(make(0)) is not None
    assert source_digest(Layer) not in (source_digest(Color), None)


def test_code_without_source_is_compared_by_its_bytecode() -> None:
    functions = []
    for text in ("def f(x): return x + 1", "def f(x): return x + 1  # why", "def f(x): return x"):
        space: dict[str, Any] = {}
        exec(text, space)  # noqa: S102
        functions.append(space["f"])

    assert [source_digest(each) for each in functions] == [None] * 3
    digests = [bytecode_digest(each.__code__) for each in functions]
    assert digests[0] == digests[1] != digests[2]


def test_whose_code_it_is() -> None:
    assert is_users(__file__)
    assert is_users("<ipython-input-3>")
    ours = is_users.__code__.co_filename
    assert not any(map(is_users, (None, np.__file__, os.__file__, ours, "<frozen os>")))


def test_the_functions_of_a_class() -> None:
    class Base:
        @property
        def size(self) -> int:
            return SCALE

        @staticmethod
        def of() -> None: ...

        @classmethod
        def made(cls) -> None: ...

    assert {each.__name__ for each in functions_of(Base)} == {"size", "of", "made"}
    generated = [each.__code__.co_filename for each in functions_of(Layer)]
    assert not any(map(is_users, generated))


def test_closures_with_an_empty_cell() -> None:
    def later() -> Any:
        return value, SCALE

    assert closure_of(as_function(later)) == {}
    value = 1
    assert closure_of(as_function(later)) == {"value": value}


class ParsesAtItsEnd:
    """Garbage that parses when it is collected, like asyncio's report of a forgotten task."""

    def __init__(self) -> None:
        self.cycle = self

    def __del__(self) -> None:
        import ast

        ast.parse("x = 1 + 2")


def test_garbage_that_is_collected_meanwhile_spoils_no_digest() -> None:
    import crystallize_opt.source_code as module

    expected = source_digest(ParsesAtItsEnd)
    assert expected
    threshold = gc.get_threshold()
    for _ in range(10):
        ParsesAtItsEnd()
        module._parsed.cache_clear()
        gc.set_threshold(5)
        try:
            found = source_digest(ParsesAtItsEnd)
        finally:
            gc.set_threshold(*threshold)
        assert found == expected


WRITTEN = """
RATE = 1

def rate(x):
    return x * 2

pair = lambda x: x + 1, lambda x: x + 2

class Model:
    depth = 3

    def fit(self, x):
        return x + self.depth
"""


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("RATE = 1", "RATE = 1", ""),
        ("RATE = 1", "# Further down.\nRATE = 2", ""),
        ("return x * 2", "return (x *  2)  # twice", ""),
        ("return x * 2", "return x * 3", "rate"),
        ("x + 2", "x + 3", "second"),
        ("pair = ", "\n\npair = ", ""),
        ("x + self.depth", "x - self.depth", "Model"),
        ("depth = 3", "depth = 4", "Model"),
        ("class Model:", "class Model:\n    # A comment.", ""),
        ("def rate", "def (", "rate first second Model"),
    ],
)
def test_code_that_was_edited_after_its_import_is_not_taken_for_the_new_text(
    old: str, new: str, changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "edited_later.py"
    file.write_text(WRITTEN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "edited_later", raising=False)  # Forgotten after the test.
    module = importlib.import_module("edited_later")
    first, second = module.pair
    code = {"rate": module.rate, "first": first, "second": second, "Model": module.Model}
    before = {name: source_digest(each) for name, each in code.items()}
    assert None not in before.values()

    file.write_text(WRITTEN.replace(old, new))

    expected = {name: None if name in changed.split() else before[name] for name in code}
    assert {name: source_digest(each) for name, each in code.items()} == expected
