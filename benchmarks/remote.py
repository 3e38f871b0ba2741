"""What another process costs: `python benchmarks/remote.py`; it takes a quarter of a minute.

The same search here and in another process, in turn, in pieces of 200 trials. Printed are the
medians of an ask and a tell together, on the clock, and the time of both processes' CPUs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import psutil

from crystallize_opt import Categorical, Float, Objective, SpaceOptimizer
from crystallize_opt.adapters import OptunaOptimizer, RandomOptimizer, RemoteOptimizer

LOSS = Objective("loss", "minimize")
SPACE = {**{f"x{i}": Float(0, 1) for i in range(5)}, "kind": Categorical(["a", "b", "c"])}
MICROSECONDS = 1e6
PIECE = 200


def piece(optimizer: SpaceOptimizer[Any]) -> tuple[float, float]:
    """Return the seconds of an ask and a tell: on the clock, and of the CPUs."""
    others = []
    if isinstance(optimizer, RemoteOptimizer):
        others.append(psutil.Process(optimizer.pid))

    def of_cpus() -> float:
        times = [each.cpu_times() for each in others]
        return time.process_time() + float(sum(each.user + each.system for each in times))

    clock, cpu = time.perf_counter(), of_cpus()
    for _ in range(PIECE):
        (treatment,) = optimizer.ask()
        optimizer.tell({"loss": treatment.params["x0"]})
    return (time.perf_counter() - clock) / PIECE, (of_cpus() - cpu) / PIECE


def row(name: str, kind: Callable[..., SpaceOptimizer[Any]], pieces: int) -> str:
    """Return the row of one optimizer."""
    makes: list[Any] = [kind, partial(RemoteOptimizer, kind)]
    measured: list[list[tuple[float, float]]] = [[], []]
    optimizers = [make(SPACE, LOSS, seed=0) for make in makes]
    for _ in range(pieces):
        for results, optimizer in zip(measured, optimizers, strict=True):
            results.append(piece(optimizer))
    here, there = (MICROSECONDS * median(clock for clock, _ in each) for each in measured)
    cpu = [MICROSECONDS * sum(cpu for _, cpu in each) / pieces for each in measured]
    return (
        f"| `{name}` | {here:.0f} µs | {there:.0f} µs | {there / here:.1f} | "
        f"{there - here:.0f} µs | {cpu[1] - cpu[0]:.0f} µs |"
    )


def start_row() -> str:
    """Return how long it takes to start a process, and to use one again."""
    seconds = []
    for _ in range(3):
        clock = time.perf_counter()
        optimizer = RemoteOptimizer(RandomOptimizer, SPACE, LOSS, seed=0)
        seconds.append(time.perf_counter() - clock)
        del optimizer
    return (
        f"The first process starts in {1000 * seconds[0]:.0f} ms; the next optimizer, which uses "
        f"it again, is built in {1000 * seconds[-1]:.1f} ms."
    )


def main() -> None:
    """Print the table of docs/remote.md."""
    print(f"load: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; {start_row()}\n")
    print("| an ask and a tell of | here | there | ratio | more | of the CPUs |")
    print("| --- | --- | --- | --- | --- | --- |")
    print(row("RandomOptimizer", RandomOptimizer, 25))
    print(row("OptunaOptimizer", OptunaOptimizer, 5))


if __name__ == "__main__":
    main()
