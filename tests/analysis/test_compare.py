"""Optimizers compared on the same experiments, seeds and replicate seeds."""

from __future__ import annotations

import dataclasses
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crystallize_opt import (
    Comparison,
    Constraint,
    Experiment,
    Float,
    History,
    Objective,
    Pipeline,
    compare,
    data_source,
    pipeline_step,
)
from crystallize_opt.adapters import GridOptimizer, OptunaOptimizer, RandomOptimizer
from crystallize_opt.errors import RunChanged, TrialsFailedError, UsageError

LOSS = Objective("loss", "minimize")
SPACE = {"x": Float(-5.0, 5.0)}


def loss(x: Float(-5.0, 5.0)) -> float:  # type: ignore[valid-type]
    return float((x - 1.0) ** 2)


@data_source
def nothing(ctx: Any) -> None:
    return None


@pipeline_step()
def noisy(data: Any, ctx: Any, *, x: Float(-5.0, 5.0)) -> Any:  # type: ignore[valid-type]
    import random

    ctx.metrics.add("loss", random.gauss(0.0, 1.0))
    ctx.metrics.add("seed", ctx["seed_used"])


def random_search(seed: int) -> RandomOptimizer:
    return RandomOptimizer(SPACE, LOSS, seed=seed)


OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "random": random_search,
    "tpe": functools.partial(OptunaOptimizer, SPACE, LOSS),
    "grid": lambda s: GridOptimizer(SPACE, LOSS, levels={"x": 11}, seed=s),
}
QUADRATIC = Experiment.of(loss, seed=0)


def test_every_cell_is_the_search_that_a_user_would_run() -> None:
    comparison = compare(QUADRATIC, OPTIMIZERS, 6, seeds=[3, 7])

    assert comparison.optimizers == ["random", "tpe", "grid"]
    assert comparison.seeds == [3, 7]
    for name, make in OPTIMIZERS.items():
        for seed in (3, 7):
            optimizer = make(seed=seed) if name == "tpe" else make(seed)
            Experiment.of(loss, seed=seed).optimize(optimizer, 6)
            values = [each["loss"] for each in optimizer.observations]
            cell = comparison.cell(name, seed)
            assert cell.best == [min(values[: n + 1]) for n in range(6)]
            assert (cell.confirmed, cell.failures, cell.error) == (None, 0, None)
            assert list(cell.seconds) == sorted(cell.seconds)
            assert all(ask >= 0 for ask in cell.asks)


def test_the_replicate_seeds_are_those_of_the_block_and_differ_between_seeds(
    tmp_path: Path,
) -> None:
    experiment = Experiment(nothing(), Pipeline([noisy()]), seed=100, name="noise")
    makers = {"one": random_search, "two": lambda seed: RandomOptimizer(SPACE, LOSS, seed=seed + 9)}
    file = tmp_path / "all.db"
    compare(experiment, makers, 2, seeds=2, replicates_per_trial=2, storage=file)

    seeds: dict[str, set[Any]] = {}
    for run in History.runs(file):
        if ": " in run:
            seeds[run] = {r.seed for each in History.load(file, run) for r in each.replicates}
    assert len(seeds) == 4
    for seed in (0, 1):
        one, two = (seeds[f"comparison: noise, {name}, seed {seed}"] for name in ("one", "two"))
        assert one == two == {100 + seed, 100 + seed + 31337}


def test_the_winner_of_a_noisy_search_is_judged_on_fresh_seeds() -> None:
    experiment = Experiment(nothing(), Pipeline([noisy()]), seed=1)
    comparison = compare(experiment, {"random": random_search}, 5, seeds=8, confirm_replicates=20)
    flattered = [cell.searched for cell in comparison.cells]
    honest = [cell.final for cell in comparison.cells]

    # Without an effect of x, each trial of a block has the same value: that of the block's seed.
    assert all(cell.final == cell.confirmed for cell in comparison.cells)
    assert None not in flattered
    assert max(abs(value) for value in honest if value is not None) < 1.0  # the mean of 20 draws
    none = compare(experiment, {"random": random_search}, 5, seeds=2, confirm_replicates=0)
    assert [cell.confirmed for cell in none.cells] == [None, None]


