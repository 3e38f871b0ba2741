"""What a search prints that nobody asked for: nothing. In a fresh process, as users see it."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import logging, sys
from crystallize_opt import *
from crystallize_opt import adapters

@data_source
def numbers(ctx):
    return [1.0]

@pipeline_step()
def fit(data, ctx, *, x, c):
    if x < 0.2:
        raise ValueError("boom")
    return data, {"loss": x + (c == "a"), "time": 1.0 - x}

def look():
    root = logging.getLogger()
    return root.level, list(root.handlers), root.disabled, logging.root.manager.disable

before = look()
space = {"x": (0.0, 1.0), "c": ["a", "b"]}
loss, time = Objective("loss", "minimize"), Objective("time", "minimize")
for objectives in (loss, [loss, time]):
    optimizer = getattr(adapters, sys.argv[1])(space, objectives, seed=0)
    Experiment(numbers(), Pipeline([fit()])).optimize(optimizer, 8, 2, workers=sys.argv[2] or None)
    assert len(optimizer.observations) == 8
assert look() == before
"""


@pytest.mark.parametrize(
    ("optimizer", "executor"),
    [
        ("RandomOptimizer", "processes"),
        ("OptunaOptimizer", ""),
        ("SMACOptimizer", ""),
        *(
            pytest.param(name, executor, marks=pytest.mark.slow)
            for name, executor in [
                ("OptunaOptimizer", "processes"),
                ("SMACOptimizer", "processes"),
                ("AxOptimizer", ""),
                ("AxOptimizer", "processes"),
            ]
        ),
    ],
)
def test_a_search_prints_nothing(optimizer: str, executor: str) -> None:
    ran = subprocess.run(  # noqa: S603
        [sys.executable, "-c", SCRIPT, optimizer, executor],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ran.stdout, ran.stderr, ran.returncode) == ("", "", 0)
