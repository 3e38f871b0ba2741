"""A child that is forked during a search never runs a part of the search."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from crystallize_opt import History, Status

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

ROOT = Path(__file__).parents[2]

# One place of the search forks, and the child leaves that place in one way. Whatever the child then
# runs of the search or of the program is written to a file.
SCRIPT = """
import asyncio, json, os, sys
from crystallize_opt import *
from crystallize_opt.adapters import RandomOptimizer
from crystallize_opt.search.callbacks import TrialTold

place, way = sys.argv[1:]
main = os.getpid()
found = {"code": None, "others": []}

def notes_others(what):
    if os.getpid() != main:
        with open("others", "a") as file:
            file.write(what + "\\n")

def fork(where, trial):
    notes_others(where)
    if where != place or found["code"] is not None or trial not in (None, "trial_1"):
        return
    child = os.fork()
    if child:
        found["code"] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    elif way == "exit":
        sys.exit(3)
    elif way == "raise":
        raise ValueError("of the child")

@data_source
def nothing(ctx):
    fork("source", ctx["condition"])

class Step(PipelineStep):
    def setup(self, ctx):
        fork("setup", None)
    def __call__(self, data, ctx):
        fork("step", ctx["condition"])
        ctx.metrics.add("loss", ctx["x"])
    def teardown(self, ctx):
        fork("teardown", None)

class AsynchronousStep(Step):
    async def __call__(self, data, ctx):
        for _ in range(5):  # So other trials are in the same event loop.
            await asyncio.sleep(0)
            fork("asynchronous step", ctx["condition"])
        ctx.metrics.add("loss", ctx["x"])

class Plugin(BasePlugin):
    def before_run(self, experiment):
        fork("before_run", None)
    def after_run(self, experiment, result):
        fork("after_run", None)

class Optimizer(RandomOptimizer):
    def ask(self, n=1):
        if self.observations:
            fork("ask", None)
        return super().ask(n)

def callback(event):
    if isinstance(event, TrialTold):
        fork("callback", event.observation.treatment.name)

def stop(state):
    fork("stop", None)
    return False

asynchronous = place == "asynchronous step"
step = AsynchronousStep() if asynchronous else Step()
workers = Workers(None, 3) if asynchronous else None
experiment = Experiment(nothing(), Pipeline([step]), plugins=[Plugin()], seed=0)
optimizer = Optimizer({"x": (0.0, 1.0)}, Objective("loss", "minimize"), seed=0)
search = Search(
    experiment, optimizer, 3, workers=workers, storage="runs.db", callbacks=[callback], stop=[stop]
)
for observation in search:
    fork("body", observation.treatment.name)
if os.getpid() == main:
    print(json.dumps(found))
else:
    notes_others("after the loop")
"""

PLACES = [
    "source",
    "step",
    "asynchronous step",
    "setup",
    "teardown",
    "before_run",
    "after_run",
    "ask",
    "callback",
    "stop",
]


def forked(folder: Path, place: str, way: str) -> tuple[Any, list[str], str]:
    """Run the script; return what it printed, what a child ran, and the errors."""
    ran = subprocess.run(  # noqa: S603
        [sys.executable, "-c", SCRIPT, place, way],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    others = folder / "others"
    return json.loads(ran.stdout), others.read_text().split() if others.exists() else [], ran.stderr


@pytest.mark.parametrize("place", PLACES)
def test_a_child_ends_where_it_would_go_on_with_the_search(place: str, tmp_path: Path) -> None:
    found, others, _ = forked(tmp_path, place, "exit")

    assert found["code"] == 3
    assert others == []
    history = History.load(tmp_path / "runs.db")
    assert [o.status for o in history] == [Status.COMPLETED] * 3


@pytest.mark.parametrize(("way", "code"), [("return", 0), ("raise", 1)])
def test_a_child_that_does_not_exit_ends_as_well(way: str, code: int, tmp_path: Path) -> None:
    found, others, errors = forked(tmp_path, "step", way)

    assert found["code"] == code
    assert others == []
    assert ("ValueError: of the child" in errors) is (way == "raise")


@pytest.mark.parametrize(("way", "code"), [("exit", 3), ("raise", 1), ("return", 1)])
def test_a_child_of_the_loops_body_belongs_to_the_program(
    way: str, code: int, tmp_path: Path
) -> None:
    found, others, errors = forked(tmp_path, "body", way)

    assert found["code"] == code
    assert others == []
    assert ("a fork of the process that runs the search" in errors) is (way == "return")
    assert len(History.load(tmp_path / "runs.db")) == 3
