"""Stored runs in which suggestions repeat known outcomes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from crystallize_opt import (
    Categorical,
    Float,
    FrozenContext,
    History,
    SearchSpace,
    Storage,
    Workers,
)
from crystallize_opt.adapters import OptunaOptimizer, RandomOptimizer
from crystallize_opt.storage.journal import RunWriter, read_run
from tests.optimizers.test_unique import Scripted
from tests.search.test_repeats import LOSS, Listed, scripted
from tests.toy import experiment_of


def loss(data: Any, ctx: FrozenContext, *, a: int, b: int = 1) -> Any:
    return data, {"loss": float((a - 2) ** 2 + b + ctx["seed_used"] % 3)}


def tpe(**options: Any) -> Any:
    sampler = optuna.samplers.TPESampler(seed=1, n_startup_trials=3)
    return OptunaOptimizer({"a": (0, 2), "b": (0, 2)}, LOSS, sampler=sampler, **options)


def random_sampler(**options: Any) -> Any:
    sampler = optuna.samplers.RandomSampler(seed=2)
    return OptunaOptimizer({"a": (0, 2), "b": (0, 2)}, LOSS, sampler=sampler, **options)


def pruned() -> Any:
    optimizer = random_sampler(seed=2, pruner=optuna.pruners.MedianPruner(1, 0))
    for a in (0, 1, 2, 0):
        optimizer.enqueue({"a": a, "b": 2 - a})
    return optimizer


def search(
    path: Path, optimizer: Any, trials: int = 7, replicates: int = 1, step: Any = loss, **more: Any
) -> Any:
    resume = more.pop("resume", "exact")
    storage = Storage(path, run="run", resume=resume)
    experiment_of(step, seed=3, name="run").optimize(
        optimizer, trials, replicates, storage=storage, progress=False, **more
    )
    return optimizer


def scripted_over(space: Any, *values: int) -> Scripted:
    optimizer = Scripted(space)
    optimizer.script = [(value,) for value in values]  # type: ignore[misc]
    return optimizer


def told(path: Path) -> list[Any]:
    return [
        (o.treatment.name, dict(o.params), dict(o), o.status, o.repeats) for o in History.load(path)
    ]


CASES: dict[str, tuple[Callable[[], Any], int]] = {
    "TPE": (tpe, 1),
    "pruned": (pruned, 3),
    "to the end by unseen points": (lambda: scripted(*[(1, 1)] * 60), 1),
    "plain, with batches": (lambda: Listed(1, [1, 2], 2, [3, 1], 3, 4, [5, 4], 6, 7, 8), 1),
    "plain, always the same": (lambda: Listed(*[1] * 160), 1),
}


@pytest.mark.parametrize("case", CASES)
def test_a_run_that_dies_at_any_write_goes_on_as_if_it_had_not(case: str, tmp_path: Path) -> None:
    make, replicates = CASES[case]
    search(tmp_path / "whole.db", make(), replicates=replicates)
    whole = told(tmp_path / "whole.db")
    _, rows = read_run(tmp_path / "whole.db")
    repeats = [number for number, (*_, data) in enumerate(rows) if '"repeats":' in data]
    stored = [(kind, trial) for kind, trial, _ in rows]

    # Around the first repeat, the second one, and the last: asked, reported, told, the next ask.
    near = {end + by for end in (*repeats[:2], repeats[-1]) for by in (-2, -1, 0, 1, 2)}
    for end in sorted(near & set(range(1, len(rows)))):
        if rows[end][0] == "batch":
            continue  # One transaction with the row before it.
        path = tmp_path / f"{end}.db"
        writer = RunWriter(path, "run")
        writer.append(list(rows[:end]))
        writer.close()
        search(path, make(), replicates=replicates)
        assert told(path) == whole
        _, again = read_run(path)
        assert [(kind, trial) for kind, trial, _ in again if kind != "resume"] == stored


@pytest.mark.parametrize(
    "space",
    [
        # Random points of a finite space are the unseen ones of one sequence.
        SearchSpace({"a": (0, 24)}),
        # In an infinite one, a random point depends on how many were drawn before.
        SearchSpace({"a": Categorical([2, 7]), "b": Float(1.0, 9.0).when(a=7)}),
    ],
    ids=["finite", "infinite"],
)
def test_random_points_that_end_a_row_are_drawn_again(
    space: SearchSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state of TPE is not saved after a random point, which comes from another generator."""
    monkeypatch.setattr(OptunaOptimizer, "asks_in_a_row", 1)

    def stuck() -> Any:
        sampler = optuna.samplers.TPESampler(seed=0, n_startup_trials=2)
        return OptunaOptimizer(space, LOSS, seed=0, sampler=sampler)

    search(tmp_path / "whole.db", optimizer := stuck(), 20)
    for trials in (12, 16, 20):
        search(tmp_path / "parts.db", stuck(), trials)
    assert told(tmp_path / "parts.db") == told(tmp_path / "whole.db")
    assert optimizer._proposals.has_drawn


def test_num_trials_counts_no_repeats_in_a_resumed_run(tmp_path: Path) -> None:
    for trials in (2, 5, 5, 8):
        optimizer = search(tmp_path / "runs.db", random_sampler(), trials)
        assert sum(o.repeats is None for o in optimizer.observations) == trials
    assert any(o.repeats for o in optimizer.observations)


def test_another_optimizer_knows_the_trials_of_the_same_experiment_only(tmp_path: Path) -> None:
    space = {"a": (0, 2)}
    for seed, repeats in ((3, ["row", "row", None]), (4, [None, None, None])):
        path = tmp_path / f"{seed}.db"
        search(path, RandomOptimizer(space, LOSS, seed=0), 2)
        seen = [o["a"] for o in (o.params for o in History.load(path))]
        optimizer = scripted_over(space, *seen, *({0, 1, 2} - set(seen)))
        experiment_of(loss, seed=seed, name="run").optimize(
            optimizer,
            3 if seed == 3 else 5,
            storage=Storage(path, run="run", resume="attach"),
            progress=False,
        )
        new = optimizer.observations[2:]
        assert [o.repeats and "row" for o in new] == repeats


def test_parallel_searches_store_repeats(tmp_path: Path) -> None:
    optimizer = search(tmp_path / "runs.db", random_sampler(), 8, workers=Workers("threads", 3))
    stored = History.load(tmp_path / "runs.db")

    assert [o.repeats for o in stored] == [o.repeats for o in optimizer.observations]
    assert sum(o.repeats is None for o in stored) == 8
