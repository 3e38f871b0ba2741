"""What a comparison costs, how often it errs, and what it says of optimizers on COCO's functions.

    python benchmarks/compare.py --cost     # against the same searches run one by one
    python benchmarks/compare.py --errors   # comparisons of three equal optimizers
    python benchmarks/compare.py --coco     # random search, TPE and CMA-ES on bbob and bbob-mixint
    python benchmarks/compare.py --all      # every optimizer on bbob-mixint and an SVM

The last two need the package coco-experiment. Pictures are written to the current folder.
--all keeps its searches in a file (--storage), and prints the comparison after each seed. NePS and
HEBO take part if --neps and --hebo name their environments (`python -m crystallize_opt.adapters
install neps --into neps-env`). --quick leaves out those whose suggestions take seconds.
"""

from __future__ import annotations

import argparse
import functools
import time
import warnings
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import optuna

from crystallize_opt import (
    Categorical,
    DataSource,
    Experiment,
    Float,
    Integer,
    Objective,
    Pipeline,
    PipelineStep,
    SearchSpace,
    compare,
    data_source,
)
from crystallize_opt.adapters import OptunaOptimizer, RandomOptimizer

optuna.logging.set_verbosity(optuna.logging.ERROR)
VALUE = Objective("value", "minimize")


@data_source
def nothing(ctx: Any) -> None:
    return None


def cheap(x: Float(-5.0, 5.0), y: Float(-5.0, 5.0)) -> dict[str, float]:  # type: ignore[valid-type]
    return {"value": (x - 1.0) ** 2 + (y + 1.0) ** 2}


# Any function of a suite as an experiment ---------------------------------------------------------


@functools.cache
def problem(suite: str, function: int, dimension: int) -> Any:
    """Return a problem; it cannot be pickled, so that every process makes its own."""
    import cocoex

    return cocoex.Suite(suite, "", "").get_problem_by_function_dimension_instance(
        function, dimension, 1
    )


class Function(PipelineStep):
    """A function of one of COCO's suites."""

    def __init__(self, suite: str, function: int, dimension: int) -> None:
        self.of = suite, function, dimension

    @property
    def space(self) -> SearchSpace:
        """The search space: the integer variables come first."""
        of = problem(*self.of)
        whole = of.number_of_integer_variables
        bounds = zip(of.lower_bounds, of.upper_bounds, strict=True)
        return SearchSpace(
            {
                f"x{i}": Integer(int(low), int(high)) if i < whole else Float(low, high)
                for i, (low, high) in enumerate(bounds)
            }
        )

    def __call__(self, data: Any, ctx: Any) -> Any:
        of = problem(*self.of)
        ctx.metrics.add("value", of([ctx[f"x{i}"] for i in range(of.dimension)]))
        return data


def experiment(suite: str, function: int, dimension: int) -> Experiment:
    """Return a function of a suite as an experiment."""
    source: DataSource = nothing()
    step = Function(suite, function, dimension)
    return Experiment(source, Pipeline([step]), name=f"{suite} f{function}", seed=0)


def space_of(given: Experiment) -> SearchSpace:
    """Return the space of the experiment of a function."""
    (step,) = given.pipeline.steps
    assert isinstance(step, Function)
    return step.space


COCO: dict[str, Callable[[Experiment, int], Any]] = {
    "random": lambda e, seed: RandomOptimizer(space_of(e), VALUE, seed=seed),
    "TPE": lambda e, seed: OptunaOptimizer(space_of(e), VALUE, seed=seed),
    "CMA-ES": lambda e, seed: OptunaOptimizer(
        space_of(e), VALUE, sampler=optuna.samplers.CmaEsSampler(seed=seed)
    ),
}


@functools.cache
def digits() -> Any:
    """Return half of scikit-learn's digits."""
    from sklearn.datasets import load_digits

    pictures, numbers = load_digits(return_X_y=True)
    return pictures[::2] / 16.0, numbers[::2]


def svm(
    C: Float(1e-2, 1e3, log=True),  # type: ignore[valid-type]  # noqa: N803
    gamma: Float(1e-4, 1e1, log=True),  # type: ignore[valid-type]
    kernel: Categorical(["rbf", "poly"]),  # type: ignore[valid-type]
    degree: Integer(2, 5),  # type: ignore[valid-type]
) -> dict[str, float]:
    """Return the share of errors of a support vector machine in 3-fold cross-validation."""
    from sklearn.model_selection import cross_val_score
    from sklearn.svm import SVC

    model = SVC(C=C, gamma=gamma, kernel=kernel, degree=degree, max_iter=2000)
    return {"value": 1.0 - float(cross_val_score(model, *digits(), cv=3).mean())}


SLOW = ("SMAC", "Ax", "BayBE", "NePS", "HEBO")
"""The optimizers whose suggestions take seconds."""


