"""The baseline of a search: it runs once and first, is stored, and ends the search if it fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from crystallize_opt import Categorical, Experiment, History, Objective, Treatment
from crystallize_opt.adapters import GridOptimizer
from crystallize_opt.errors import RunChanged, TrialsFailedError, UsageError
from crystallize_opt.search import BaselineCompleted, RunStarted, TrialAsked
from tests.search.ways import WAYS, each_way
from tests.toy import PlainOptimizer, exact, experiment_of

SEEDS = [(0, 7), (1, 7 + 31337)]


def noisy(data: Any, ctx: Any, *, x: float = 5.0) -> Any:
    return data, {"loss": x + ctx["seed_used"] % 10}


def grid() -> GridOptimizer:
    return GridOptimizer({"x": Categorical([3.0, 1.0])}, Objective("loss", "minimize"))


def search(experiment: Experiment, trials: int = 2, **settings: Any) -> GridOptimizer:
    optimizer = grid()
    experiment.optimize(optimizer, trials, 2, progress=False, **settings)
    return optimizer


@each_way
def test_it_runs_once_before_the_trials_on_their_seeds(way: str) -> None:
    _, workers = WAYS[way]
    step = noisy
    if "asynchronous" in way:

        async def step(data: Any, ctx: Any, *, x: float = 5.0) -> Any:
            return noisy(data, ctx, x=x)

    seen: list[Any] = []
    optimizer = search(
        experiment_of(step, seed=7), workers=workers, baseline=True, callbacks=[seen.append]
    )

    baseline = optimizer.history.baseline
    assert baseline is not None
    assert [(each.index, each.seed) for each in baseline.replicates] == SEEDS
    for trial in optimizer.observations:
        assert [(each.index, each.seed) for each in trial.replicates] == SEEDS
    assert (baseline.treatment.name, baseline["loss"]) == ("baseline", 10.5)
    assert len(optimizer.observations) == 2
    kinds = [type(event) for event in seen]
    assert kinds.index(BaselineCompleted) == 1
    assert kinds.count(BaselineCompleted) == 1
    assert kinds.index(RunStarted) < kinds.index(BaselineCompleted) < kinds.index(TrialAsked)


def test_a_treatment_is_the_baseline_also_of_a_plain_optimizer() -> None:
    found: list[Any] = []
    experiment_of(noisy, seed=7).optimize(
        PlainOptimizer([1.0], Objective("loss", "minimize"), "x"),
        1,
        baseline=Treatment("usual", {"x": 4.0}),
        callbacks=[found.append],
        progress=False,
    )
    (event,) = [each for each in found if isinstance(each, BaselineCompleted)]
    assert event.observation.treatment.name == "baseline"
    assert event.observation["loss"] == 11.0


def test_a_baseline_that_fails_ends_the_search_and_shows_why() -> None:
    def needs_x(data: Any, ctx: Any, *, x: float) -> Any:
        return data, {"loss": x}

    optimizer = grid()
    with pytest.raises(TrialsFailedError, match=r"(?s)baseline failed.*'x'.*Treatment\('default'"):
        experiment_of(needs_x).optimize(optimizer, 2, baseline=True, progress=False)
    assert optimizer.calls == []


def test_a_baseline_without_the_objective_fails() -> None:
    def silent(data: Any, ctx: Any, *, x: float = 0.0) -> Any:
        return data, ({"loss": x} if x else {"other": 1.0})

    with pytest.raises(TrialsFailedError, match=r"(?s)baseline failed.*'loss' was not recorded"):
        experiment_of(silent).optimize(grid(), 2, baseline=True, progress=False)


@pytest.mark.parametrize("wrong", [1, "default", {"x": 1.0}])
def test_anything_else_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match=r"baseline= is True .* or a Treatment"):
        search(experiment_of(noisy), baseline=wrong)


@pytest.mark.parametrize(
    "baseline",
    [True, Treatment("usual", {"x": 4.0}), Treatment("f", lambda ctx: ctx.add("x", 4.0))],
)
def test_a_stored_baseline_is_not_run_again(tmp_path: Path, baseline: Any) -> None:
    path = tmp_path / "runs.db"
    calls: list[int] = []

    def counts(data: Any, ctx: Any, *, x: float = 5.0) -> Any:
        calls.append(ctx["condition"] == "baseline")
        return noisy(data, ctx, x=x)

    first = search(experiment_of(counts, seed=7), 1, storage=path, baseline=baseline)
    again = search(experiment_of(counts, seed=7), 2, storage=path, baseline=baseline)

    assert sum(calls) == 2
    stored = History.load(path).baseline
    for other in (again.history.baseline, stored):
        assert first.history.baseline is not None
        assert other is not None
        expected = exact(first.history.baseline).replace(repr(first.history.baseline.treatment), "")
        assert exact(other).replace(repr(other.treatment), "") == expected


def test_another_baseline_is_another_run(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    search(experiment_of(noisy), 1, storage=path, baseline=True)

    with pytest.raises(RunChanged, match="has another baseline"):
        search(experiment_of(noisy), storage=path, baseline=Treatment("usual", {"x": 4.0}))


def test_a_run_without_one_gets_one_when_it_continues(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    search(experiment_of(noisy), 1, storage=path)
    assert History.load(path).baseline is None

    search(experiment_of(noisy), storage=path, baseline=True)
    assert History.load(path).baseline is not None
    assert search(experiment_of(noisy), storage=path).history.baseline is not None


CALLS: list[str] = []


def dies(data: Any, ctx: Any, *, x: float = 5.0) -> Any:
    if len(CALLS) == int(os.environ.get("DIES_AFTER", "100")):
        os._exit(9)
    CALLS.append(f"{ctx['condition']} {ctx['replicate']}")
    return noisy(data, ctx, x=x)


KILLED = """
import sys
from tests.search.test_baseline import *
search(experiment_of(dies, seed=7), storage=sys.argv[1], baseline=True)
"""


@pytest.mark.parametrize(("survives", "repeated"), [("1", 1), ("3", 0)])
def test_a_killed_search_repeats_only_an_unfinished_baseline(
    tmp_path: Path, survives: str, repeated: int
) -> None:
    path = str(tmp_path / "runs.db")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "DIES_AFTER": survives}
    killed = subprocess.run(  # noqa: S603
        [sys.executable, "-c", KILLED, path], capture_output=True, text=True, check=False, env=env
    )
    assert killed.returncode == 9, killed.stderr

    CALLS.clear()
    again = search(experiment_of(dies, seed=7), storage=path, baseline=True).history
    assert CALLS.count("baseline 0") == repeated
    whole = search(experiment_of(noisy, seed=7), baseline=True).history
    assert [dict(each) for each in again] == [dict(each) for each in whole]
    assert again.baseline is not None
    assert dict(again.baseline) == {"loss": 10.5}