def test_a_search_that_fails_does_not_lose_the_others() -> None:
    def broken(seed: int) -> RandomOptimizer:
        if seed == 1:
            raise OSError("no licence")
        return random_search(seed)

    comparison = compare(QUADRATIC, {"good": random_search, "bad": broken}, 3, seeds=3)

    error = comparison.cell("bad", 1).error
    assert error is not None
    assert error.startswith("OSError: no licence")
    assert comparison.cell("bad", 1).final is None
    assert [cell.error for cell in comparison.cells].count(None) == 5
    assert comparison.ranks["good"] < comparison.ranks["bad"]
    assert "no_result" in comparison.summary().columns
    calls = iter(range(10))
    with pytest.raises(TrialsFailedError, match="Every search failed; the first one: OSError"):
        # Every optimizer is made once before the first search, to see its objectives.
        compare(QUADRATIC, {"bad": lambda seed: broken(seed * next(calls))}, 3, seeds=[1])


def test_searches_run_on_workers_and_give_the_same() -> None:
    serial = compare(QUADRATIC, OPTIMIZERS, 4, seeds=2)
    parallel = compare(QUADRATIC, OPTIMIZERS, 4, seeds=2, workers="threads")

    assert [cell.best for cell in parallel.cells] == [cell.best for cell in serial.cells]


@pytest.mark.slow
def test_searches_run_in_processes() -> None:
    serial = compare(QUADRATIC, OPTIMIZERS, 4, seeds=2)
    parallel = compare(QUADRATIC, OPTIMIZERS, 4, seeds=2, workers=2)

    assert [cell.best for cell in parallel.cells] == [cell.best for cell in serial.cells]


def test_a_stored_comparison_is_continued_and_a_changed_one_refused(tmp_path: Path) -> None:
    file = tmp_path / "all.db"
    first = compare(QUADRATIC, {"random": random_search}, 3, seeds=2, storage=file)
    again = compare(QUADRATIC, {"random": random_search}, 3, seeds=2, storage=file)

    assert again.cells == first.cells
    moved = tmp_path / "moved.db"
    file.rename(moved)
    assert (
        compare(QUADRATIC, {"random": random_search}, 3, storage=moved, seeds=2).cells
        == first.cells
    )
    with pytest.raises(RunChanged, match="num_trials"):
        compare(QUADRATIC, {"random": random_search}, 4, seeds=2, storage=moved)
    with pytest.raises(UsageError, match="has no seed"):
        compare(Experiment.of(loss), {"random": random_search}, 3, storage=tmp_path / "new.db")


KILLED = """
import os, signal, sys
from crystallize_opt import Experiment, Float, Objective, compare
from crystallize_opt.adapters import RandomOptimizer

def loss(x: Float(-5.0, 5.0)):
    with open(sys.argv[1] + ".calls", "ab", buffering=0) as file:
        file.write(b".")
        if len(sys.argv) > 2 and file.tell() == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
    return (x - 1.0) ** 2

def make(seed):
    return RandomOptimizer({"x": (-5.0, 5.0)}, Objective("loss", "minimize"), seed=seed)

experiment = Experiment.of(loss, seed=0)
found = compare(experiment, {"tpe": make}, 5, seeds=3, storage=sys.argv[1], confirm_replicates=0)
print([list(cell.best) for cell in found.cells])
"""


def test_a_killed_comparison_goes_on_within_a_search(tmp_path: Path) -> None:
    (script := tmp_path / "script.py").write_text(KILLED, encoding="utf-8")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(script), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603

    whole = run(str(tmp_path / "whole.db"))
    killed = run(str(tmp_path / "parts.db"), "8")
    rest = run(str(tmp_path / "parts.db"))

    assert killed.returncode == -signal.SIGKILL
    assert rest.stdout == whole.stdout
    # The trial that was killed ran again, and no other.
    assert (tmp_path / "parts.db.calls").stat().st_size == 15 + 1


