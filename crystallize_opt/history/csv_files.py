"""CSV files of trials: read strictly, and written so that a spreadsheet runs nothing in them.

A spreadsheet takes a text that begins with `=`, `+`, `-` or `@` for a formula. Such a text is
written with an apostrophe before it, which reading removes. A choice whose text another choice
could also have is written as `json:` and its plain data.
"""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

from crystallize_opt.errors import UsageError
from crystallize_opt.plain_data import decode, encode
from crystallize_opt.storage.files import refuse_url

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_GUARDED = re.compile(r"'+[=+\-@\t\r]")
_JSON = "json:"


def read_csv(path: str | os.PathLike[str]) -> tuple[list[str], list[dict[str, str]]]:
    """Return the names of the columns, and the rows as mappings of name to text.

    Raises:
        UsageError: The path is a URL; two columns have one name; or a row has more or fewer fields
            than the header.
    """
    refuse_url(path, "attach() takes the path of a CSV file:")
    with open(path, newline="", encoding="utf-8-sig", errors="surrogatepass") as file:  # noqa: PTH123
        lines = csv.reader(file, strict=True)
        try:
            header = next(lines, [])
            refuse_duplicates(header)
            rows = []
            for fields in lines:
                if len(fields) == len(header):
                    rows.append(dict(zip(header, fields, strict=True)))
                elif fields:  # A blank line has none.
                    raise UsageError(
                        f"{os.fspath(path)!r}, line {lines.line_num}: {len(fields)} fields, but "
                        f"the header has {len(header)}: {', '.join(map(repr, header))}. Is there a "
                        "comma at the end, a column without a name, or a text without quotes?"
                    )
        except (csv.Error, UnicodeError) as error:
            raise UsageError(
                f"{os.fspath(path)!r} is no CSV file, line {lines.line_num}: {error}."
            ) from error
    return header, rows


def refuse_duplicates(columns: Iterable[object]) -> None:
    """Check that no two columns of a table have one name.

    Raises:
        UsageError: Two have.
    """
    seen: set[object] = set()
    for column in columns:
        if column in seen and column != "":  # Columns without a name are not read.
            raise UsageError(f"The table has two columns {column!r}. Rename or remove one.")
        seen.add(column)


def write_csv(
    path: str | os.PathLike[str], header: Sequence[str], rows: Iterable[Sequence[str]]
) -> None:
    """Write a CSV file in the form of RFC 4180."""
    with open(path, "w", newline="", encoding="utf-8", errors="surrogatepass") as file:  # noqa: PTH123
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


def guarded(text: str) -> str:
    """Return a text in a form that no spreadsheet takes for a formula."""
    return f"'{text}" if _FORMULA.match(text) else text


def unguarded(text: str) -> str:
    """Return the text that `guarded` was given."""
    return text[1:] if _GUARDED.match(text) else text


class ChoiceTexts:
    """The texts of a parameter's choices in a CSV file.

    Args:
        name: The parameter's name.
        choices: Its choices.
    """

    def __init__(self, name: str, choices: Sequence[Any]) -> None:
        self._name, self._choices = name, choices
        self._by_text: dict[str, list[int]] = {}
        for position, choice in enumerate(choices):
            for text in dict.fromkeys(_texts_of(choice)):
                self._by_text.setdefault(text, []).append(position)

    def write(self, position: int) -> str:
        """Return the text of the choice at a position.

        Raises:
            UsageError: Another choice has the same text, and the choice is no plain data.
        """
        choice = self._choices[position]
        text = _texts_of(choice)[0]
        if len(self._by_text[text]) == 1:
            return text
        written = json.dumps(encode(choice, other=lambda _: self._refuse(text)))
        while (tagged := _JSON + written) in self._by_text:  # Another choice is just this text.
            written = f" {written}"
        return tagged

    def read(self, text: str) -> Any:
        """Return the choice that has a text; the text itself if there is none.

        Raises:
            UsageError: Several choices have the text.
        """
        positions = self._by_text.get(text, ())
        if len(positions) > 1:
            self._refuse(text)
        if positions:
            return self._choices[positions[0]]
        if text.startswith(_JSON):
            try:
                return decode(json.loads(text.removeprefix(_JSON)))
            except (ValueError, RecursionError):
                pass  # It is a text that begins so.
        return text

    def _refuse(self, text: str) -> Any:
        one, other = (self._choices[position] for position in self._by_text[text][:2])
        raise UsageError(
            f"In a CSV file the choices {one!r} and {other!r} of {self._name!r} look the same. "
            "Give a DataFrame, a History, or a file that History.to_csv has written."
        )


def _texts_of(choice: Any) -> list[str]:
    """Return the text that `ChoiceTexts` writes for a choice, then those that pandas may write."""
    if choice is None:
        return [""]
    if isinstance(choice, float) and choice != choice:
        return ["nan", ""]
    if isinstance(choice, str):
        return [guarded(choice), choice]
    if isinstance(choice, (bool, int, float)):
        return [str(choice)]
    return [guarded(str(choice)), str(choice)]
