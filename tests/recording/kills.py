"""Runs `tests.recording.killed_runs` in another process, and checks what came of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def killed(
    folder: Path,
    kind: str,
    *,
    trials: int,
    deaths: int,
    workers: int = 1,
    replicates: int = 1,
    how: str = "count",
) -> dict[str, Any]:
    """Run `tests.recording.killed_runs` in an empty folder."""
    arguments = [kind, trials, workers, replicates, deaths, how, 0]
    ran = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "tests.recording.killed_runs", *map(str, arguments)],
        cwd=folder,
        # A fork cannot use threads that libraries had before it.
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "LONGEST": "0.15"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


def assert_nothing_happened(found: dict[str, Any], deaths: int) -> None:
    assert found["deaths"] == deaths
    assert found["lost"] == []  # what was stored once is there for ever
    assert found["rerun"] == []  # no trial has run again once it was stored
    assert found["names"] == []  # every trial has one observation
    assert found["differ"] == []  # and they are those of a search without a break
