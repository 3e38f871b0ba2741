"""Every pair of features, for every optimizer, sampler and facade: what is built and run.

`table()` is the table in docs/optimizers.md; test_pairs.py runs the pairs, and those of NePS and
HEBO in their environments.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from crystallize_opt import (
    Capabilities,
    Constraint,
    CrystallizeOptError,
    Experiment,
    Float,
    FrozenContext,
    Integer,
    Objective,
    Observation,
    Pipeline,
    Search,
    SearchSpace,
    SpaceOptimizer,
    Workers,
    adapters,
    data_source,
    pipeline_step,
)

FEATURES = (
    "linear constraints",
    "conditions",
    "several objectives",
    "fidelity",
    "outcome constraints",
    "pruning",
    "pending",
    "storage",
)
LOSS, GAIN = Objective("loss", "minimize"), Objective("gain", "maximize")
LATENCY = Constraint("latency", "<=", 0.8)

Features = frozenset[str]


class Maker(NamedTuple):
    """How an optimizer is built.

    Attributes:
        make: A function of its arguments.
        is_slow: Whether it takes seconds.
        is_finite: Whether it takes finite spaces only.
        elsewhere: The class, if its library has an environment of its own. The class itself can be
            imported everywhere.
    """

    make: Callable[..., SpaceOptimizer[Any]]
    is_slow: bool = False
    is_finite: bool = False
    elsewhere: str | None = None


def _optuna(sampler: str, **options: Any) -> Callable[..., SpaceOptimizer[Any]]:
    def make(space: SearchSpace, objective: Any, **arguments: Any) -> SpaceOptimizer[Any]:
        import optuna

        from crystallize_opt.adapters import OptunaOptimizer

        seed = arguments.pop("seed")
        kind = getattr(optuna.samplers, sampler)
        if sampler == "GridSampler":
            searched = {n: list(each.values()) for n, each in space.without_fidelity.items()}
            built = kind(searched, seed=seed)
        elif sampler == "PartialFixedSampler":
            built = kind({"n": 3}, optuna.samplers.TPESampler(seed=seed))
        else:
            built = kind(seed=seed, **options)
        if arguments.pop("pruning", False):
            arguments["pruner"] = optuna.pruners.MedianPruner(n_startup_trials=2)
        return OptunaOptimizer(space, objective, sampler=built, **arguments)

    return make


def _ours(name: str, **options: Any) -> Callable[..., SpaceOptimizer[Any]]:
    def make(space: SearchSpace, objective: Any, **arguments: Any) -> SpaceOptimizer[Any]:
        if arguments.pop("pruning", False):
            if name == "AxOptimizer":
                from ax.early_stopping.strategies import PercentileEarlyStoppingStrategy

                arguments["early_stopping"] = PercentileEarlyStoppingStrategy()
            else:
                arguments["pruner"] = None  # There is no such argument.
        given = {key: each() if callable(each) else each for key, each in options.items()}
        made: SpaceOptimizer[Any] = getattr(adapters, name)(space, objective, **given, **arguments)
        return made

    return make


def _facade(name: str) -> Callable[[], Any]:
    def load() -> Any:
        import smac

        return getattr(smac, name)

    return load


MAKERS: dict[str, Maker] = {
    "`RandomOptimizer`": Maker(_ours("RandomOptimizer")),
    "`GridOptimizer`": Maker(_ours("GridOptimizer"), is_finite=True),
    "`BayBEOptimizer`": Maker(_ours("BayBEOptimizer"), is_slow=True),
    "Nevergrad, `NGOpt`": Maker(_ours("NevergradOptimizer", budget=20)),
    "Optuna, `TPESampler`": Maker(_optuna("TPESampler", n_startup_trials=4)),
    "Optuna, `GPSampler`": Maker(_optuna("GPSampler", n_startup_trials=4), is_slow=True),
    "Optuna, `CmaEsSampler`": Maker(_optuna("CmaEsSampler")),
    "Optuna, `NSGAIISampler`": Maker(_optuna("NSGAIISampler", population_size=4)),
    "Optuna, `NSGAIIISampler`": Maker(_optuna("NSGAIIISampler", population_size=4)),
    "Optuna, `QMCSampler`": Maker(_optuna("QMCSampler")),
    "Optuna, `RandomSampler`": Maker(_optuna("RandomSampler")),
    "Optuna, `GridSampler`": Maker(_optuna("GridSampler"), is_finite=True),
    "Optuna, `BruteForceSampler`": Maker(_optuna("BruteForceSampler"), is_finite=True),
    "Optuna, `PartialFixedSampler`": Maker(_optuna("PartialFixedSampler")),
    "`AxOptimizer`": Maker(_ours("AxOptimizer"), is_slow=True),
    "SMAC, `HyperparameterOptimizationFacade`": Maker(
        _ours("SMACOptimizer", n_init=4), is_slow=True
    ),
    "SMAC, `BlackBoxFacade`": Maker(
        _ours("SMACOptimizer", facade=_facade("BlackBoxFacade"), n_init=4), is_slow=True
    ),
    "SMAC, `RandomFacade`": Maker(
        _ours("SMACOptimizer", facade=_facade("RandomFacade")), is_slow=True
    ),
    "SMAC, `MultiFidelityFacade`": Maker(
        _ours("SMACOptimizer", facade=_facade("MultiFidelityFacade"), n_init=4), is_slow=True
    ),
    "`NePSOptimizer`, `bayesian_optimization`": Maker(
        _ours(
            "NePSOptimizer",
            algorithm_options={
                "initial_design_size": 4,
                "num_restarts": 2,
                "n_initial_start_points": 16,
            },
        ),
        is_slow=True,
        elsewhere="NePSOptimizer",
    ),
    "`HEBOOptimizer`": Maker(
        _ours("HEBOOptimizer", model_name="rf", hebo_options={"rand_sample": 5}),
        is_slow=True,
        elsewhere="HEBOOptimizer",
    ),
}


def capabilities_of(name: str) -> Capabilities:
    """Return what an optimizer can do; without its library, what its class declares."""
    elsewhere = MAKERS[name].elsewhere
    if elsewhere is None or adapters.available_optimizers()[elsewhere].installed:
        return build(name, frozenset()).capabilities
    declared: Capabilities = getattr(adapters, elsewhere).capabilities
    return declared


def space_with(features: Features, *, is_finite: bool) -> SearchSpace:
    step = 0.25 if is_finite else None
    space: dict[str, Any] = {"x": Float(0.0, 1.0, step=step), "n": Integer(1, 9)}
    if "conditions" in features:
        space |= {"kind": ["a", "b"], "c": Float(0.0, 1.0, step=step).when(kind="a")}
    if "fidelity" in features:
        space["epochs"] = Integer(1, 9, fidelity=True)
    return SearchSpace(space, ["n + 4*x <= 9"] if "linear constraints" in features else [])


def build(name: str, features: Features) -> SpaceOptimizer[Any]:
    """Build an optimizer with these features in its space, objectives and arguments."""
    maker = MAKERS[name]
    arguments: dict[str, Any] = {"seed": 0}
    if "outcome constraints" in features:
        arguments["constraints"] = [LATENCY]
    if "fidelity" in features or "MultiFidelity" in name:
        features |= {"fidelity"}
    if "pruning" in features:
        arguments["pruning"] = True
    objective = [LOSS, GAIN] if "several objectives" in features else LOSS
    return maker.make(space_with(features, is_finite=maker.is_finite), objective, **arguments)


def can(name: str, features: Iterable[str]) -> bool:
    """Whether an optimizer takes these features, by its capabilities and arguments."""
    capabilities = capabilities_of(name)
    ends_early = name.startswith("Optuna") or "Ax" in name
    several = capabilities.several_objectives
    takes = {
        "linear constraints": capabilities.linear_constraints,
        "conditions": bool(capabilities.conditions),
        "several objectives": several,
        "fidelity": capabilities.fidelity or (ends_early and "pruning" in features),
        "pruning": ends_early,
    }
    # Trials end early with one objective only.
    both = {"several objectives", "pruning"} <= set(features)
    return all(takes.get(each, True) for each in features) and not both


def cell(name: str, feature: str) -> str:
    """Return what the table says of an optimizer and a feature."""
    capabilities = capabilities_of(name)
    if feature == "fidelity" and can(name, ["fidelity", "pruning"]):
        return "with early stopping" if "Ax" in name else "with a pruner"
    if not can(name, [feature]):
        return "no"
    if feature == "conditions":
        return "yes" if capabilities.conditions is True else str(capabilities.conditions)
    if feature == "outcome constraints":
        return "yes" if capabilities.outcome_constraints else "best only"
    if feature == "pending":
        return "yes" if capabilities.pending else "not modelled"
    return "yes"


def table(names: Iterable[str]) -> list[str]:
    """Return the lines of the table in docs/optimizers.md for these optimizers."""
    lines = [["optimizer", *FEATURES], ["---"] * (len(FEATURES) + 1)]
    lines += [[name, *(cell(name, feature) for feature in FEATURES)] for name in names]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def all_pairs(*, slow: bool) -> list[tuple[str, str, str]]:
    """Return every pair of features for every optimizer, the slow ones or the others."""
    return [
        (name, *pair)
        for name, maker in MAKERS.items()
        for pair in itertools.combinations(FEATURES, 2)
        if maker.is_slow is slow and maker.elsewhere is None
    ]


def pairs_elsewhere(kind: str) -> list[tuple[str, str, str]]:
    """Return every pair of features for an optimizer whose library has its own environment."""
    return [
        (name, *pair)
        for name, maker in MAKERS.items()
        for pair in itertools.combinations(FEATURES, 2)
        if maker.elsewhere == kind
    ]


def forty_pairs() -> list[tuple[str, str, str]]:
    """Return 40 pairs: each pair of features but fidelity, and each of the quick optimizers."""
    names = [name for name, maker in MAKERS.items() if not maker.is_slow]
    pairs = list(itertools.combinations([f for f in FEATURES if f != "fidelity"], 2))
    return [
        (names[(7 * number + number // len(pairs)) % len(names)], *pairs[number % len(pairs)])
        for number in range(40)
    ]


def crossed_pairs() -> list[tuple[str, str, str, str, str]]:
    """Return 96 pairs, each through one of the doors and homes: eight of each combination."""
    names = [name for name, maker in MAKERS.items() if not maker.is_slow]
    pairs = list(itertools.combinations([f for f in FEATURES if f != "fidelity"], 2))
    places = list(itertools.product(DOORS, HOMES))
    return [
        (
            names[(5 * number + number // len(places)) % len(names)],
            *pairs[(8 * number + number // len(pairs)) % len(pairs)],
            *places[number % len(places)],
        )
        for number in range(8 * len(places))
    ]


# What is run ------------------------------------------------------------------------------------


@data_source
def nothing(ctx: FrozenContext) -> None:
    return None


@pipeline_step()
def measured(
    data: None,
    ctx: FrozenContext,
    *,
    x: float,
    n: int,
    kind: str = "b",
    c: float = 0.0,
    epochs: int = 9,
) -> None:
    measure(ctx, x, n, kind, c, epochs)


def measure(ctx: FrozenContext, x: float, n: int, kind: str, c: float, epochs: int) -> None:
    noise = 0.01 * ctx["replicate"]
    loss = (x - 0.75) ** 2 + (n - 4) ** 2 / 64 + (c - 0.5) ** 2 * (kind == "a")
    ctx.metrics.add("loss", loss + noise + 1 / epochs)
    ctx.metrics.add("gain", x - n / 9)
    ctx.metrics.add("latency", x + 0.01 * n)


@pipeline_step()
async def measured_side_by_side(
    data: None,
    ctx: FrozenContext,
    *,
    x: float,
    n: int,
    kind: str = "b",
    c: float = 0.0,
    epochs: int = 9,
) -> None:
    await asyncio.sleep(0)
    measure(ctx, x, n, kind, c, epochs)


HOMES: dict[str, Workers] = {
    "in process": Workers(),
    "threads": Workers("threads", 3),
    "processes": Workers("processes", 2),
    "asynchronous": Workers(None, 3),
}
DOORS = ("optimize", "aoptimize", "Search")


def search(door: str, experiment: Experiment, *arguments: Any, **options: Any) -> None:
    """Run a search through one of its doors."""
    if door == "optimize":
        experiment.optimize(*arguments, **options)
    elif door == "aoptimize":
        asyncio.run(experiment.aoptimize(*arguments, **options))
    else:
        for observation in Search(experiment, *arguments, **options):
            assert observation.status.value in ("completed", "pruned")


def run(
    name: str,
    features: Features,
    folder: Path,
    trials: int,
    door: str = "optimize",
    home: str = "in process",
) -> None:
    """Run a search with these features, and check what it leaves."""
    step = measured_side_by_side if home == "asynchronous" else measured
    experiment = Experiment(nothing(), Pipeline([step()]), seed=0)
    replicates = 3 if "pruning" in features else 1
    options: dict[str, Any] = {"workers": HOMES[home], "progress": False}
    if "pending" in features and home == "in process":
        options["workers"] = HOMES["threads"]
    if "storage" in features:
        options["storage"] = folder / "runs.db"
    optimizer = build(name, features)
    search(door, experiment, optimizer, trials, replicates, **options)
    check(optimizer, features, trials)
    if "storage" in features:
        again = build(name, features)
        search(door, experiment, again, trials + 2, replicates, **options)
        check(again, features, trials + 2)
        assert told(again)[: len(optimizer.observations)] == told(optimizer)


def run_or_refuse(name: str, features: Features, folder: Path, trials: int, *place: str) -> None:
    """Run a search with these features, or check that the optimizer refuses them."""
    if can(name, features):
        run(name, features, folder, trials, *place)
    else:
        # A TypeError: there is no such argument.
        with pytest.raises((CrystallizeOptError, TypeError)):
            build(name, features)


def check(optimizer: SpaceOptimizer[Any], features: Features, trials: int) -> None:
    observations = optimizer.observations
    assert sum(each.repeats is None for each in observations) == trials
    assert optimizer.pending == []
    for observation in observations:
        params = dict(observation.treatment.params)
        assert optimizer.space.validate(params) == params  # also conditions and constraints
        assert observation.status.value in ("completed", "pruned"), observation.error
    best = optimizer.get_best_treatment()
    front = optimizer.pareto_front()
    assert best.name in {observation.treatment.name for observation in front}
    if "outcome constraints" in features:
        assert all(observation["latency"] <= 0.8 for observation in front)


def told(optimizer: SpaceOptimizer[Any]) -> list[tuple[Any, ...]]:
    def plain(each: Observation) -> tuple[Any, ...]:
        return each.treatment.name, dict(each.treatment.params), dict(each), each.status

    return [plain(each) for each in optimizer.observations]
