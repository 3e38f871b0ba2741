"""Searches of noisy functions: the regret of the recommended point at equal total evaluations.

The noise of a replicate is half (in variance) that of its seed, which all trials share, and half
the trial's own. Each search ends as soon as its replicates reach the budget; those of the group
"saving" run 40 trials. The regret is that of the true value at the best trial's point. Searches are
paired by their seed; intervals are 95 % bootstrap intervals of the mean difference to the first row
of a group. Run, for example:

    python benchmarks/noisy.py tpe --seeds 30
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from crystallize_opt import (
    Adaptive,
    Experiment,
    FrozenContext,
    Objective,
    Observation,
    Pipeline,
    SearchState,
    SeedPlugin,
    data_source,
    pipeline_step,
)
from crystallize_opt.trials.noise import SeedEffects

LOSS = Objective("loss", "minimize")


def branin(x: Sequence[float]) -> float:
    a, b = 15 * x[0] - 5, 15 * x[1]
    valley = b - 5.1 * a * a / (4 * math.pi**2) + 5 * a / math.pi - 6
    return valley * valley + 10 * (1 - 1 / (8 * math.pi)) * math.cos(a) + 10 - 0.39788735773


_HEIGHTS = (1.0, 1.2, 3.0, 3.2)
_SCALES = (
    (10, 3, 17, 3.5, 1.7, 8),
    (0.05, 10, 17, 0.1, 8, 14),
    (3, 3.5, 1.7, 10, 17, 8),
    (17, 8, 0.05, 10, 0.1, 14),
)
_CENTRES = (
    (1312, 1696, 5569, 124, 8283, 5886),
    (2329, 4135, 8307, 3736, 1004, 9991),
    (2348, 1451, 3522, 2883, 3047, 6650),
    (4047, 8828, 8732, 5743, 1091, 381),
)


def hartmann(x: Sequence[float]) -> float:
    total = 0.0
    for height, scales, centre in zip(_HEIGHTS, _SCALES, _CENTRES, strict=True):
        squares = [s * (v - c / 1e4) ** 2 for s, v, c in zip(scales, x, centre, strict=True)]
        total += height * math.exp(-math.fsum(squares))
    return 3.32236801141 - total


@dataclass(frozen=True)
class Problem:
    """A function whose least value is 0, the noise of one replicate, and the evaluations."""

    function: Callable[[Sequence[float]], float]
    names: Sequence[str]
    noise: float
    budget: int

    @property
    def space(self) -> dict[str, tuple[float, float]]:
        return dict.fromkeys(self.names, (0.0, 1.0))

    def truth(self, params: Any) -> float:
        return self.function([params[name] for name in self.names])


PROBLEMS = {
    "branin": Problem(branin, ["x", "y"], 40.0, 150),
    "hartmann6": Problem(hartmann, list("abcdef"), 1.0, 200),
}


class OwnSeeds(SeedPlugin):
    """No two replicates of a search have the same seed."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._count = 0

    def before_replicate(self, experiment: Any, ctx: FrozenContext) -> None:
        if "seed_used" not in ctx:
            ctx.add("seed_used", 1_000_003 * self.seed + self._count)
            self._count += 1


@data_source
def nothing(ctx: FrozenContext) -> None:
    return None


def experiment_of(problem: Problem, seed: int, *, own_seeds: bool) -> Experiment:
    @pipeline_step()
    def noisy(data: None, ctx: FrozenContext) -> tuple[None, dict[str, float]]:
        point = [ctx[name] for name in problem.names]
        shared = random.Random(ctx["seed_used"]).gauss()
        own = random.Random(f"{ctx['seed_used']} {point}").gauss()
        noise = problem.noise * (shared + own) / math.sqrt(2)
        return data, {"loss": problem.function(point) + noise}

    plugin = OwnSeeds(seed) if own_seeds else SeedPlugin(seed)
    return Experiment(nothing(), Pipeline([noisy()]), plugins=[plugin])


@dataclass(frozen=True)
class Way:
    """One way to spend the evaluations."""

    make: Callable[[Problem, int], Any]
    replicates: int | Adaptive
    own_seeds: bool = False
    trials: int | None = None  # The number of trials, instead of that of evaluations.


