"""What storing a run costs: against the same loop without it, within one run.

Run it with `python benchmarks/storage.py`; it takes about five minutes (`--quick`: one) and prints
the table of docs/storage.md. What is compared runs interleaved; the figures are medians.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import platform
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import optuna

from crystallize_opt import (
    Experiment,
    Failures,
    Float,
    History,
    Objective,
    Pipeline,
    data_source,
    pipeline_step,
)
from crystallize_opt.adapters import OptunaOptimizer, RandomOptimizer
from crystallize_opt.search.callbacks import Event, TrialTold
from crystallize_opt.storage.journal import RunWriter
from crystallize_opt.storage.lease import held

optuna.logging.set_verbosity(optuna.logging.ERROR)

LOSS = Objective("loss", "minimize")
SPACE = {f"x{i}": Float(0, 1) for i in range(5)}


@data_source
def nothing(ctx: Any) -> None:
    return None


@pipeline_step()
def record(data: Any, ctx: Any, *, x0: float, x1: float) -> Any:
    ctx.metrics.add("loss", (x0 - 0.5) ** 2 + x1)
    return data


def times_of_trials(
    make: Callable[..., Any], trials: int, storage: Path | None, replicates: int = 1
) -> list[float]:
    """Run a search, or take it up, and return how long each trial took, in seconds."""
    told: list[float] = []

    def note(event: Event) -> None:
        if isinstance(event, TrialTold):
            told.append(time.perf_counter())

    Experiment(nothing(), Pipeline([record()]), seed=0).optimize(
        make(SPACE, LOSS, seed=0),
        trials,
        replicates,
        storage=storage,
        callbacks=[note],
        progress=False,
        failures=Failures(unread="ignore"),
    )
    return [after - before for before, after in pairwise(told)]


def tpe_at_random(space: Any, objective: Objective, seed: int) -> OptunaOptimizer:
    """TPE that draws at random, so that what is stored of it is not lost in its own time."""
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=10**9)
    return OptunaOptimizer(space, objective, sampler=sampler)


def seconds(work: Callable[[], object]) -> float:
    gc.collect()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def rows_per_trial(folder: Path, quick: bool) -> Iterator[str]:
    for name, make, trials in (
        ("random search", RandomOptimizer, 500),
        ("TPE before its models", tpe_at_random, 200),
    ):
        without, stored = [], []
        for round_ in range(3 if quick else 9):
            without.append(median(times_of_trials(make, trials, None)))
            path = folder / f"{name} {round_}.db"
            stored.append(median(times_of_trials(make, trials, path)))
        added = median(b - a for a, b in zip(without, stored, strict=True))
        ratio = median(b / a for a, b in zip(without, stored, strict=True))
        yield (
            f"| storing a trial, {name} | {1e6 * added:.0f} µs added to "
            f"{1e6 * median(without):.0f} µs | {ratio:.1f} x | at most 300 µs |"
        )


def rows_of_a_long_run(folder: Path, quick: bool) -> Iterator[str]:
    trials = 10_000 if quick else 100_000
    path = folder / "long.db"
    times = times_of_trials(RandomOptimizer, trials, path)
    tenth = trials // 10
    first, last = median(times[:tenth]), median(times[-tenth:])
    yield (
        f"| of {trials} trials, the last tenth against the first | {1e6 * last:.0f} µs a trial, "
        f"{path.stat().st_size / trials:.0f} bytes | {last / first:.2f} x | flat |"
    )
    opened = median(seconds(lambda: History.load(path)) for _ in range(3))
    read = median(seconds(lambda: list(History.load(path))) for _ in range(3))
    yield f"| opening a run of {trials} trials | {opened:.2f} s | | under 2 s |"
    yield f"| opening it and reading every observation | {read:.2f} s | | |"


def rows_of_resuming(folder: Path, quick: bool) -> Iterator[str]:
    for name, make, trials in (
        ("random search", RandomOptimizer, 2000),
        ("TPE", OptunaOptimizer, 100 if quick else 500),
    ):
        asked, resumed = [], []
        for round_ in range(1 if quick else 3):
            path = folder / f"resume {name} {round_}.db"
            asked.append(seconds(lambda: times_of_trials(make, trials, path)))  # noqa: B023
            resumed.append(seconds(lambda: times_of_trials(make, trials, path)))  # noqa: B023
        ratio = median(b / a for a, b in zip(asked, resumed, strict=True))
        yield (
            f"| resuming {trials} trials, {name} | {median(resumed):.2f} s; the search took "
            f"{median(asked):.2f} s | {ratio:.2f} x | under 1 x |"
        )


def rows_of_workers(folder: Path, quick: bool) -> Iterator[str]:
    with contextlib.closing(RunWriter(folder / "workers.db", "run")) as writer:

        def hold() -> None:
            for _ in range(100):
                with held(writer.lease):
                    pass

        taken = median(seconds(hold) / 100 for _ in range(5 if quick else 20))
    yield f"| the lock that a worker holds during a trial | {1e6 * taken:.0f} µs | | |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, ", end="")
    print(f"Optuna {optuna.__version__}, {sys.platform}.\n")
    print("| what | here | ratio | aim |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        for rows in (rows_per_trial, rows_of_workers, rows_of_resuming, rows_of_a_long_run):
            for row in rows(Path(name), quick):
                print(row, flush=True)


if __name__ == "__main__":
    main()
