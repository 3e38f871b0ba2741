"""A search space as a person sees it."""

from __future__ import annotations

import html
import re

from crystallize_opt import Categorical, Float, SearchSpace

SPACE = SearchSpace(
    {
        "price in $": (0.0, 1.0),
        "<b>": Float(1e-3, 1e3, log=True).when(kind="a$b"),
        "kind": ["a$b", "<script>alert(1)</script>"],
        "y": (0.0, 1.0),
        "many": Categorical([f"choice {i}" for i in range(10_000)]),
        "long": ["x" * 5000, "y"],
    },
    ["y <= 0.5"],
)


def test_the_text_has_one_line_for_each_parameter_and_constraint() -> None:
    shown = repr(SearchSpace({"lr": (0.0, 1.0), "b": (1, 8)}, ["lr + b == 3", "b >= 2*lr"]))
    assert shown.splitlines() == [
        "SearchSpace of 2 parameters and 2 linear constraints:",
        "  lr  Float(0.0, 1.0)",
        "  b   Integer(1, 8)",
        "  lr + b == 3",
        "  -b + 2*lr <= 0",
    ]
    assert repr(SearchSpace({})) == "SearchSpace of 0 parameters"


def test_no_line_is_long() -> None:
    lines = repr(SPACE).splitlines()
    assert len(lines) == 8
    assert max(map(len, lines)) < 180
    assert "10000 choices" in repr(SPACE)
    assert len(SPACE._repr_html_()) < 3000


def test_html_is_escaped_and_no_dollar_is_typeset() -> None:
    shown = SPACE._repr_html_()
    assert "<script>" not in shown
    assert html.escape("<b>") in shown
    # A notebook leaves out what is in `code` when it typesets mathematics.
    assert "$" in shown
    assert "$" not in re.sub("<[^>]*>", "", re.sub("<code[^>]*>.*?</code>", "", shown))
