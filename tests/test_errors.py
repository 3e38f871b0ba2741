"""Texts of errors reach logs and terminals without control characters."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystallize_opt import FrozenContext, Observation, Status, Treatment
from crystallize_opt.errors import TrialsFailedError, printable
from crystallize_opt.search.callbacks import LoggingCallback, TrialFailed
from tests.search.grids import grid
from tests.toy import experiment_of

EVIL = "boom\n12:00 INFO all is well\r\x1b[2J\x9b1m\u202e\u2028"


@given(st.text())
def test_what_is_printed_has_no_control_characters(text: str) -> None:
    shown = printable(text)

    assert shown.isprintable()
    assert (shown == text) == text.isprintable()
    assert printable(text, keep="\n").count("\n") == text.count("\n")


def test_an_error_cannot_forge_a_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def fail(data: Any, ctx: FrozenContext, *, delta: int) -> Any:
        raise ValueError(EVIL)

    with caplog.at_level(logging.INFO), pytest.raises(TrialsFailedError) as raised:
        experiment_of(fail, seed=0).optimize(grid([*range(20)]), 20, callbacks=[LoggingCallback()])
    LoggingCallback()(TrialFailed(Observation(Treatment(EVIL), status=Status.FAILED, error=EVIL)))

    assert len(caplog.records) > 5
    for record in caplog.records:
        assert record.getMessage().replace("\n", "").isprintable()
        if record.name == "crystallize_opt" and record.exc_info is None:
            assert record.getMessage().isprintable()
    assert str(raised.value).replace("\n", "").isprintable()