def tpe(problem: Problem, seed: int) -> Any:
    from crystallize_opt.adapters import OptunaOptimizer

    return OptunaOptimizer(problem.space, LOSS, seed=seed)


def gp(problem: Problem, seed: int) -> Any:
    import optuna

    from crystallize_opt.adapters import OptunaOptimizer

    sampler = optuna.samplers.GPSampler(seed=seed)
    return OptunaOptimizer(problem.space, LOSS, seed=seed, sampler=sampler)


def smac(problem: Problem, seed: int, *, race: bool = False, model: bool = True) -> Any:
    from smac import HyperparameterOptimizationFacade, RandomFacade

    from crystallize_opt.adapters import SMACOptimizer

    # With SMAC's defaults a model is trained for every eighth suggestion: a race makes 130 of them.
    # The initial design is at most a quarter of `n_trials`, which in a race are replicates.
    return SMACOptimizer(
        problem.space,
        LOSS,
        seed=seed,
        facade=HyperparameterOptimizationFacade if model else RandomFacade,
        n_trials=problem.budget if race else problem.budget // 5,
        race=race,
        smac_defaults=True,
    )


def ax(problem: Problem, seed: int) -> Any:
    from crystallize_opt.adapters import AxOptimizer

    return AxOptimizer(problem.space, LOSS, seed=seed)


class NoEffects(SeedEffects):
    """Leaves means over few seeds as they are."""

    def left_out_of(self, observation: Observation) -> Observation:
        return observation


def tpe_told_plain_means(problem: Problem, seed: int) -> Any:
    optimizer = tpe(problem, seed)
    optimizer.measured._seeds._effects = NoEffects()
    return optimizer


UP_TO_10 = Adaptive(2, 10)
TENTH, FIFTH, HALF = (Adaptive(2, 10, alpha=alpha) for alpha in (0.1, 0.2, 0.5))

GROUPS: dict[str, dict[str, Way]] = {
    "tpe": {
        "TPE, mean of 5": Way(tpe, 5),
        "TPE, 1 replicate": Way(tpe, 1),
        "TPE, mean of 10": Way(tpe, 10),
        "TPE, Adaptive(2, 10)": Way(tpe, UP_TO_10),
        "TPE, Adaptive, alpha=0.2": Way(tpe, FIFTH),
        "TPE, Adaptive, alpha=0.5": Way(tpe, HALF),
        "TPE, alpha=0.2, told plain means": Way(tpe_told_plain_means, FIFTH),
    },
    "levels": {
        "TPE, mean of 5": Way(tpe, 5),
        "TPE, Adaptive(2, 10)": Way(tpe, UP_TO_10),
        "TPE, Adaptive, alpha=0.1": Way(tpe, TENTH),
        "TPE, Adaptive, alpha=0.2": Way(tpe, FIFTH),
    },
    "gp": {
        "Optuna GP, mean of 5": Way(gp, 5),
        "Optuna GP, Adaptive(2, 10)": Way(gp, UP_TO_10),
    },
    "random": {
        "random points, mean of 5": Way(partial(smac, model=False), 5),
        "random points, SMAC's race up to 10": Way(partial(smac, model=False, race=True), 10),
        "random points, Adaptive(2, 10)": Way(partial(smac, model=False), UP_TO_10),
    },
    "smac": {
        "SMAC's forest, mean of 5": Way(smac, 5),
        "SMAC's forest, race up to 10": Way(partial(smac, race=True), 10),
        "SMAC's forest, Adaptive(2, 10)": Way(smac, UP_TO_10),
    },
    "ax": {
        "Ax, mean of 5": Way(ax, 5),
        "Ax, mean of 5, own seeds and errors": Way(ax, 5, own_seeds=True),
        "Ax, Adaptive(2, 10)": Way(ax, UP_TO_10),
    },
    "saving": {
        "TPE, mean of 10": Way(tpe, 10, trials=40),
        "TPE, Adaptive(2, 10)": Way(tpe, UP_TO_10, trials=40),
        "TPE, Adaptive, alpha=0.1": Way(tpe, TENTH, trials=40),
        "TPE, Adaptive, alpha=0.2": Way(tpe, FIFTH, trials=40),
        "TPE, Adaptive, alpha=0.5": Way(tpe, HALF, trials=40),
    },
}


@dataclass(frozen=True)
class Found:
    """The regret of one search, its trials, its replicates, and its seconds."""

    regret: float
    trials: int
    replicates: int
    seconds: float


