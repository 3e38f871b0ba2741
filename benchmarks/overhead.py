"""What the layer costs: ratios against the same work without it, within one run.

Run it with `python benchmarks/overhead.py`; it takes about four minutes (`--quick`: half a minute)
and prints the table of docs/overhead.md. Everything that is compared runs interleaved, so that a
machine that speeds up or slows down does so for both sides; the figures are medians.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from statistics import median
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from crystallize_opt import (
    Categorical,
    Experiment,
    Float,
    Objective,
    Observation,
    Pipeline,
    Treatment,
    data_source,
    pipeline_step,
)
from crystallize_opt.adapters import OptunaOptimizer, RandomOptimizer
from crystallize_opt.trials.best import Criterion

optuna.logging.set_verbosity(optuna.logging.ERROR)

LOSS = Objective("loss", "minimize")
SPACE = {f"x{i}": Float(0, 1) for i in range(5)}
DISTRIBUTIONS: dict[str, BaseDistribution] = {name: FloatDistribution(0, 1) for name in SPACE}


@data_source
def numbers(ctx: Any) -> list[int]:
    return [1, 2, 3]


@pipeline_step()
def add(data: Any, ctx: Any, *, delta: float = 0.0) -> Any:
    return data


@pipeline_step()
def record(data: Any, ctx: Any) -> Any:
    ctx.metrics.add("loss", 1.0)
    return data


def loop_seconds_per_trial(trials: int) -> float:
    """Our loop: no-op two-step pipeline, random search, serial, no storage."""
    experiment = Experiment(numbers(), Pipeline([add(), record()]), seed=0)
    optimizer = RandomOptimizer({"delta": Float(0, 1)}, LOSS, seed=0)
    start = time.perf_counter()
    experiment.optimize(optimizer, trials, progress=False)
    return (time.perf_counter() - start) / trials


def original_seconds_per_trial(trials: int) -> float:
    """The loop of crystallize-ml 0.27: the same pipeline and optimizer, its default plugins."""
    import crystallize
    from crystallize.experiments.optimizers import Objective as OriginalObjective
    from crystallize.pipelines.pipeline import Pipeline as OriginalPipeline

    source = crystallize.data_source(numbers.__wrapped__)  # type: ignore[attr-defined]
    steps = [
        crystallize.pipeline_step()(step.__wrapped__)()  # type: ignore[attr-defined]
        for step in (add, record)
    ]
    experiment = crystallize.Experiment(datasource=source(), pipeline=OriginalPipeline(steps))
    optimizer = RandomOptimizer({"delta": Float(0, 1)}, LOSS, seed=0)
    optimizer.objective = OriginalObjective("loss", "minimize")
    start = time.perf_counter()
    experiment.optimize(optimizer, trials)
    return (time.perf_counter() - start) / trials


def loop_rows(quick: bool) -> Iterator[str]:
    ours, original = [], []
    with tempfile.TemporaryDirectory() as folder, _in_folder(folder), _stderr_to_null():
        for _ in range(3 if quick else 9):
            original.append(original_seconds_per_trial(100))
            ours.append(loop_seconds_per_trial(1000))
    ratio = median(b / a for a, b in zip(ours, original, strict=True))
    yield (
        f"| the loop, per trial | {1e6 * median(ours):.0f} µs | crystallize-ml 0.27: "
        f"{1e6 * median(original):.0f} µs | 1/{ratio:.1f} | at most 1/25 |"
    )


def native_trial(study: optuna.Study) -> None:
    trial = study.ask(DISTRIBUTIONS)
    study.tell(trial, 0.5)


def our_trial(optimizer: OptunaOptimizer) -> None:
    optimizer.ask()
    optimizer.tell({"loss": 0.5})


def seconds_per_trial(work: Sequence[Callable[[], None]], trials: int) -> list[float]:
    """Median seconds of each of several pieces of work, run in turn, in alternating order."""
    seconds: list[list[float]] = [[] for _ in work]
    order = list(range(len(work)))
    for _ in range(trials):
        order.reverse()
        for index in order:
            start = time.perf_counter()
            work[index]()
            seconds[index].append(time.perf_counter() - start)
    return [median(each) for each in seconds]


def optuna_rows(quick: bool) -> Iterator[str]:
    samplers: list[tuple[str, Callable[[], BaseSampler], list[int], str]] = [
        ("Random", lambda: RandomSampler(seed=0), [10, 1_000, 100_000], "1.10"),
        ("TPE", lambda: TPESampler(seed=0), [10, 1_000], "1.03"),
    ]
    for name, sampler, sizes, aim in samplers:
        for size in sizes[: 2 if quick else 3]:
            ratios, ours = [], []
            for _ in range(1 if size > 1_000 else 3 if quick else 9):
                study = optuna.create_study(sampler=sampler())
                optimizer = OptunaOptimizer(SPACE, LOSS, sampler=sampler())
                attach_history(study, optimizer, size)
                work = (partial(native_trial, study), partial(our_trial, optimizer))
                native, mine = seconds_per_trial(work, 400 if name == "Random" else 40)
                ratios.append(mine / native)
                ours.append(mine)
            yield (
                f"| ask + tell, Optuna {name}, {size:,} trials | {1e6 * median(ours):,.0f} µs | "
                f"native: {1e6 * median(ours) / median(ratios):,.0f} µs | {median(ratios):.3f} | "
                f"at most {aim} |"
            )


def attach_history(study: optuna.Study, optimizer: OptunaOptimizer, trials: int) -> None:
    """Give both the same finished trials."""
    rng = random.Random(0)
    for _ in range(trials):
        params = optimizer.space.sample(rng)
        study.add_trial(
            optuna.trial.create_trial(params=params, distributions=DISTRIBUTIONS, value=0.5)
        )
        optimizer.attach(Observation(Treatment("history", params), {"loss": 0.5}))


def memory_rows(quick: bool) -> Iterator[str]:
    trials = 2_000 if quick else 10_000

    def grown(build: Callable[[], Any], step: Callable[[Any], None]) -> float:
        gc.collect()
        tracemalloc.start()
        subject = build()
        for _ in range(trials):
            step(subject)
        gc.collect()
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return size / trials

    native = grown(lambda: optuna.create_study(sampler=RandomSampler(seed=0)), native_trial)
    ours = grown(lambda: OptunaOptimizer(SPACE, LOSS, sampler=RandomSampler(seed=0)), our_trial)
    yield (
        f"| memory per finished trial beyond Optuna's | {ours - native:.0f} bytes | native: "
        f"{native:.0f} bytes | | under 2000 bytes |"
    )


def import_rows(quick: bool) -> Iterator[str]:
    # With cached bytecode, as in any installed package.
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}

    def milliseconds(statement: str) -> float:
        code = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
        runs = [
            float(subprocess.check_output([sys.executable, "-c", code], env=env))  # noqa: S603
            for _ in range(5 if quick else 15)
        ]
        return 1e3 * median(runs)

    ours = milliseconds("import crystallize_opt")
    yield f"| import crystallize_opt | {ours:.0f} ms | | | under 60 ms |"


def best_rows(quick: bool) -> Iterator[str]:
    """Fronts and choices whose naive treatment is quadratic."""
    count = 3_000
    rng = random.Random(0)
    trials = []
    for number in range(count):
        a, b = rng.random(), rng.random()
        metrics = {"a": a, "b": b, "c": -a - b}  # none dominates another one
        trials.append(Observation(Treatment(f"t_{number}"), metrics))
    criterion = Criterion(tuple(Objective(name, "minimize") for name in "abc"))

    def milliseconds(call: Callable[[], object]) -> float:
        times = []
        for _ in range(3 if quick else 11):
            began = time.perf_counter()
            call()
            times.append(time.perf_counter() - began)
        return 1e3 * median(times)

    found: list[Any] = []
    taken = milliseconds(lambda: found.append(criterion.best(trials)))
    if len(criterion.front(trials)) != count or len(set(map(id, found))) != 1:
        raise AssertionError("Not the front that is to be measured.")
    yield f"| the best of a front of {count:,}, 3 objectives | {taken:.0f} ms | | | under 1 s |"
    names = [f"choice {number}" for number in range(10_000)]
    taken = milliseconds(lambda: Categorical(names))
    yield f"| building a Categorical of 10,000 choices | {taken:.0f} ms | | | |"


@contextmanager
def _in_folder(folder: str) -> Iterator[None]:
    before = os.getcwd()  # noqa: PTH109
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def _stderr_to_null() -> Iterator[None]:
    """The original framework logs every trial to stderr."""
    before = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(null)
        os.close(before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller measurements")
    quick = parser.parse_args().quick
    print(f"Python {platform.python_version()}, Optuna {optuna.__version__}, {platform.system()}\n")
    print("| what | crystallize-opt | compared with | ratio | aim |")
    print("| --- | --- | --- | --- | --- |")
    for rows in (import_rows, best_rows, loop_rows, optuna_rows, memory_rows):
        for row in rows(quick):
            print(row, flush=True)


if __name__ == "__main__":
    main()
