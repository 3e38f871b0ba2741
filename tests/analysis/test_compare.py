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
from tests.toy import PlainOptimizer

LOSS = Objective("loss", "minimize")
SPACE = {"x": Float(-5.0, 5.0)}
RELATIVE = Constraint("loss", "<=", 5.0, relative_to_baseline=True)


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


def asked_search(seed: int) -> RandomOptimizer:
    optimizer = random_search(seed)
    optimizer.ask()
    return optimizer


USED = random_search(0)
PLAIN = PlainOptimizer([1.0, 2.0], LOSS, "x")
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

    seeds: dict[tuple[str, ...], set[Any]] = {}
    for run in History.runs(file)[1:]:
        key = tuple(run.replace("trial_0", "trial_1").split(": ")[1:])
        seeds[key] = {r.seed for each in History.load(file, run) for r in each.replicates}
    assert len(seeds) == 8
    for seed in (0, 1):
        one, two = (f"noise, {name}, seed {seed}" for name in ("one", "two"))
        assert seeds[one,] == seeds[two,] == {100 + seed, 100 + seed + 31337}
        fresh = "trial_1 on fresh seeds"
        assert seeds[one, fresh] == seeds[two, fresh]
        assert len(seeds[one, fresh] - seeds[one,]) == 10


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


def test_a_stored_comparison_is_continued_also_from_another_place(tmp_path: Path) -> None:
    file, moved = tmp_path / "all.db", tmp_path / "moved.db"
    first = compare(QUADRATIC, {"random": random_search}, 3, seeds=2, storage=file)

    assert compare(QUADRATIC, {"random": random_search}, 3, seeds=2, storage=file) == first
    file.rename(moved)
    assert compare(QUADRATIC, {"random": random_search}, 3, seeds=2, storage=moved) == first
    with pytest.raises(UsageError, match="has no seed"):
        compare(Experiment.of(loss), {"random": random_search}, 3, storage=tmp_path / "new.db")


def test_a_stored_comparison_grows_and_runs_no_trial_twice(tmp_path: Path) -> None:
    """More trials, seeds, optimizers and experiments; what is stored is answered in any order."""
    calls = [0]

    def counted(x: Float(-5.0, 5.0)) -> dict[str, float]:  # type: ignore[valid-type]
        calls[0] += 1
        return {"loss": loss(x)}

    def grown(num_trials: int, seeds: int, *names: str, **options: Any) -> Comparison:
        makers = {name: OPTIMIZERS[name] for name in names}
        one = Experiment.of(counted, seed=0, name="one")
        two = Experiment.of(loss, seed=0, name="two")
        experiments = [one, two][: options.pop("experiments", 1)]
        return compare(experiments, makers, num_trials, seeds=seeds, **options)

    at: Any = {"storage": tmp_path / "all.db", "confirm_replicates": 0}
    small = grown(3, 2, "random", **at)
    steps = (
        {"num_trials": 5, "seeds": 2, "names": ["random"]},
        {"num_trials": 5, "seeds": 3, "names": ["tpe", "random"]},
        {"num_trials": 7, "seeds": 3, "names": ["tpe", "random"], "experiments": 2},
    )
    for step in steps:
        given: Any = dict(step)
        found = grown(
            given.pop("num_trials"), given.pop("seeds"), *given.pop("names"), **given, **at
        )
    assert calls[0] == 7 * 3 * 2
    whole = grown(7, 3, "tpe", "random", experiments=2, confirm_replicates=0)
    assert [cell.best for cell in found.cells] == [cell.best for cell in whole.cells]
    assert found.num_trials == 7
    # Before the process of a later call, the optimizer was not at work: of random search, the first
    # trials after the resumes that followed the first one.
    asks = found.cell("random", 0, "one").asks
    assert asks[3] == 0.0 < min(asks[4], asks[6])
    calls[0] = 0
    assert grown(3, 2, "random", **at) == small
    assert calls[0] == 0
    with pytest.raises(UsageError, match=r"stored with 7 trials: .* not with 6"):
        grown(6, 2, "random", **at)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"experiments": Experiment.of(lambda x: x, seed=0, name="loss")}, "its code has changed"),
        ({"experiments": Experiment.of(loss, seed=1)}, "seed: 0 became 1"),
        ({"replicates_per_trial": 2}, "replicates_per_trial: 1 became 2"),
        ({"confirm_replicates": 3}, "confirm_replicates: 10 became 3"),
        (
            {"optimizers": {"random": lambda s: RandomOptimizer({"x": (-5.0, 6.0)}, LOSS, seed=s)}},
            "space of x",
        ),
        ({"optimizers": {"random": lambda s: random_search(s + 1)}}, "seed: 0 became 1"),
    ],
)
@pytest.mark.parametrize("num_trials", [2, 3])
def test_a_changed_comparison_is_refused_before_anything_runs(
    change: dict[str, Any], message: str, num_trials: int, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"experiments": QUADRATIC, "optimizers": {"random": random_search}}
    given |= {"num_trials": 2, "seeds": 1, "storage": tmp_path / "all.db"}
    compare(**given)
    before = History.runs(tmp_path / "all.db")
    with pytest.raises(RunChanged, match=message):
        compare(**given | change | {"num_trials": num_trials})
    assert History.runs(tmp_path / "all.db") == before


