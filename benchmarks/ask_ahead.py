"""What `Workers(ask_ahead=True)` gains and costs: busy workers, and regret.

Run it with `python benchmarks/ask_ahead.py busy` (four minutes on a quiet machine),
`python benchmarks/ask_ahead.py schedule` (six minutes) and
`python benchmarks/ask_ahead.py regret` (an hour or more; `--seeds 2` takes a fifth of it).

busy: real searches with trials of 2 s on 4 threads. The workers' share of the time from the first
trial's start to the last one's end in which they run a trial.

schedule: the same with an optimizer whose asks only sleep, so that the machine's load plays no
part. Without suggestions ahead, workers that are busy for 82 % of the time wait 0.44 s for each
suggestion, as they were measured to do with Ax on a quiet machine; 84 % (SMAC) are 0.38 s, and 95 %
(Optuna's GP) are 0.1 s.

regret: without a clock, so that the machine's load plays no part. With trials of equal length on 4
workers, the optimizer knows all trials but the last 3 when it is asked; with one trial ahead, all
but the last 4 (which is so while an ask takes at most a quarter of a trial); with four ahead, the
most there are, all but the last 7. The best value found, minus the optimum, over paired seeds.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from statistics import mean, median
from typing import Any

from crystallize_opt import (
    Experiment,
    FrozenContext,
    Objective,
    Observation,
    Pipeline,
    Treatment,
    Workers,
    data_source,
    pipeline_step,
)
from crystallize_opt.adapters import AxOptimizer, OptunaOptimizer, RandomOptimizer, SMACOptimizer

LOSS = Objective("loss", "minimize")
WORKERS = 4
SECONDS = 2.0
Point = Mapping[str, float]


def branin(p: Point) -> float:
    x, y = p["x0"], p["x1"]
    bend = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return bend**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10 - 0.39788735772973816


def hartmann(p: Point) -> float:
    a = [
        [10, 3, 17, 3.5, 1.7, 8],
        [0.05, 10, 17, 0.1, 8, 14],
        [3, 3.5, 1.7, 10, 17, 8],
        [17, 8, 0.05, 10, 0.1, 14],
    ]
    centre = [
        [0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886],
        [0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991],
        [0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650],
        [0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381],
    ]
    total = 0.0
    for height, widths, centres in zip((1.0, 1.2, 3.0, 3.2), a, centre, strict=True):
        pairs = enumerate(zip(widths, centres, strict=True))
        distance = sum(w * (p[f"x{i}"] - c) ** 2 for i, (w, c) in pairs)
        total += height * math.exp(-distance)
    return 3.322368011391339 - total


FUNCTIONS: dict[str, tuple[Callable[[Point], float], dict[str, tuple[float, float]]]] = {
    "Branin": (branin, {"x0": (-5.0, 10.0), "x1": (0.0, 15.0)}),
    "Hartmann-6": (hartmann, {f"x{i}": (0.0, 1.0) for i in range(6)}),
}


def gp(space: Any, seed: int, trials: int) -> Any:
    from optuna.samplers import GPSampler

    return OptunaOptimizer(space, LOSS, seed=seed, sampler=GPSampler(seed=seed))


def ax(space: Any, seed: int, trials: int) -> Any:
    return AxOptimizer(space, LOSS, seed=seed)


def smac(space: Any, seed: int, trials: int) -> Any:
    return SMACOptimizer(space, LOSS, seed=seed, n_trials=trials)


OPTIMIZERS: dict[str, Callable[[Any, int, int], Any]] = {"Optuna, GP": gp, "Ax": ax, "SMAC": smac}


# Busy ---------------------------------------------------------------------------------------------


@data_source
def nothing(ctx: FrozenContext) -> None:
    return None


@pipeline_step()
def nap(data: Any, ctx: FrozenContext) -> Any:
    time.sleep(SECONDS)
    return data, {"loss": hartmann({name: ctx[name] for name in FUNCTIONS["Hartmann-6"][1]})}


def busy_share(
    make: Callable[[Any, int, int], Any], trials: int, *, ask_ahead: bool
) -> tuple[float, list[float]]:
    """Return the share of the workers' time in trials, and the seconds of each ask."""
    optimizer = make(FUNCTIONS["Hartmann-6"][1], 0, trials)
    ask = optimizer.ask
    asks: list[float] = []

    def timed(*args: Any, **options: Any) -> Any:
        began = time.perf_counter()
        try:
            return ask(*args, **options)
        finally:
            asks.append(time.perf_counter() - began)

    optimizer.ask = timed
    Experiment(nothing(), Pipeline([nap()])).optimize(
        optimizer, trials, workers=Workers("threads", WORKERS, ask_ahead=ask_ahead), progress=False
    )
    observations = optimizer.observations
    begins: list[float] = [o.started_at for o in observations]
    ends: list[float] = [o.started_at + o.duration for o in observations]
    busy: float = sum(o.duration for o in observations)
    return busy / (WORKERS * (max(ends) - min(begins))), asks


