"""What is kept of records in memory is what the file says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crystallize_opt.service import store as module
from crystallize_opt.service.store import ACTIVE, DELETED, Record, Store

_CHANGES = st.lists(
    st.tuples(st.sampled_from(["add", "put", "get"]), st.integers(1, 4), st.integers()), max_size=6
)


class _Undone(Exception):  # noqa: N818  (it says what becomes of the changes)
    pass


@settings(max_examples=60, deadline=None)
@given(transactions=st.lists(st.tuples(_CHANGES, st.booleans()), max_size=6))
def test_a_record_that_is_kept_is_the_one_in_the_file(
    transactions: list[tuple[list[tuple[str, int, int]], bool]],
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "_KEPT", 2)
        store = Store(None)
    known: dict[int, Any] = {}
    for changes, is_undone in transactions:
        after = dict(known)
        try:
            with store.writing():
                for what, number, value in changes:
                    if what == "add":
                        after[store.add("some", 7, ACTIVE, {"value": value})] = value
                    elif what == "put" and number in after:
                        store.put("some", Record(number, 7, DELETED, {"value": value}))
                        after[number] = value
                    else:
                        store.get("some", number)
                if is_undone:
                    raise _Undone
        except _Undone:
            after = known
        known = after
        for number in range(1, 10):
            found = store.get("some", number)
            assert (None if found is None else found.data["value"]) == known.get(number)
        assert {each.id: each.data["value"] for each in store.page("some")} == known
    store.close()


def test_records_are_those_of_before_when_the_file_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "service.db"
    store = Store(path)
    with store.writing():
        store.add("some", 1, ACTIVE, {"value": [1.5, None, "é"]})
    store.close()
    again = Store(path)

    assert again.get("some", 1) == Record(1, 1, ACTIVE, {"value": [1.5, None, "é"]})
    again.close()
