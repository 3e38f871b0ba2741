"""SIGKILL at many moments: nothing is lost, nothing repeated, and the search goes on exactly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from crystallize_opt import History, Status
from tests.recording.kills import ROOT, assert_nothing_happened, killed

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forks of a process")


@pytest.mark.parametrize("kind", ["random", "tpe", "nsga", "cma"])
def test_a_killed_search_goes_on_as_if_nothing_had_happened(kind: str, tmp_path: Path) -> None:
    found = killed(tmp_path, kind, trials=20, deaths=4)

    assert_nothing_happened(found, 4)


@pytest.mark.parametrize("deaths", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_search_that_prunes_goes_on_between_two_replicates(
    deaths: int, tmp_path: Path
) -> None:
    found = killed(tmp_path, "pruned", trials=15, deaths=deaths, replicates=3)

    assert_nothing_happened(found, deaths)


@pytest.mark.parametrize("deaths", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_search_goes_on_within_an_adaptive_trial(deaths: int, tmp_path: Path) -> None:
    found = killed(tmp_path, "tpe", trials=12, deaths=deaths, replicates=5)

    assert_nothing_happened(found, deaths)


def test_a_killed_search_that_prunes_goes_on_within_a_learning_curve(tmp_path: Path) -> None:
    found = killed(tmp_path, "curves", trials=15, deaths=4)

    assert_nothing_happened(found, 4)
    assert found["ended"] == ["completed", "failed", "pruned"]


@pytest.mark.parametrize("kind", ["random", "tpe"])
def test_with_four_workers_nothing_is_lost_or_repeated(kind: str, tmp_path: Path) -> None:
    found = killed(tmp_path, kind, trials=20, deaths=4, workers=4)

    assert_nothing_happened(found, 4)


KILLED_BY_ITS_WORKER = """
import os, signal
from crystallize_opt import Experiment, Objective, Pipeline, data_source, pipeline_step
from crystallize_opt.adapters import RandomOptimizer

@data_source
def nothing(ctx):
    return None

@pipeline_step()
def step(data, ctx, *, x):
    if ctx["condition"] == "trial_5" and not os.path.exists("killed"):
        open("killed", "x").close()
        os.kill(int(os.environ["SEARCH"]), signal.SIGKILL)
        while True:
            pass
    ctx.metrics.add("loss", x)

if __name__ == "__main__":
    os.environ["SEARCH"] = str(os.getpid())
    experiment = Experiment(nothing(), Pipeline([step()]), seed=0)
    optimizer = RandomOptimizer({"x": (0.0, 1.0)}, Objective("loss", "minimize"), seed=0)
    experiment.optimize(optimizer, 12, workers=2, storage="runs.db")
"""


def test_a_killed_search_on_processes_leaves_none_behind_and_goes_on(tmp_path: Path) -> None:
    script = tmp_path / "search.py"
    script.write_text(KILLED_BY_ITS_WORKER, encoding="utf-8")
    # Its workers hold the same stderr, so that `run` returns only when they have ended, too.
    ran = [
        subprocess.run(  # noqa: S603
            [sys.executable, script.name],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        for _ in range(2)
    ]

    assert [each.returncode for each in ran] == [-signal.SIGKILL, 0]
    assert [each.stderr for each in ran] == ["", ""]
    history = History.load(tmp_path / "runs.db")
    assert sorted(o.treatment.name for o in history) == sorted(f"trial_{n}" for n in range(12))
    assert {o.status for o in history} == {Status.COMPLETED}
    assert history.pending == []


@pytest.mark.slow
@pytest.mark.parametrize("how", ["count", "timer"])
@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("kind", ["random", "tpe", "nsga", "cma", "curves"])
def test_fifty_kills(kind: str, workers: int, how: str, tmp_path: Path) -> None:
    found = killed(
        tmp_path, kind, trials=30, deaths=50, workers=workers, replicates=workers, how=how
    )

    assert_nothing_happened(found, 50)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "trials", "deaths"),
    [
        ("gp", 10, 10),
        ("smac", 10, 50),
        ("ax", 8, 4),
        ("nevergrad", 25, 30),
        ("baybe", 6, 10),
        ("remote", 20, 10),
    ],
)
def test_kills_of_slow_backends(kind: str, trials: int, deaths: int, tmp_path: Path) -> None:
    found = killed(tmp_path, kind, trials=trials, deaths=deaths)

    assert_nothing_happened(found, deaths)
