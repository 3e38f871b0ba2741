"""`Storage` and its short forms check their arguments."""

from __future__ import annotations

from typing import Any

import pytest

from crystallize_opt import Storage
from crystallize_opt.errors import UsageError
from tests.recording.resuming import rand
from tests.toy import toy_experiment


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((5,), "storage= takes the path of a file, not 5"),
        ((":memory:",), "storage=':memory:' keeps nothing"),
        (("",), "storage='' keeps nothing"),
        (("x.db", ""), "run= is the name of a run, not ''"),
        (("x.db", None, "maybe"), "resume= is 'exact' or 'attach', not 'maybe'"),
    ],
)
def test_a_storage_is_checked(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Storage(*arguments)


def test_a_short_form_of_a_storage_is_checked() -> None:
    wrong: Any = 5
    with pytest.raises(UsageError, match="storage= takes the path of a file, not 5"):
        toy_experiment().optimize(rand(), 1, storage=wrong)
