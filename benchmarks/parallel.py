"""What running trials side by side costs: ratios within one run.

Run it with `python benchmarks/parallel.py`; it takes about three minutes (`--quick`: one). The
trials sleep, so that the number of cores does not matter. A schedule is timed from the start of its
first trial: starting the workers is in a row of its own.
"""

from __future__ import annotations

import argparse
import heapq
import random
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from statistics import median
from typing import Any

from crystallize_opt import (
    Experiment,
    FrozenContext,
    Objective,
    Pipeline,
    Workers,
    data_source,
    pipeline_step,
)
from crystallize_opt.adapters import GridOptimizer, RandomOptimizer

LOSS = Objective("loss", "minimize")


@data_source
def nothing(ctx: FrozenContext) -> None:
    return None


@pipeline_step()
def nap(data: Any, ctx: FrozenContext, *, seconds: float) -> Any:
    time.sleep(seconds)
    return data, {"loss": seconds}


@pipeline_step()
def record(data: Any, ctx: FrozenContext, *, x: float) -> Any:
    return data, {"loss": x}


def ideal_seconds(durations: list[float], workers: int) -> float:
    """The time of the same trials in the same order, where a free worker takes the next at once."""
    free = [0.0] * workers
    for duration in durations:
        heapq.heapreplace(free, free[0] + duration)
    return max(free)


def schedule_row(name: str, executor: Any, workers: int, trials: int, aim: str) -> str:
    rng = random.Random(0)
    durations = [rng.uniform(0.1, 1.0) for _ in range(trials)]
    optimizer = GridOptimizer({"seconds": durations}, LOSS)
    begin = time.time()
    Experiment(nothing(), Pipeline([nap()])).optimize(
        optimizer, trials, workers=Workers(executor, workers), progress=False
    )
    started = [o.started_at or 0.0 for o in optimizer.observations]
    ended = [o.started_at + o.duration for o in optimizer.observations]  # type: ignore[operator]
    taken = max(ended) - min(started)
    ratio = ideal_seconds(durations, workers) / taken
    return (
        f"| {name}, {workers} workers, {trials} trials | {taken:.2f} s | "
        f"{100 * ratio:.1f} % of the ideal schedule (+ {min(started) - begin:.1f} s to start) | "
        f"{aim} |"
    )


def noop(*arguments: Any) -> None:
    return None


def spawn_pool() -> Executor:
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


def round_trip_rows(trials: int) -> Iterator[str]:
    def ours(executor: Any) -> float:
        optimizer = RandomOptimizer({"x": (0.0, 1.0)}, LOSS, seed=0)
        experiment = Experiment(nothing(), Pipeline([record()]), seed=0)
        told: list[float] = []

        def note(event: Any) -> None:
            if type(event).__name__ == "TrialTold":
                told.append(time.perf_counter())

        experiment.optimize(
            optimizer, trials, workers=Workers(executor, 1), callbacks=[note], progress=False
        )
        return median(b - a for a, b in pairwise(told))

    def bare(make_pool: Callable[[], Any] = spawn_pool) -> float:
        seconds = []
        with make_pool() as pool:
            pool.submit(noop).result()
            for _ in range(trials):
                start = time.perf_counter()
                pool.submit(noop, bytes(2000)).result()
                seconds.append(time.perf_counter() - start)
        return median(seconds)

    def bare_loky() -> float:
        from loky import ProcessPoolExecutor as Loky

        return bare(lambda: Loky(1))

    kinds: list[tuple[str, Any, str, Callable[[], float]]] = [
        ("ProcessPoolExecutor", spawn_pool, "the bare executor", bare),
        ('"processes"', "processes", "a bare loky executor", bare_loky),
    ]
    for name, executor, what, other in kinds:
        theirs, mine = other(), ours(executor)
        yield (
            f"| one no-op trial, {name} | {1e3 * mine:.2f} ms | {1e3 * (mine - theirs):.2f} ms "
            f"beyond {what}'s {1e3 * theirs:.2f} ms | at most 1 ms |"
        )


def memory_rows(trials: int) -> Iterator[str]:
    def grown(executor: Any, count: int) -> int:
        optimizer = RandomOptimizer({"x": (0.0, 1.0)}, LOSS, seed=0)
        experiment = Experiment(nothing(), Pipeline([record()]), seed=0)
        tracemalloc.start()
        experiment.optimize(
            optimizer, count, workers=Workers(executor, 4 if executor else 1), progress=False
        )
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return size

    serial = grown(None, trials)
    for executor in ("threads", "processes"):
        size = grown(executor, trials)
        yield (
            f"| memory after {trials:,} trials, {executor} | {size / trials:.0f} bytes a trial | "
            f"{(size - serial) / trials:+.0f} bytes beyond a serial search's observations | flat |"
        )


def dask_row(trials: int) -> str:
    import dask
    from distributed import Client, LocalCluster

    make_cluster: Any = LocalCluster
    make_client: Any = Client
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        make_cluster(
            n_workers=4, threads_per_worker=1, dashboard_address=":0", silence_logs=60
        ) as cluster,
        make_client(cluster) as client,
    ):
        return schedule_row("Dask", client.get_executor, 4, trials, "at least 90 %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer trials")
    quick = parser.parse_args().quick
    trials = 50 if quick else 200
    print("| what | crystallize-opt | compared | aim |")
    print("| --- | --- | --- | --- |")
    print(schedule_row("threads", "threads", 8, trials, "at least 95 %"), flush=True)
    print(schedule_row("processes", "processes", 8, trials, "at least 95 %"), flush=True)
    print(dask_row(trials // 2), flush=True)
    for row in round_trip_rows(100 if quick else 500):
        print(row, flush=True)
    for row in memory_rows(2_000 if quick else 10_000):
        print(row, flush=True)


if __name__ == "__main__":
    main()