def test_an_interrupted_comparison_does_not_lose_an_optimizer(tmp_path: Path) -> None:
    ends = [True]

    def interrupted(seed: int) -> RandomOptimizer:
        if ends and seed == 2:
            raise KeyboardInterrupt
        return random_search(seed)

    both = {"random": random_search, "other": interrupted}
    file = tmp_path / "all.db"
    with pytest.raises(KeyboardInterrupt, match="the same call continues it"):
        compare(QUADRATIC, both, 2, seeds=3, storage=file)
    ends.clear()
    with pytest.raises(RunChanged, match="before 'loss, other, seed 2, 2 trials' had run"):
        compare(QUADRATIC, {"random": random_search}, 4, seeds=3, storage=file)
    found = compare(QUADRATIC, both, 4, seeds=3, storage=file)
    assert [cell.best for cell in found.cells] == [
        cell.best for cell in compare(QUADRATIC, both, 4, seeds=3).cells
    ]


LIMITED = """
import os, signal, sys, time
from crystallize_opt import (
    Experiment, Float, Objective, Pipeline, TrialLimits, Workers, compare, data_source,
    pipeline_step,
)
from crystallize_opt.adapters import GridOptimizer

@data_source
def nothing(ctx):
    return None

@pipeline_step()
def ends(data, ctx, *, x: Float(0.0, 4.0)):
    # The first trial, and the winner, the last one, on its third fresh seed.
    if x == 4 or (x == 0 and ctx["seed_used"] > 10 and ctx["replicate"] == 2):
        {end}
    ctx.metrics.add("loss", x + ctx["seed_used"] % 7)

goal = Objective("loss", "minimize")
compare(
    Experiment(nothing(), Pipeline([ends()]), seed=0),
    {{"grid": lambda seed: GridOptimizer({{"x": [4.0, 2.0, 0.0]}}, goal, seed=seed)}},
    3,
    seeds=1,
    workers=Workers("processes", 1, limits=TrialLimits(seconds={seconds})),
    progress=False,
)
"""


@pytest.mark.parametrize(
    ("end", "seconds", "status"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", 300, "worker died"),
        pytest.param("time.sleep(3600)", 3, "timed out", marks=pytest.mark.slow),
    ],
)
def test_the_limits_are_those_of_each_trial_and_of_each_fresh_replicate(
    end: str, seconds: int, status: str, tmp_path: Path
) -> None:
    (script := tmp_path / "script.py").write_text(LIMITED.format(end=end, seconds=seconds))
    command = [sys.executable, str(script)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603

    # The search lost its first trial only, and then its winner on a fresh seed.
    assert "TrialsFailedError: Every search failed; the first one" in ran.stderr
    assert "On fresh seeds, the winner 'trial_2' failed or violates a constraint" in ran.stderr
    assert status in ran.stderr


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
        ({"experiments": loss}, r"takes experiments.*Experiment\.of"),
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
        (
            {
                "optimizers": {
                    "relative": lambda seed: RandomOptimizer(
                        SPACE, LOSS, constraints=[RELATIVE], seed=seed
                    )
                }
            },
            r"'relative' is relative to a baseline.*set_baseline\(.*in the function",
        ),
        ({"optimizers": {"fixed": lambda _: random_search(0)}}, "'fixed'.*ignores its seed"),
        ({"optimizers": {"used": lambda _: USED}}, "the same optimizer"),
        ({"optimizers": {"used": lambda _: PLAIN}}, "the same optimizer"),
        ({"optimizers": {"asked": asked_search}}, "searched already"),
        ({"num_trials": 0}, "num_trials"),
        ({"seeds": []}, "distinct seeds"),
        ({"seeds": [1, 1]}, "distinct seeds"),
        ({"seeds": 0}, "seeds"),
        ({"seeds": 2.0}, "seeds is a whole number"),
        ({"seeds": True}, "seeds is a whole number"),
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


def test_no_more_optimizers_are_made_than_needed() -> None:
    """Each search makes one; and before, each function is called once for each experiment.

    For the first experiment it is called twice, to see whether it takes the seed.
    """
    made: list[int] = []

    def make(seed: int) -> RandomOptimizer:
        made.append(seed)
        return random_search(seed)

    compare({"a": QUADRATIC, "b": QUADRATIC}, {"random": make}, 1, seeds=[5, 6, 7], progress=False)
    assert made[:3] == [5, 6, 5]
    assert sorted(made[3:]) == [5, 5, 6, 6, 7, 7]
    made.clear()
    compare(QUADRATIC, {"random": make}, 1, seeds=[5], progress=False)
    assert made == [5, 5]


def test_an_optimizer_may_have_learnt_from_earlier_trials() -> None:
    earlier = random_search(9)
    Experiment.of(loss, seed=0).optimize(earlier, 2)

    def make(seed: int) -> RandomOptimizer:
        optimizer = random_search(seed)
        optimizer.attach(earlier.history)
        optimizer.enqueue({"x": 1.0})
        return optimizer

    assert compare(QUADRATIC, {"warm": make}, 1, seeds=2).cell("warm", 1).final == 0.0


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
