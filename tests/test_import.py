"""What importing costs, and what a missing library says. Each in a fresh process."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ["numpy", "scipy", "pandas", "torch", "sklearn", "optuna", "ConfigSpace", "tqdm"]
# Of the standard library, what takes longest to import and is seldom needed.
SLOW = ["asyncio", "concurrent.futures", "importlib.metadata"]

WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
from crystallize_opt.errors import MissingExtraError
import crystallize_opt.adapters
print(crystallize_opt.adapters.RandomOptimizer.__name__)
try:
    from crystallize_opt.adapters import OptunaOptimizer
except ImportError as error:
    print(type(error).__name__)
    print(error)
    print(error.name, repr(error.__cause__))
"""


def run_python(code: str, cwd: Path) -> list[str]:
    """Run code in a fresh process, whose warnings are errors, and return what it prints."""
    shown = subprocess.run(  # noqa: S603
        [sys.executable, "-W", "error", "-c", code],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    assert shown.stderr == ""
    return shown.stdout.splitlines()


@pytest.mark.parametrize("imported", ["crystallize_opt", "crystallize_opt.adapters"])
def test_importing_loads_nothing_heavy(imported: str, tmp_path: Path) -> None:
    code = f"import sys, {imported}; print([m for m in {HEAVY + SLOW} if m in sys.modules])"

    assert run_python(code, tmp_path) == ["[]"]


def test_a_search_loads_nothing_heavy(tmp_path: Path) -> None:
    code = f"""
import random, sys
from crystallize_opt import *
from crystallize_opt.adapters import RandomOptimizer, GridOptimizer

@data_source
def numbers(ctx):
    return [1.0, random.random()]

@pipeline_step()
def total(data, ctx, *, delta=0.0):
    ctx.metrics.add("sum", sum(data) + delta)
    return data

random.seed(1)
state = random.getstate()
experiment = Experiment(numbers(), Pipeline([total()]), seed=0)
for kind in (RandomOptimizer, GridOptimizer):
    optimizer = kind({{"delta": [0.0, 0.5, 1.0]}}, Objective("sum", "maximize"))
    best = experiment.optimize(optimizer, 5, 2)
    print(best.params["delta"])
print(random.getstate() == state)
print([m for m in {HEAVY + SLOW} if m in sys.modules])
"""

    assert run_python(code, tmp_path) == ["1.0", "1.0", "True", "[]"]
    assert list(tmp_path.iterdir()) == []


def test_importing_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    code = """
import logging, os, random, sys, warnings

def world():
    root = logging.getLogger()
    return (random.getstate(), list(warnings.filters), list(root.handlers), root.level,
            os.getcwd(), dict(os.environ), list(sys.path), sys.excepthook)

before = world()
import crystallize_opt.adapters
print(world() == before, logging.getLogger("crystallize_opt").level)
"""

    assert run_python(code, tmp_path) == ["True 0"]


def test_the_version_is_looked_up_when_asked_for(tmp_path: Path) -> None:
    code = """
import importlib.metadata, crystallize_opt
print(crystallize_opt.__version__ == importlib.metadata.version("crystallize-opt"))
try:
    crystallize_opt.no_such_name
except AttributeError as error:
    print(error)
"""

    assert run_python(code, tmp_path) == [
        "True",
        "module 'crystallize_opt' has no attribute 'no_such_name'",
    ]


def test_all_public_names_exist(tmp_path: Path) -> None:
    code = """
import crystallize_opt, crystallize_opt.adapters as adapters
print([name for name in crystallize_opt.__all__ if not hasattr(crystallize_opt, name)])
print([adapters.RandomOptimizer.__name__, adapters.GridOptimizer.__name__])
print(set(adapters.__all__) <= set(dir(adapters)))
"""

    assert run_python(code, tmp_path) == ["[]", "['RandomOptimizer', 'GridOptimizer']", "True"]


def test_a_missing_extra_names_the_command_that_installs_it(tmp_path: Path) -> None:
    assert run_python(WITHOUT.format(missing="optuna"), tmp_path) == [
        "RandomOptimizer",
        "MissingExtraError",
        (
            "OptunaOptimizer needs optuna, which is not installed. "
            'Run: pip install "crystallize-opt[optuna]"'
        ),
        "optuna ModuleNotFoundError(\"No module named 'optuna'\")",
    ]


def test_a_broken_library_shows_its_own_cause(tmp_path: Path) -> None:
    """Optuna is there, but something that it needs is not."""
    assert run_python(WITHOUT.format(missing="colorlog"), tmp_path) == [
        "RandomOptimizer",
        "ModuleNotFoundError",
        "No module named 'colorlog'",
        "colorlog None",
    ]