def search(problem: Problem, way: Way, seed: int) -> Found:
    def spent(state: SearchState) -> str | None:
        used = sum(len(each.replicates) for each in state.observations)
        if way.trials is not None:
            return None
        return "the budget is spent" if used >= problem.budget else None

    optimizer = way.make(problem, seed)
    began = time.perf_counter()
    best = experiment_of(problem, seed, own_seeds=way.own_seeds).optimize(
        optimizer, way.trials or 10 * problem.budget, way.replicates, stop=spent, progress=False
    )
    ran = [each for each in optimizer.observations if each.repeats is None]
    replicates = sum(len(each.replicates) for each in ran)
    if len(ran) < (way.trials or 0) or (way.trials is None and replicates < problem.budget):
        raise KeyboardInterrupt  # The search took it, and returned the best so far.
    return Found(problem.truth(best.params), len(ran), replicates, time.perf_counter() - began)


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a mean."""
    rng = random.Random(0)
    count = len(differences)
    means = sorted(statistics.fmean(rng.choices(differences, k=count)) for _ in range(4000))
    return means[100], means[-101]


class Kept:
    """The searches of a file, one line each: those that it has are not run again."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path is not None and path.exists() else []
        self._found = {tuple(key): Found(**found) for key, found in map(json.loads, lines)}

    def search(self, problem: Problem, label: str, way: Way, seed: int) -> Found:
        key = (problem.function.__name__, problem.budget, label, way.trials, seed)
        if key not in self._found:
            self._found[key] = found = search(problem, way, seed)
            if self._path is not None:
                with self._path.open("a") as file:
                    file.write(json.dumps([key, dataclasses.asdict(found)]) + "\n")
        return self._found[key]


def print_table(rows: dict[str, list[Found]]) -> None:
    first: list[float] = []
    for label, found in rows.items():
        regrets = [each.regret for each in found]
        shown = (
            f"{label:36} | regret {statistics.fmean(regrets):7.3f} mean, "
            f"{statistics.median(regrets):7.3f} median"
        )
        if first:
            gaps = [a - b for a, b in zip(regrets, first, strict=True)]
            low, high = interval(gaps)
            shown += f" | {statistics.fmean(gaps):+7.3f} [{low:+.3f}, {high:+.3f}]"
        else:
            first = regrets
            shown += " | the others minus this"
        trials = statistics.fmean(each.trials for each in found)
        used = statistics.fmean(each.replicates for each in found)
        seconds = statistics.fmean(each.seconds for each in found)
        print(f"{shown} | {trials:5.1f} trials, {used:.1f} replicates, {seconds:.1f} s", flush=True)


def run_group(problem: Problem, ways: dict[str, Way], seeds: range, kept: Kept) -> None:
    """Run all ways on one seed before the next: an interrupted run has whole pairs."""
    rows: dict[str, list[Found]] = {label: [] for label in ways}
    interrupted = False
    try:
        for seed in seeds:
            found = {label: kept.search(problem, label, way, seed) for label, way in ways.items()}
            for label, each in found.items():
                rows[label].append(each)
    except KeyboardInterrupt:
        interrupted = True
    trials = {way.trials for way in ways.values()}
    what = "40 trials" if trials == {40} else f"{problem.budget} evaluations"
    count = len(next(iter(rows.values())))
    name = problem.function.__name__
    print(f"\n{name}, noise {problem.noise:g}, {what}, {count} seeds", flush=True)
    if count:
        print_table(rows)
    if interrupted:
        raise KeyboardInterrupt


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("groups", nargs="*", default=list(GROUPS), metavar="|".join(GROUPS))
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--problems", nargs="*", default=list(PROBLEMS), choices=list(PROBLEMS))
    parser.add_argument("--budget", type=int, help="the evaluations of a search")
    parser.add_argument("--keep", type=Path, help="a file that keeps every search, to go on from")
    given = parser.parse_args()
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    kept = Kept(given.keep)
    for group in given.groups:
        for name in given.problems:
            problem = PROBLEMS[name]
            if given.budget is not None:
                problem = dataclasses.replace(problem, budget=given.budget)
            run_group(problem, GROUPS[group], seeds, kept)


if __name__ == "__main__":
    main()
