"""The optimizers drive the original framework's own `Experiment.optimize` (crystallize-ml 0.27).

It sets up logging, seeds global generators and writes a folder `data`, so it runs in a process and
a directory of its own.
"""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

# The same search with either framework: the imports are the only difference.
SEARCH = """
import json, random
{imports}
from crystallize_opt import Objective
from crystallize_opt.adapters import GridOptimizer, OptunaOptimizer, RandomOptimizer

@data_source
def numbers(ctx):
    return [1.0, 2.0, 3.0]

@pipeline_step()
def add(data, ctx, *, delta=0.0, kind="none"):
    return [x + delta + random.random() for x in data], {{"noise": random.random()}}

@pipeline_step()
def record(data, ctx):
    ctx.metrics.add("sum", sum(data))
    return data

space = {{"delta": {delta}, "kind": ["none", "some"]}}
optimizer = {optimizer}(space, Objective("sum", "{direction}"), seed=3)
experiment = Experiment(numbers(), Pipeline([add(), record()]), plugins=[SeedPlugin(seed=5)])
best = experiment.optimize(optimizer, num_trials=8, replicates_per_trial=2)
print(json.dumps({{
    "best": [best.name, dict(best.params)],
    "observations": [
        [o.treatment.name, dict(o.treatment.params), o.status, o["sum"]]
        for o in optimizer.observations
    ],
    "pending": len(optimizer.pending),
}}))
"""
ORIGINAL = """
from crystallize import Experiment, Pipeline, SeedPlugin, data_source, pipeline_step
"""
OURS = """
from crystallize_opt import Experiment, Pipeline, SeedPlugin, data_source, pipeline_step
"""


def search(cwd: Path, **parts: str) -> Any:
    script = cwd / "search.py"  # A file: the original reads the steps' source.
    script.write_text(SEARCH.format(**parts))
    shown = subprocess.run(  # noqa: S603
        [sys.executable, str(script)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    return json.loads(shown.stdout)


def test_it_is_the_version_that_was_compared() -> None:
    assert version("crystallize-ml") == "0.27.0"


@pytest.mark.parametrize(
    ("optimizer", "delta", "direction"),
    [
        ("RandomOptimizer", "(0.0, 1.0)", "minimize"),
        ("GridOptimizer", "[0.0, 1.0, 2.0, 3.0]", "maximize"),
        ("OptunaOptimizer", "(0.0, 1.0)", "maximize"),
    ],
)
def test_the_original_framework_gets_what_ours_gets(
    optimizer: str, delta: str, direction: str, tmp_path: Path
) -> None:
    parts = {"optimizer": optimizer, "delta": delta, "direction": direction}

    original = search(tmp_path, imports=ORIGINAL, **parts)
    ours = search(tmp_path, imports=OURS, **parts)

    assert original == ours
    assert ours["pending"] == 0
    told = {name: (params, value) for name, params, _, value in ours["observations"]}
    assert len(told) == 8
    assert {status for _, _, status, _ in ours["observations"]} == {"completed"}
    choose = min if direction == "minimize" else max
    name, params = ours["best"]
    assert told[name] == (params, choose(value for _, value in told.values()))
