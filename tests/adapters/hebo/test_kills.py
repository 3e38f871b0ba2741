"""A killed search with HEBO goes on exactly: see tests/recording/test_kills.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("hebo", reason="it has an environment of its own: see .ci/run")

from tests.recording.kills import assert_nothing_happened, killed

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forks of a process")


@pytest.mark.parametrize("deaths", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_a_killed_search_goes_on_as_if_nothing_had_happened(deaths: int, tmp_path: Path) -> None:
    found = killed(tmp_path, "hebo", trials=6, deaths=deaths)

    assert_nothing_happened(found, deaths)
