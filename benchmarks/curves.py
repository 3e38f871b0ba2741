"""What `ctx.report` costs, and what a pruner saves on the example of early stopping.

The cost of one report is the processor time of a trial's thread with many reports, divided by
their number; over a pipe, it is the time by the clock. With
Optuna's pruners it is compared with the same study driven by `trial.report` and
`trial.should_prune`. Run:

    python benchmarks/curves.py
    python benchmarks/curves.py --seeds 20
"""

from __future__ import annotations

import argparse
import math
import runpy
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna

from crystallize_opt import (
    Capabilities,
    Categorical,
    Experiment,
    Objective,
    Pipeline,
    Workers,
    data_source,
    pipeline_step,
)
from crystallize_opt.adapters import GridOptimizer, OptunaOptimizer

LOSS = Objective("loss", "minimize")
TRIALS, REPORTS = 5, 1000


@data_source
def nothing(ctx: Any) -> None:
    return None


@pipeline_step()
def report(data: Any, ctx: Any, *, x: float = 0.0) -> Any:
    clock = time.perf_counter if ctx["wall"] else time.thread_time
    began = clock()
    for step in range(ctx["reports"]):
        ctx.report("loss", x - step, step)
    return data, {"loss": x, "seconds": clock() - began}


class NeverPrunes(GridOptimizer):
    """Hears every point, and takes no time."""

    capabilities = Capabilities(pruning=True, unique_points=True)

    def _report(self, handle: Any, step: int, value: float) -> bool:
        return False


def grid(kind: type[GridOptimizer] = NeverPrunes) -> GridOptimizer:
    return kind({"x": Categorical([float(n) for n in range(TRIALS)])}, LOSS)


def microseconds(
    optimizer: Any, reports: int = REPORTS, *, wall: bool = False, **options: Any
) -> float:
    """Return the median time of one report, in microseconds: of the processor, or by the clock."""
    context = {"reports": reports, "wall": wall}
    experiment = Experiment(nothing(), Pipeline([report()]), seed=0, initial_ctx=context)
    experiment.optimize(optimizer, TRIALS, progress=False, **options)
    seconds = [each["seconds"] for each in optimizer.observations]
    return float(1e6 * statistics.median(seconds) / reports)


def native(pruner: optuna.pruners.BasePruner, reports: int) -> float:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0), pruner=pruner)
    seconds = []
    for _ in range(TRIALS):
        trial = study.ask()
        x = trial.suggest_float("x", 0.0, 1.0)
        began = time.thread_time()
        for step in range(reports):
            trial.report(x - step, step)
            trial.should_prune()
        seconds.append(time.thread_time() - began)
        study.tell(trial, x)
    return 1e6 * statistics.median(seconds) / reports


def cost_rows() -> Iterator[str]:
    yield f"| no optimizer hears it | {microseconds(grid(GridOptimizer)):.1f} µs | | |"
    yield f"| in this process | {microseconds(grid()):.1f} µs | | under 50 µs |"
    with tempfile.TemporaryDirectory() as folder:
        stored = microseconds(grid(), storage=Path(folder, "runs.db"))
        yield f"| in this process, stored | {stored:.1f} µs | | under 50 µs |"
    for kind, count in (("threads", 1), ("threads", 2)):
        taken = microseconds(grid(), workers=Workers(kind, count))
        yield f"| {count} thread{'s' * (count > 1)} | {taken:.1f} µs | | |"
    taken = microseconds(grid(), wall=True, workers=Workers("processes", 1))
    yield f"| a process, over its pipe, by the clock | {taken:.0f} µs | | under 1000 µs |"
    # Optuna copies the trial at each question, so that the cost grows with its steps.
    for reports in (30, 300):
        for pruner in (optuna.pruners.MedianPruner(), optuna.pruners.SuccessiveHalvingPruner()):
            ours = microseconds(
                OptunaOptimizer(
                    {"x": (0.0, 1.0)},
                    LOSS,
                    sampler=optuna.samplers.RandomSampler(seed=0),
                    pruner=pruner,
                ),
                reports,
            )
            name = f"{type(pruner).__name__}, {reports} steps"
            yield f"| {name} | {ours:.0f} µs | {native(pruner, reports):.0f} µs | |"


def interval(differences: list[float]) -> str:
    """Return the mean of paired differences with its 95 % interval (normal approximation)."""
    mean = statistics.fmean(differences)
    margin = 1.96 * statistics.stdev(differences) / math.sqrt(len(differences))
    return f"{mean:+.4f} [{mean - margin:+.4f}, {mean + margin:+.4f}]"


def pruning(name: str, seeds: int, trials: int = 40, epochs: int = 20) -> None:
    example = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "early_stopping.py"))
    search, step = example["search"], example[name]
    spent: dict[bool, list[int]] = {False: [], True: []}
    scores: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for seed in range(seeds):
        for prune in (False, True):
            used, *score = search(step, prune=prune, trials=trials, epochs=epochs, seed=seed)
            spent[prune].append(used)
            scores[prune].append((score[0], score[1]))
    share = [
        100 * (1 - with_ / without)
        for with_, without in zip(spent[True], spent[False], strict=True)
    ]
    print(
        f"{seeds} paired searches of {trials} trials with {epochs} epochs: "
        f"{statistics.fmean(spent[False]):.0f} epochs without a pruner, "
        f"{statistics.fmean(spent[True]):.0f} with MedianPruner: {statistics.fmean(share):.0f} % "
        f"saved ({min(share):.0f} to {max(share):.0f} %)"
    )
    for position, name in enumerate(("validation", "test")):
        means = [statistics.fmean(s[position] for s in scores[p]) for p in (False, True)]
        pairs = zip(scores[True], scores[False], strict=True)
        difference = interval([a[position] - b[position] for a, b in pairs])
        print(
            f"the winner's {name} accuracy: {means[0]:.4f} without, {means[1]:.4f} with a pruner; "
            f"difference {difference}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=0, help="searches of the example, each twice")
    parser.add_argument("--torch", action="store_true", help="those with torch")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if options.seeds:
        warnings.filterwarnings("ignore", module="sklearn")
        pruning("train_torch" if options.torch else "train", options.seeds)
        return
    print("| one report | crystallize-opt | Optuna's loop | aim |")
    print("| --- | --- | --- | --- |")
    for row in cost_rows():
        print(row, flush=True)


if __name__ == "__main__":
    main()