def test_several_experiments_and_factories_of_both() -> None:
    def steep(y: Float(0.0, 1.0)) -> float:  # type: ignore[valid-type]
        return float(10 * y)

    def make(experiment: Experiment, seed: int) -> RandomOptimizer:
        goal = Objective(experiment.name or "", "minimize")
        return RandomOptimizer(experiment.search_space(), goal, seed=seed)

    comparison = compare([QUADRATIC, Experiment.of(steep)], {"random": make}, 3, seeds=2)

    assert comparison.experiments == ["loss", "steep"]
    assert comparison.goals["steep"].metric == "steep"
    with pytest.raises(UsageError, match="experiment= is one of 'loss', 'steep'"):
        comparison.cell("random", 0)


def test_several_objectives_are_compared_by_hypervolume() -> None:
    def both(x: Float(0.0, 1.0)) -> dict[str, float]:  # type: ignore[valid-type]
        return {"loss": x, "cost": 1 - x}

    goals = [Objective("loss", "minimize"), Objective("cost", "minimize")]
    space = {"x": (0.0, 1.0)}

    def make(seed: int) -> RandomOptimizer:
        return RandomOptimizer(space, goals, seed=seed)

    with pytest.raises(UsageError, match="threshold"):
        compare(Experiment.of(both), {"random": make}, 3, seeds=2)
    goals = [Objective(each.metric, "minimize", threshold=2.0) for each in goals]
    comparison = compare(Experiment.of(both), {"random": make}, 4, seeds=2)

    optimizer = make(0)
    Experiment.of(both, seed=0).optimize(optimizer, 4)
    assert comparison.cell("random", 0).final == optimizer.history.hypervolume()
    assert comparison.goals["both"].direction == "maximize"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"experiments": []}, "at least one experiment"),
        ({"experiments": [QUADRATIC, QUADRATIC]}, "distinct names"),
        ({"experiments": [loss]}, "need distinct names|takes experiments"),
        ({"optimizers": {}}, "mapping of names"),
        ({"optimizers": [random_search]}, "mapping of names"),
        ({"optimizers": {"used": random_search(0)}}, "needs a fresh optimizer"),
        ({"optimizers": {"class": OptunaOptimizer}}, "needs space, objective, but is called"),
        (
            {
                "optimizers": {
                    "one": random_search,
                    "other": lambda seed: RandomOptimizer(
                        SPACE, LOSS, constraints=[Constraint("loss", "<=", 1.0)], seed=seed
                    ),
                }
            },
            "different objectives or constraints in 'loss'",
        ),
        ({"num_trials": 0}, "num_trials"),
        ({"seeds": []}, "distinct seeds"),
        ({"seeds": [1, 1]}, "distinct seeds"),
        ({"seeds": 0}, "seeds"),
        ({"confirm_replicates": -1}, "confirm_replicates"),
        ({"alpha": 1.5}, "alpha"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_runs(
    change: dict[str, Any], message: str
) -> None:
    ran: list[float] = []

    def watched(x: float) -> float:
        ran.append(x)
        return x

    arguments: dict[str, Any] = {
        "experiments": Experiment.of(watched, name="loss"),
        "optimizers": {"random": random_search},
        "num_trials": 2,
    }
    with pytest.raises(UsageError, match=message):
        compare(**arguments | change)
    assert ran == []


def test_an_interrupted_comparison_says_how_to_go_on() -> None:
    def interrupted(x: float) -> float:
        os.kill(os.getpid(), signal.SIGINT)
        return x

    experiment = Experiment.of(interrupted, metric="loss")
    with pytest.raises(KeyboardInterrupt, match="the same call continues it"):
        compare(experiment, {"random": random_search}, 2, seeds=2, progress=False)


def test_the_comparison_is_kept(tmp_path: Path) -> None:
    comparison = compare(QUADRATIC, OPTIMIZERS, 3, seeds=2)
    comparison.save(tmp_path / "comparison.json")

    loaded = Comparison.load(tmp_path / "comparison.json")
    assert loaded.cells == [dataclasses.replace(each) for each in comparison.cells]
    assert str(loaded) == str(comparison)
