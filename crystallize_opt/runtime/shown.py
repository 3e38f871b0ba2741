"""How this package shows tables, in text and in notebooks."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

from crystallize_opt.errors import printable

_WIDEST = 150  # Characters of one cell, after which it is cut.
_WIDEST_TITLE = 1000
_NOT_BROKEN = 25  # A notebook puts no line breaks into a text this short.


def cut(text: str, widest: int = _WIDEST) -> str:
    """Return a text in one line, without its middle if it is longer than `widest`."""
    text = printable(text)
    if len(text) <= widest:
        return text
    half = (widest - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"


def listed(value: object, hidden: Container[str]) -> list[str]:
    """Return what `dir` and so tab completion list: what users call.

    Args:
        value: Any object.
        hidden: The attributes that only other parts of this package, or adapters, use.
    """
    return [name for name in object.__dir__(value) if name not in hidden]


def number(value: Any) -> str:
    """Return a number with six digits, anything else as text, and None as an empty text."""
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """Return a time as hours, minutes and seconds: `"3:12:40"`."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def html_text(text: str) -> str:
    """Return a text as it is shown in the HTML of a notebook."""
    import html  # Seldom needed, and slow to import.

    shown = html.escape(text)
    # A notebook typesets what is between dollar signs as mathematics, but not in `code`.
    return f'<code style="white-space: inherit">{shown}</code>' if "$" in shown else shown


def html_table(
    caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int] = ()
) -> str:
    """Return an HTML table for a notebook.

    Args:
        caption: A line above the table.
        head: The names of the columns; empty for a table without them.
        rows: The cells. A very long one is cut, and shown whole when the pointer is on it.
        widths: The largest number of characters in each column; the columns after these have the
            usual one.
    """
    import html  # Seldom needed, and slow to import.

    def cell(tag: str, text: str, column: int | None = None) -> str:
        widest = _WIDEST if column is None or column >= len(widths) else widths[column]
        shown, whole = cut(text, widest), cut(text, _WIDEST_TITLE)
        title = "" if whole == shown else f' title="{html.escape(whole)}"'
        # Notebooks align every cell to the right, as it should be for numbers only.
        style = "" if column is None or is_number[column] else ' style="text-align: left"'
        if style and len(text) <= _NOT_BROKEN:
            style = ' style="text-align: left; white-space: nowrap"'
        return f"<{tag}{style}{title}>{html_text(shown)}</{tag}>"

    is_number = [all(map(_is_number, column)) for column in zip(*rows, strict=True)]
    is_number = is_number or [False for _ in head]
    lines = [("th", head)] if head else []
    lines += [("td", row) for row in rows]
    body = "".join(
        f"<tr>{''.join(cell(tag, text, column) for column, text in enumerate(line))}</tr>"
        for tag, line in lines
    )
    return cell("p", caption) + (f"<table>{body}</table>" if body else "")


def _is_number(text: str) -> bool:
    """Whether a cell holds a number, or nothing."""
    try:
        float(text or 0)
    except ValueError:
        return False
    return True


def text_table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as text, with aligned columns."""
    lines = [list(head), *([cut(each) for each in row] for row in rows)]
    widths = [max(len(each) for each in column) for column in zip(*lines, strict=True)]
    shown = [
        "  " + "  ".join(f"{each:<{w}}" for each, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join([caption, *shown])
