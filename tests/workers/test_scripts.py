"""What belongs to a script's `__main__`, or is first imported in a step, on every executor."""

import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from crystallize_opt import History

SCRIPT = '''
import multiprocessing, pickle, sys
from concurrent.futures import ProcessPoolExecutor
from crystallize_opt import *
from crystallize_opt.adapters import GridOptimizer

class Model:
    def __init__(self, rate):
        self.rate = rate

class Unused:
    """Only a choice has this class; no step names it."""

@data_source
def nothing(ctx):
    return None

@pipeline_step()
def train(data, ctx, *, x):
    import numpy
    drawn = numpy.random.rand()
    model = pickle.loads(pickle.dumps(Model(0.5)))
    assert type(model) is Model
    assert type(pickle.loads(pickle.dumps(x))) is type(x)
    ctx.metrics.add("model", model)
    return model, {"loss": drawn, "rate": model.rate}

def spawn():
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))

if __name__ == "__main__":
    print("imported", "numpy" in sys.modules)
    homes = {"processes": Workers("processes", 2), "spawn": Workers(spawn, 2),
             "threads": Workers("threads", 1), "in process": None, "in process again": None}
    for name, workers in homes.items():
        optimizer = GridOptimizer({"x": [Unused(), 1, 2]}, Objective("loss", "minimize"))
        Experiment(nothing(), Pipeline([train()]), seed=0).optimize(
            optimizer, 3, workers=workers, progress=False
        )
        for o in optimizer.observations:
            print(name, repr(o.get("loss")), o.status, (o.error or "").splitlines()[:1])
'''


def test_every_executor_runs_a_script_alike(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT, encoding="utf-8")
    shown = subprocess.run(  # noqa: S603
        [sys.executable, "-W", "error", str(path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )

    assert shown.stderr == ""
    imported, *lines = shown.stdout.splitlines()
    assert imported == "imported False"
    seen = defaultdict(list)
    for line in lines:
        home, _, rest = line.partition(" 0.")
        seen[home].append(rest)
    assert list(seen) == [
        "processes", "spawn", "threads", "in process", "in process again",
    ]  # fmt: skip
    # The first number of numpy's legacy generator with the seed 0.
    assert {tuple(each) for each in seen.values()} == {("5488135039273248 completed []",) * 3}


WITHIN_THE_LOOP = """
import sys
from crystallize_opt import Experiment, Objective, Search
from crystallize_opt.adapters import GridOptimizer

def loss(x):
    return x

if __name__ == "__main__":
    workers = {"None": None, "threads": "threads", "2": 2}[sys.argv[1]]
    optimizer = GridOptimizer({"x": [1.0, 2.0, 3.0, 4.0]}, Objective("loss", "minimize"))
    search = iter(Search(Experiment.of(loss, seed=0), optimizer, 4, workers=workers,
                         storage="runs.db", progress=False))
    next(search)
    sys.exit(3)
"""


@pytest.mark.parametrize("workers", ["None", "threads", "2"])
def test_a_program_that_ends_within_the_loop_ends_its_search(workers: str, tmp_path: Path) -> None:
    """The processes would be waited for for ever: the variable `search` keeps the search alive."""
    path = tmp_path / "script.py"
    path.write_text(WITHIN_THE_LOOP, encoding="utf-8")
    ended = subprocess.run(  # noqa: S603
        [sys.executable, str(path), workers],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=60,
    )

    assert (ended.returncode, ended.stderr) == (3, "")
    assert len(History.load(tmp_path / "runs.db")) >= 1
    assert [each.name for each in tmp_path.iterdir() if each != path] == ["runs.db"]