def possible_share(asks: list[float]) -> float:
    """Return the share if the optimizer never waited, at most one suggestion ahead per worker."""
    free = [0.0] * WORKERS
    begins: list[float] = []
    asked = 0.0
    for number, seconds in enumerate(asks):
        if number >= WORKERS:  # Until then, the suggestion that is now the oldest was not taken.
            asked = max(asked, begins[number - WORKERS])
        asked += seconds
        begins.append(max(asked, heapq.heappop(free)))
        heapq.heappush(free, begins[-1] + SECONDS)
    return len(asks) * SECONDS / (WORKERS * (max(free) - begins[0]))


def print_busy(trials: int, optimizers: list[str]) -> None:
    """Print the asks, the shares, and the most that is possible with one ask at a time."""
    print(
        f"| optimizer, {trials} trials | first half: an ask | second half | workers busy "
        "| with ask_ahead | possible |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for name in optimizers:
        plain, _ = busy_share(OPTIMIZERS[name], trials, ask_ahead=False)
        ahead, asks = busy_share(OPTIMIZERS[name], trials, ask_ahead=True)
        half = len(asks) // 2
        print(
            f"| {name} | {mean(asks[:half]):.2f} s | {mean(asks[half:]):.2f} s "
            f"| {100 * plain:.0f} % | {100 * ahead:.0f} % | {100 * possible_share(asks):.0f} % |",
            flush=True,
        )


class Sleeping(RandomOptimizer):
    """An optimizer whose asks take a known time."""

    def __init__(self, seconds: float) -> None:
        super().__init__(FUNCTIONS["Hartmann-6"][1], LOSS, seed=0)
        self.seconds = seconds

    def ask(self, n: int = 1, *, ttl: float | None = None) -> list[Treatment]:
        time.sleep(self.seconds)
        return super().ask(n, ttl=ttl)


def print_schedule(trials: int) -> None:
    print(f"| an ask takes, {trials} trials of {SECONDS:g} s | workers busy | with ask_ahead |")
    print("| --- | --- | --- |")
    for seconds in (0.1, 0.38, 0.44):
        shares = [
            busy_share(lambda *_, s=seconds: Sleeping(s), trials, ask_ahead=ahead)[0]
            for ahead in (False, True)
        ]
        print(f"| {seconds} s | {100 * shares[0]:.0f} % | {100 * shares[1]:.0f} % |", flush=True)


# Regret -------------------------------------------------------------------------------------------


def regrets(
    optimizer: Any, f: Callable[[Point], float], trials: int, known_late: int
) -> list[float]:
    """Return the regret after each trial, if `known_late` trials are pending at each ask."""
    pending: deque[Any] = deque()
    best, found = math.inf, []
    for number in range(trials + known_late):
        if number >= known_late + 1 or number >= trials:
            treatment = pending.popleft()
            value = f(treatment.params)
            optimizer.tell(Observation(treatment, {"loss": value}))
            best = min(best, value)
            found.append(best)
        if number < trials:
            pending.extend(optimizer.ask())
    while pending:
        best = min(best, f(pending.popleft().params))
        found.append(best)
    return found


def interval(differences: list[float]) -> tuple[float, float]:
    """The 95 % bootstrap interval of a median."""
    rng = random.Random(0)
    medians = sorted(median(rng.choices(differences, k=len(differences))) for _ in range(2000))
    return medians[50], medians[1949]


def print_regret(trials: int, seeds: int, functions: list[str], optimizers: list[str]) -> None:
    more = round(trials * 0.95 / 0.82)
    print(f"Median log10 regret, {seeds} paired seeds; the difference with its 95 % interval.")
    print(f"{more} trials with ask_ahead take about as long as {trials} without.")
    print(
        f"| function, optimizer | {trials} trials | one ahead, {trials} trials "
        f"| one ahead, {more} trials | four ahead, {trials} trials |"
    )
    print("| --- | --- | --- | --- | --- |")
    for name in functions:
        f, space = FUNCTIONS[name]
        for who in optimizers:
            make = OPTIMIZERS[who]
            logs: list[list[float]] = [[], [], [], []]
            for seed in range(seeds):
                plain, one, four = (
                    regrets(make(space, seed, trials), f, count, known_late)
                    for count, known_late in (
                        (trials, WORKERS - 1),
                        (more, WORKERS),
                        (trials, 2 * WORKERS - 1),
                    )
                )
                found = plain[-1], one[trials - 1], one[-1], four[-1]
                for kept, value in zip(logs, found, strict=True):
                    kept.append(math.log10(max(value, 1e-12)))
            cells = [f"{median(logs[0]):.2f}"]
            for each in logs[1:]:
                differences = [b - a for a, b in zip(logs[0], each, strict=True)]
                low, high = interval(differences)
                cells.append(f"{median(differences):+.2f} ({low:+.2f} to {high:+.2f})")
            print(f"| {name}, {who} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["busy", "schedule", "regret"])
    parser.add_argument("--trials", type=int, default=0, help="default: 30 for regret, else 100")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--functions", nargs="+", choices=[*FUNCTIONS], default=[*FUNCTIONS])
    parser.add_argument("--optimizers", nargs="+", choices=[*OPTIMIZERS], default=[*OPTIMIZERS])
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    if given.what == "busy":
        print_busy(given.trials or 100, given.optimizers)
    elif given.what == "schedule":
        print_schedule(given.trials or 100)
    else:
        print_regret(given.trials or 30, given.seeds, given.functions, given.optimizers)


if __name__ == "__main__":
    main()
