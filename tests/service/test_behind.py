"""A run beside a service that was killed: the run may lack what is recorded, and says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from crystallize_opt import History
from crystallize_opt.cli import main
from crystallize_opt.errors import StorageError
from crystallize_opt.service.handler import Handler
from crystallize_opt.service.live import Settings
from crystallize_opt.service.service import Service
from tests.service.conftest import ROOT

_DIES = """
import os, sys, threading
from crystallize_opt.service.handler import Handler
from crystallize_opt.service.live import Settings
from crystallize_opt.service.served_run import ServedRun
from crystallize_opt.service.service import Service

handler = Handler(Service(sys.argv[1], Settings("RandomOptimizer")))
x = {"name": "x", "type": "double", "bounds": {"min": 0.0, "max": 1.0}}
data = {"name": "e", "parameters": [x], "metrics": [{"name": "m"}], "parallel_bandwidth": 3}
path = ["experiments", handler.handle("POST", ["experiments"], data).body["id"]]

def observe(**data):
    reply = handler.handle("POST", [*path, "observations"], data)
    assert reply.status == 201, reply
    return reply.body["id"]

def is_told(count):
    while len(handler.service.lives._open[1]._run.optimizer.observations) < count:
        pass

def is_stuck():
    stuck = threading.Event()
    ServedRun.tell = lambda *_: stuck.set() or threading.Event().wait()
    return stuck
"""

_ASKED = """
asked = [handler.handle("POST", [*path, "suggestions"], {}).body["id"] for _ in range(3)]
first = observe(suggestion=asked[0], value=1.0)
is_told(1)
"""


def killed(path: Path, does: str) -> None:
    """Let a service do something, and kill it."""
    ends = "\nos.kill(os.getpid(), 9)\n"
    command = [sys.executable, "-c", _DIES + does + ends, str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == -9, done.stderr


def serve_for_a_moment(path: Path) -> None:
    Handler(Service(path, Settings("RandomOptimizer"))).close()


@pytest.mark.skipif(sys.platform == "win32", reason="it sends signals")
def test_a_run_says_what_is_recorded_and_not_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "service.db"
    told_of = "stuck = is_stuck()\n"
    told_of += (
        "observe(suggestion=asked[1], failed=True)\nobserve(assignments={'x': 0.5}, value=7)\n"
    )
    told_of += (
        "observe(assignments={'x': 2.5}, value=8)\nstuck.wait()"  # Out of bounds: never told.
    )
    killed(path, _ASKED + told_of)
    files = {each: each.read_bytes() for each in tmp_path.iterdir()}

    with pytest.warns(RuntimeWarning, match=r"2 observations of the run '1' .* serve ") as caught:
        history = History.load(path)
    assert len(caught) == 1
    assert [each.metrics.get("m") for each in history] == [1.0]
    assert history.notes == [str(caught[0].message)]
    for command in (
        ["runs", str(path)],
        ["show", str(path)],
        ["export", str(path), "json", str(tmp_path / "trials.json")],
        ["report", str(path), str(tmp_path / "report.html")],
    ):
        assert main(command) == 0
        assert "2 observations of the run '1' are recorded" in capsys.readouterr().out, command
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "2 observations of the run" in page
    assert {each: each.read_bytes() for each in files} == files

    serve_for_a_moment(path)

    history = History.load(path)
    assert history.notes == []
    assert sorted(each.metrics.get("m", -1.0) for each in history) == [-1.0, 1.0, 7.0]


@pytest.mark.skipif(sys.platform == "win32", reason="it sends signals")
@pytest.mark.parametrize(
    ("change", "message", "values"),
    [
        ("'PUT', [*path, 'observations', first], {'value': 5.0}", "and has 1 observations", [5.0]),
        ("'DELETE', [*path, 'observations', first], {}", "and has 0 observations", []),
    ],
)
def test_a_run_says_that_its_experiment_was_changed(
    tmp_path: Path, change: str, message: str, values: list[float]
) -> None:
    path = tmp_path / "service.db"
    killed(path, f"{_ASKED}\nassert handler.handle({change}).status < 300")

    with pytest.warns(RuntimeWarning, match=f"was changed after its run was written, {message}"):
        assert [each["m"] for each in History.load(path)] == [1.0]
    serve_for_a_moment(path)

    assert [each["m"] for each in History.load(path, run="1")] == values


@pytest.mark.skipif(sys.platform == "win32", reason="it sends signals")
def test_a_run_that_was_not_begun_is_recorded(tmp_path: Path) -> None:
    path = tmp_path / "service.db"
    begins = "handler.service.lives.observed = lambda *_: None\n"
    killed(path, f"{begins}observe(assignments={{'x': 0.5}}, value=7)")

    with pytest.raises(StorageError, match=r"no run '1'.* 1 observations .* recorded"):
        History.load(path, run="1")


def test_while_it_is_served_a_run_only_notes_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "service.db"
    handler = Handler(Service(path, Settings("RandomOptimizer")))
    x = {"name": "x", "type": "double", "bounds": {"min": 0.0, "max": 1.0}}
    data: dict[str, Any] = {"name": "e", "parameters": [x], "metrics": [{"name": "m"}]}
    handler.handle("POST", ["experiments"], data)
    handler.handle("POST", ["experiments", "1", "suggestions"], {})
    with monkeypatch.context() as patched:  # Its optimizer is busy.
        patched.setattr(handler.service.lives, "observed", lambda *_: None)
        data = {"suggestion": "1", "value": 1.0}
        handler.handle("POST", ["experiments", "1", "observations"], data)

    assert ["the service is running" in each for each in History.load(path).notes] == [True]
    handler.service.lives.observed(1, 1)
    handler.close()
    assert History.load(path).notes == []
