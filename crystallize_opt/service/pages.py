"""Pages of lists: `limit`, `before`, `after`, `sort` and `ascending`, as SigOpt has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from crystallize_opt.service.given import Given
from crystallize_opt.service.refusal import bad
from crystallize_opt.service.store import Record, Store
from crystallize_opt.service.wire import Json, pagination

MOST = 1000
"""How many objects a page has at most, and by default."""


def page_of(
    given: Given,
    store: Store,
    kind: str,
    parent: int | None,
    states: Sequence[str],
    shown: Callable[[Record], Json],
) -> Json:
    """Return one page of records in the order of their numbers, the newest first by default."""
    limit = _limit(given)
    ascending = boolean(given, "ascending") or False
    before, after = _marker(given, "before"), _marker(given, "after")
    forward = _goes_up(ascending, before, after)
    found = store.page(
        kind, parent, states=states, after=after, before=before, limit=limit + 1, ascending=forward
    )
    more, found = len(found) > limit, found[:limit]
    if forward != ascending:
        found.reverse()
    low, high = _ends(found, before, after)
    return pagination(
        [shown(each) for each in found],
        store.count(kind, parent, states=states),
        before=None if low is None or (not forward and not more) else str(low),
        after=None if high is None or (forward and not more) else str(high),
    )


def _goes_up(ascending: bool, before: int | None, after: int | None) -> bool:
    """Whether a page begins at `after`, and not at `before`."""
    if ascending:
        return not (before is not None and after is None)
    return not (before is not None or after is None)


def _ends(
    found: Sequence[Record], before: int | None, after: int | None
) -> tuple[int | None, int | None]:
    if not found:
        return None if after is None else after + 1, None if before is None else before - 1
    numbers = (found[0].id, found[-1].id)
    return min(numbers), max(numbers)


def page_of_records(
    given: Given, records: Iterable[Record], shown: Callable[[Record], Json]
) -> Json:
    """Return one page of records in the order of their numbers, the newest first by default."""
    return sorted_page(given, [(0, each.id, each) for each in records], shown)


def sorted_page(
    given: Given, items: Iterable[tuple[Any, int, Record]], shown: Callable[[Record], Json]
) -> Json:
    """Return one page of records that are sorted by a key, and then by their number.

    Args:
        given: The parameters of the request.
        items: The key, the number and the record of each.
        shown: Returns what a record looks like.
    """
    limit = _limit(given)
    ascending = boolean(given, "ascending") or False
    before, after = _marker(given, "before"), _marker(given, "after")
    ranked = sorted(items, key=lambda each: each[:2])
    positions = {each[1]: position for position, each in enumerate(ranked)}
    low = 0 if after is None else positions.get(after, -1) + 1
    high = len(ranked) if before is None else positions.get(before, len(ranked))
    forward = _goes_up(ascending, before, after)
    chosen = ranked[low:high]
    more = len(chosen) > limit
    chosen = chosen[:limit] if forward else chosen[max(0, len(chosen) - limit) :]
    ends = (str(chosen[0][1]), str(chosen[-1][1])) if chosen else (None, None)
    return pagination(
        [shown(each[2]) for each in (chosen if ascending else reversed(chosen))],
        len(ranked),
        before=ends[0] if forward or more else None,
        after=ends[1] if not forward or more else None,
    )


def _limit(given: Given) -> int:
    limit = integer(given, "limit")
    if limit is None:
        return MOST
    if not 0 <= limit <= MOST:
        raise bad(f"`limit` is a whole number from 0 to {MOST}, not {limit}.")
    return limit


def _marker(given: Given, key: str) -> int | None:
    text = given.data.get(key)
    if text is None:
        return None
    if not (isinstance(text, str) and text.isascii() and text.isdigit() and len(text) < 19):
        raise given.error(key, "a marker from `paging` of another page")
    return int(text)


def integer(given: Given, key: str) -> int | None:
    """Return a whole number, which a query has as text."""
    value = given.data.get(key)
    if isinstance(value, str):
        digits = value.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
            raise given.error(key, "a whole number")
        return int(value)
    return given.integer(key)


def boolean(given: Given, key: str) -> bool | None:
    """Return true or false, which a query has as text."""
    value = given.data.get(key)
    if isinstance(value, str):
        if value.lower() not in ("true", "false", "1", "0"):
            raise given.error(key, "true or false")
        return value.lower() in ("true", "1")
    return given.boolean(key)
