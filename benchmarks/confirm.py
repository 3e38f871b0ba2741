"""How often a flat landscape has a "winner", and how often a real one is found.

In each simulated search, the best of 50 trials with 10 replicates is chosen; every trial's noise is
its own in each replicate, and the baseline ran on the same seeds. In a flat landscape no treatment
has an effect, so each "better" is an error. The winner is tested at a level of 5 %: on the
search's replicates (a run on their seeds would repeat them), and with `Experiment.confirm`. Half of
the noise is common to all treatments (common random numbers). The tests are two-sided, so 2.5 % of
the winners should be found "better" and 2.5 % "worse": `--experiments` simulates many more of the
same experiments, whose seeds go on where those of the searches end, without running searches. Run:

    python benchmarks/confirm.py --searches 1000 --experiments 12000 --repeats 300
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from crystallize_opt import Experiment, Objective, Pipeline, Treatment, data_source, pipeline_step
from crystallize_opt.adapters import RandomOptimizer
from crystallize_opt.analysis.paired import Test, paired_test
from crystallize_opt.pipeline.seeding import SeedPlugin

TRIALS, REPLICATES, PAIRS, ALPHA = 50, 10, 20, 0.05
CASES = ((5, "auto"), (10, "auto"), (20, "auto"), (40, "auto"), (40, "sequential"))
LOSS = Objective("loss", "minimize")


@data_source
def nothing(ctx: Any) -> None:
    return None


@pipeline_step()
def flat(data: Any, ctx: Any, *, x: float = 0.0, effect: float = 0.0) -> Any:
    shared = random.Random(ctx["seed_used"]).gauss(0, 1)
    return data, {"loss": shared + own_noise(ctx["seed_used"], x) - effect}


def own_noise(seed: int, x: float) -> float:
    return random.Random(f"{seed} {x}").gauss(0, 1)


def rate(count: int, of: int) -> str:
    share = count / of
    margin = 1.96 * math.sqrt(share * (1 - share) / of)
    return f"{count:4} of {of} ({100 * share:5.1f} % ± {100 * margin:.1f})"


def is_better(differences: list[float], test: Test) -> bool:
    found = paired_test(differences, test, ALPHA)
    return statistics.fmean(differences) < 0 and found.p_value <= ALPHA


def tests_of_a_winner(seed: int) -> tuple[dict[str, bool], float]:
    """Search once; return each test's verdict "better", and by how much the search flattered."""
    experiment = Experiment(nothing(), Pipeline([flat()]), seed=seed)
    optimizer = RandomOptimizer({"x": (1.0, 2.0)}, LOSS, seed=seed)
    best = experiment.optimize(optimizer, TRIALS, REPLICATES, baseline=True, progress=False)
    found, baseline = optimizer.history.best, optimizer.history.baseline
    assert found is not None
    assert baseline is not None
    fresh = experiment.confirm(best, PAIRS)
    (again,) = fresh.candidates
    pairs = list(zip(again.replicates, fresh.baseline.replicates, strict=True))
    searched = zip(found.replicates, baseline.replicates, strict=True)
    sequential = experiment.confirm(best, PAIRS, test="sequential")
    return {
        "the search's replicates": is_better([a["loss"] - b["loss"] for a, b in searched], "t"),
        "confirm, permutation (auto)": fresh.verdict == "better",
        "confirm, t": is_better([a["loss"] - b["loss"] for a, b in pairs], "t"),
        "confirm, sequential": sequential.verdict == "better",
    }, again["loss"] - found["loss"]


def false_winners(searches: int, pool: ProcessPoolExecutor) -> None:
    print(f"Flat landscape, {searches} searches of {TRIALS} trials with {REPLICATES} replicates,")
    print(f"confirmed with {PAIRS} pairs. False winners:")
    results = list(pool.map(tests_of_a_winner, range(searches), chunksize=10))
    for kind in results[0][0]:
        print(f"  {kind:28} {rate(sum(found[kind] for found, _ in results), searches)}")
    limit = ALPHA + 2.33 * math.sqrt(ALPHA * (1 - ALPHA) / searches)
    print(f"  (a rate of 5 % gives more than {100 * limit:.1f} % in one of 100 such runs)")
    flattered = statistics.fmean(each for _, each in results)
    print(f"  the search flattered its winner by {flattered:.2f} on average", flush=True)


