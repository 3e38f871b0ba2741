"""Descriptions of values that reach code, written so that the order of the ways to it is no matter.

A description must not depend on which way leads to some code first: that differs with the order of
a set. So code is a `Code` wherever a value reaches it, and its place is chosen when all is known.
What depends on that, the order of a set or a digest, waits, too.
"""

from __future__ import annotations

import dataclasses
import json
import types
from typing import Any

from crystallize_opt.source_code import digest


@dataclasses.dataclass(eq=False, slots=True)
class Code:
    """A function or class, described in full at one place and by name and digest elsewhere."""

    value: type | types.FunctionType
    name: str
    content: dict[str, Any] = dataclasses.field(default_factory=dict)
    digest: str = ""


@dataclasses.dataclass(eq=False, slots=True)
class Unordered:
    """The members of a set, or the pairs of a dict, that reach code."""

    items: list[Any]


@dataclasses.dataclass(eq=False, slots=True)
class Digested:
    """Content that reaches code, and of which only a digest is written."""

    content: Any


def _is_written(part: Any) -> bool:
    """Whether a part of a description is plain data and reaches no code."""
    kind = type(part)
    if kind is dict:
        return all(map(_is_written, part.values()))
    if kind is list:
        return all(map(_is_written, part))
    return kind not in (Code, Unordered, Digested)


def unordered(items: list[Any]) -> Any:
    """Return descriptions in an order that is the same for equal ones."""
    return sorted(items, key=as_text) if _is_written(items) else Unordered(items)


def digested(content: Any) -> Any:
    """Return the digest of a description."""
    return digest(as_text(content).encode()) if _is_written(content) else Digested(content)


def tell_apart(codes: list[Code]) -> None:
    """Give digests to code, equal ones only to code that is equal with all that it reaches.

    A digest is of the code and the digests of the code that it names, as of the round before: at
    first the names alone. A further round is needed only if it tells more apart, so one round is
    enough if no two functions of one name differ.
    """
    distinct = len({code.name for code in codes})
    while True:
        digests = [digest(as_text(write(code.content, None)).encode()) for code in codes]
        for code, found in zip(codes, digests, strict=True):
            code.digest = found
        if len(set(digests)) == distinct:
            return
        distinct = len(set(digests))


def write(part: Any, above: set[str] | None, *, in_digest: bool = False) -> Any:
    """Return a part of a description as plain data.

    Args:
        part: The part.
        above: The digests of the code that is described in full further above; None writes all
            code by name and digest.
        in_digest: Whether the part is within content of which only a digest is written.
    """
    kind = type(part)
    if kind is dict:
        return {key: write(part[key], above, in_digest=in_digest) for key in sorted(part)}
    if kind is list:
        return [write(item, above, in_digest=in_digest) for item in part]
    if kind is Unordered:
        items = sorted(part.items, key=lambda item: as_text(write(item, None)))
        return write(items, above, in_digest=in_digest)
    if kind is Digested:
        # A digest shows nothing of its content, so it needs all code in full. Not again within a
        # digest, because that code may lead back to this content.
        inner = above if in_digest or above is None else set()
        return digest(as_text(write(part.content, inner, in_digest=True)).encode())
    if kind is not Code:
        return part
    if len(part.content) > 1 and (above is None or part.digest in above):
        return {"(above)": part.name, "(digest)": part.digest}
    if above is not None:
        above.add(part.digest)
    return write(part.content, above, in_digest=in_digest)


def as_text(description: Any) -> str:
    """Return a description as text; equal ones have equal texts."""
    return json.dumps(description, separators=(",", ":"), sort_keys=True)
