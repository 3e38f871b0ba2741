"""How this package shows tables, in text and in notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from crystallize_opt.errors import printable

_WIDEST = 150  # Characters of one cell, after which it is cut.


def cut(text: str) -> str:
    """Return a text in one line, without its middle if it is very long."""
    text = printable(text)
    if len(text) <= _WIDEST:
        return text
    half = (_WIDEST - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"


def number(value: Any) -> str:
    """Return a number with six digits, anything else as text, and None as an empty text."""
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def html_table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return an HTML table for a notebook.

    Args:
        caption: A line above the table.
        head: The names of the columns; empty for a table without them.
        rows: The cells. Very long ones are cut.
    """
    import html  # Seldom needed, and slow to import.

    # A notebook typesets what is between dollar signs as mathematics, but not in `code`.
    def cell(tag: str, text: str) -> str:
        shown = html.escape(cut(text))
        return f"<{tag}>{f'<code>{shown}</code>' if '$' in shown else shown}</{tag}>"

    lines = [("th", head)] if head else []
    lines += [("td", row) for row in rows]
    body = "".join(f"<tr>{''.join(cell(tag, each) for each in row)}</tr>" for tag, row in lines)
    return cell("p", caption) + (f"<table>{body}</table>" if body else "")


def text_table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as text, with aligned columns."""
    lines = [list(head), *([cut(each) for each in row] for row in rows)]
    widths = [max(len(each) for each in column) for column in zip(*lines, strict=True)]
    shown = [
        "  " + "  ".join(f"{each:<{w}}" for each, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join([caption, *shown])