def verdict_of_an_experiment(seed: int) -> str:
    """Return what `confirm` would say of the winner of a search, by the t-test.

    The search and the replicates are computed, not run: the noise that the treatments share cancels
    out of every difference.
    """
    plugin = SeedPlugin(seed)
    optimizer = RandomOptimizer({"x": (1.0, 2.0)}, LOSS, seed=seed)
    points = []
    for _ in range(TRIALS):
        (treatment,) = optimizer.ask()
        points.append(treatment["x"])
        optimizer.tell({"loss": 0.0})
    seeds = list(map(plugin.seed_of, range(REPLICATES)))
    best = min(points, key=lambda x: math.fsum(own_noise(each, x) for each in seeds))
    fresh = map(plugin.confirmation_seed_of, range(PAIRS))
    differences = [own_noise(each, best) - own_noise(each, 0.0) for each in fresh]
    if paired_test(differences, "t", ALPHA).p_value > ALPHA:
        return "no difference shown"
    return "better" if statistics.fmean(differences) < 0 else "worse"


def level(experiments: int, pool: ProcessPoolExecutor) -> None:
    print(f"\nThe same {experiments} experiments without the loop of a search, t-test:")
    found = list(pool.map(verdict_of_an_experiment, range(experiments), chunksize=50))
    for verdict in ("better", "worse"):
        print(f"  {verdict:28} {rate(found.count(verdict), experiments)}")
        parts = [found[i : i + 1000].count(verdict) for i in range(0, experiments, 1000)]
        print(f"  in each 1,000 of them: {', '.join(map(str, parts))}", flush=True)


def power(repeats: int, pool: ProcessPoolExecutor) -> None:
    print(f"\nVerdicts 'better' by effect, in standard deviations of a pair; {repeats} each;")
    print("for the sequential test, with the mean number of pairs:")
    print("the last column is a fixed number of pairs that costs as much.")
    print(f"The margin of a share is at most {196 * math.sqrt(0.25 / repeats):.1f} points.")
    print("effect |   5 pairs  10 pairs  20 pairs  40 pairs | sequential, at most 40 | fixed")
    for effect in (0.0, 0.25, 0.5, 0.75, 1.0, 1.5):
        shares = []
        for pairs, test in CASES:
            several = [(effect, seed, pairs, test) for seed in range(repeats)]
            found = list(pool.map(confirmed, several, chunksize=10))
            won = 100 * sum(each for each, _ in found) / repeats
            shares.append(f"{won:7.0f} %")
        mean = statistics.fmean(count for _, count in found)
        several = [(effect, seed, round(mean), "auto") for seed in range(repeats)]
        won = 100 * sum(each for each, _ in pool.map(confirmed, several, chunksize=10)) / repeats
        print(
            f"{effect:6} | {' '.join(shares[:4])} | {shares[4]}, {mean:4.1f} pairs | "
            f"{won:4.0f} %, {round(mean)} pairs",
            flush=True,
        )


def confirmed(case: tuple[float, int, int, str]) -> tuple[bool, int]:
    effect, seed, pairs, test = case
    experiment = Experiment(nothing(), Pipeline([flat()]), seed=seed)
    # The own noise of both sides makes the deviation of a pair the square root of two.
    treatment = Treatment("candidate", {"x": 1.5, "effect": effect * math.sqrt(2)})
    found = experiment.confirm(treatment, pairs, objective=LOSS, test=test)
    return found.verdict == "better", found.replicates


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--searches", type=int, default=1000)
    parser.add_argument("--experiments", type=int, default=12_000)
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    with ProcessPoolExecutor(options.processes) as pool:
        if options.searches:
            false_winners(options.searches, pool)
        if options.experiments:
            level(options.experiments, pool)
        if options.repeats:
            power(options.repeats, pool)


if __name__ == "__main__":
    main()