def every_optimizer(
    trials: int, environments: Mapping[str, str | None]
) -> dict[str, Callable[[Experiment, int], Any]]:
    """Return a maker of each optimizer, with its defaults.

    Args:
        trials: How many trials each search has.
        environments: The environments of NePS and HEBO; None leaves the optimizer out.
    """
    from crystallize_opt.adapters import (
        AxOptimizer,
        BayBEOptimizer,
        HEBOOptimizer,
        NePSOptimizer,
        NevergradOptimizer,
        SMACOptimizer,
    )

    def space(e: Experiment) -> SearchSpace:
        return space_of(e) if "mixint" in str(e.name) else e.search_space()

    def optuna_(kind: Any, **options: Any) -> Callable[[Experiment, int], Any]:
        return lambda e, seed: OptunaOptimizer(
            space(e), VALUE, sampler=kind(seed=seed, **options), seed=seed
        )

    def elsewhere(kind: Any, python: str) -> Callable[[Experiment, int], Any]:
        return lambda e, seed: kind(space(e), VALUE, seed=seed, python=python)

    found = {
        "random": lambda e, seed: RandomOptimizer(space(e), VALUE, seed=seed),
        "TPE": lambda e, seed: OptunaOptimizer(space(e), VALUE, seed=seed),
        "GP": optuna_(optuna.samplers.GPSampler),
        "CMA-ES": optuna_(optuna.samplers.CmaEsSampler, warn_independent_sampling=False),
        "SMAC": lambda e, seed: SMACOptimizer(space(e), VALUE, seed=seed, n_trials=trials),
        "Ax": lambda e, seed: AxOptimizer(space(e), VALUE, seed=seed),
        "Nevergrad": lambda e, seed: NevergradOptimizer(space(e), VALUE, seed=seed, budget=trials),
        "BayBE": lambda e, seed: BayBEOptimizer(space(e), VALUE, seed=seed),
    }
    others: dict[str, Any] = {"NePS": NePSOptimizer, "HEBO": HEBOOptimizer}
    for name, other in others.items():
        if (python := environments[name]) is not None:
            found[name] = elsewhere(other, python)
    return found


# What is measured ---------------------------------------------------------------------------------


def cost(rounds: int = 11) -> None:
    """Print the processor time of a comparison against that of its searches."""
    space = {"x": (-5.0, 5.0), "y": (-5.0, 5.0)}
    makers: dict[str, Callable[[int], Any]] = {
        "random": lambda seed: RandomOptimizer(space, VALUE, seed=seed),
        "TPE": lambda seed: OptunaOptimizer(space, VALUE, seed=seed),
        "CMA-ES": lambda seed: OptunaOptimizer(
            space, VALUE, sampler=optuna.samplers.CmaEsSampler(seed=seed)
        ),
    }
    ratios = []
    for _ in range(rounds):
        start = time.process_time()
        for seed in range(10):
            for make in makers.values():
                Experiment.of(cheap, seed=seed).optimize(make(seed), 30, progress=False)
        single = time.process_time() - start
        start = time.process_time()
        compare(Experiment.of(cheap, seed=0), makers, 30, seeds=10, progress=False)
        ratios.append((time.process_time() - start) / single)
    print(f"3 optimizers x 10 seeds x 30 trials: {median(ratios):.3f} times its searches")
    print(f"  ({min(ratios):.3f} to {max(ratios):.3f} in {rounds} rounds; aim: at most 1.1)")


def errors(comparisons: int = 400) -> None:
    """Print how often a comparison of equal optimizers shows a difference."""
    space = {"x": (-5.0, 5.0), "y": (-5.0, 5.0)}

    def maker(offset: int) -> Callable[[int], Any]:
        return lambda seed: RandomOptimizer(space, VALUE, seed=1000 * seed + offset)

    wrong = 0
    for number in range(comparisons):
        found = compare(
            Experiment.of(cheap, seed=0),
            {name: maker(3 * number + i) for i, name in enumerate("abc")},
            10,
            seeds=range(1, 11),
            progress=False,
        )
        wrong += any(pair.better for pair in found.pairs)
    print(f"{wrong} of {comparisons} comparisons of equal optimizers show a difference at 5 %")


def coco(seeds: int, trials: int) -> None:
    """Print and draw a comparison on functions of both suites."""
    for suite, functions in (("bbob", (1, 8, 15, 21)), ("bbob-mixint", (1, 8, 15, 21))):
        found = compare(
            [experiment(suite, function, 5) for function in functions], COCO, trials, seeds=seeds
        )
        print(found, "\n")
        found.plot().savefig(f"{suite}.png", dpi=80)
        found.plot_ranks().savefig(f"{suite}-ranks.png", dpi=80)


def all_optimizers(
    makers: Mapping[str, Callable[[Experiment, int], Any]], seeds: int, trials: int, storage: str
) -> None:
    """Print a comparison of optimizers on a function and a support vector machine, seed by seed."""
    warnings.simplefilter("ignore")
    experiments = [experiment("bbob-mixint", 8, 5), Experiment.of(svm, seed=0)]
    for number in range(1, seeds + 1):
        found = compare(
            experiments,
            makers,
            trials,
            seeds=number,
            storage=storage,
            progress=False,
        )
        print(found, "\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("cost", "errors", "coco", "all"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--storage", default="compare-all.db")
    parser.add_argument("--neps", help="the environment of NePS")
    parser.add_argument("--hebo", help="the environment of HEBO")
    parser.add_argument("--quick", action="store_true", help="without the slow optimizers")
    given = parser.parse_args()
    if given.cost:
        cost()
    if given.errors:
        errors()
    if given.coco:
        coco(given.seeds, given.trials)
    if given.all:
        makers = every_optimizer(given.trials, {"NePS": given.neps, "HEBO": given.hebo})
        if given.quick:
            makers = {name: make for name, make in makers.items() if name not in SLOW}
        all_optimizers(makers, given.seeds, given.trials, given.storage)


if __name__ == "__main__":
    main()
