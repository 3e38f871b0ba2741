"""Runs several optimizers on the same experiments, seeds and replicate seeds: `compare`.

Each search is a trial of one outer search. So the searches run on any workers, are stored and
resumed, show one progress bar, and one that fails does not end the others.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from crystallize_opt.analysis.comparison import Cell, Comparison, Goal
from crystallize_opt.analysis.paired import checked_alpha
from crystallize_opt.errors import (
    NoCompletedTrialError,
    SpaceExhausted,
    TrialsFailedError,
    UsageError,
)
from crystallize_opt.history.history import History
from crystallize_opt.optimizers.plain import driven
from crystallize_opt.pipeline.context import FrozenContext
from crystallize_opt.pipeline.pipeline import Pipeline
from crystallize_opt.pipeline.recipe import Recipe
from crystallize_opt.pipeline.seeding import SeedPlugin
from crystallize_opt.pipeline.session import open_run
from crystallize_opt.pipeline.steps import DataSource, PipelineStep
from crystallize_opt.runtime.checks import SEED_LIMIT, checked_seed, whole_number
from crystallize_opt.runtime.extras import needs
from crystallize_opt.runtime.sync import run_sync
from crystallize_opt.search.adaptive import Adaptive, replicates_of
from crystallize_opt.search.callbacks import Event, RunStarted
from crystallize_opt.search.failures import Failures
from crystallize_opt.search.search import Search
from crystallize_opt.storage.settings import Storage
from crystallize_opt.trials.best import Criterion
from crystallize_opt.trials.best_so_far import BestSoFar
from crystallize_opt.trials.objective import Objective
from crystallize_opt.trials.observation import Observation, Replicate, Status
from crystallize_opt.trials.treatment import SingleReplicate, Treatment
from crystallize_opt.workers.trial import run_replicates

Factory = Callable[..., Any]
"""Makes a fresh optimizer from a seed, or from an experiment and a seed."""

_BEST, _SECONDS, _ASKS = "best so far", "seconds", "ask seconds"
_CONFIRMED, _FAILURES = "confirmed", "failed trials"


def compare(
    experiments: Recipe | Sequence[Recipe] | Mapping[str, Recipe],
    optimizers: Mapping[str, Factory],
    num_trials: int,
    *,
    seeds: int | Sequence[int] = 10,
    replicates_per_trial: int | Adaptive = 1,
    confirm_replicates: int = 10,
    alpha: float = 0.05,
    workers: Any = None,
    storage: Any = None,
    progress: Any = None,
) -> Comparison:
    """Run every optimizer on every experiment with every seed, and compare what they find.

    With the same seed, the trials of all optimizers have the same replicate seeds; with another
    seed, others. If an experiment is noisy, so that the winner of a search has another value on a
    fresh seed, each winner is judged by its mean on fresh seeds, which are the same for all
    optimizers, and not by its own flattered value.

    Times depend on the machine: with several workers, the searches disturb each other's.

    Args:
        experiments: One experiment, several with distinct names, or a mapping of names to them.
        optimizers: Name to a function that makes a fresh optimizer from a seed, such as
            `lambda seed: OptunaOptimizer(space, objective, seed=seed)`, or from an experiment and a
            seed, if the experiments have different spaces. A class with space and objective bound
            is one: `functools.partial(OptunaOptimizer, space, objective)`.
        num_trials: How many trials each search has, at least 1.
        seeds: How many seeds, which are then 0, 1, ...; or the seeds. The seed of a search is that
            of its optimizer, and is added to the seed of the experiment.
        replicates_per_trial: How often each treatment is run; or `Adaptive(2, 10)`.
        confirm_replicates: On how many fresh seeds the winner of a noisy search is run; 0: on none.
        alpha: The probability of at most this is an error among all verdicts about pairs.
        workers: Where the searches run, and how many at once: as for `optimize`. Each search runs
            its trials one after the other.
        storage: A file for all searches, as for `optimize`: the same call again continues there.
        progress: As for `optimize`; one step is one search.

    Raises:
        UsageError: An argument is out of its range; or the optimizers of an experiment have
            different objectives; or there are several objectives without thresholds.
        TrialsFailedError: Every search failed.
        MissingExtraError: A library of the extra `analysis` is not installed.
        KeyboardInterrupt: The comparison was interrupted. With a storage, the same call continues.

    Example:
        >>> from crystallize_opt import Experiment, Float, Objective
        >>> from crystallize_opt.adapters import GridOptimizer, RandomOptimizer
        >>> def loss(x: Float(0.0, 1.0)):
        ...     return x
        >>> space, goal = {"x": (0.0, 1.0)}, Objective("loss", "minimize")
        >>> comparison = compare(
        ...     Experiment.of(loss, seed=0),
        ...     {
        ...         "random": lambda seed: RandomOptimizer(space, goal, seed=seed),
        ...         "grid": lambda seed: GridOptimizer(space, goal, levels={"x": 5}, seed=seed),
        ...     },
        ...     num_trials=5,
        ...     seeds=6,
        ... )
        >>> comparison.cell("grid", seed=3).final
        0.0
        >>> comparison.ranks["grid"]
        1.0
    """
    with needs("compare() needs", "scipy", "numpy", extra="analysis"):
        import scipy.stats  # noqa: F401  (before hours of searches: the tests need SciPy)

    named = _named(experiments)
    chosen = tuple(range(whole_number("seeds", seeds))) if isinstance(seeds, int) else tuple(seeds)
    if not chosen or len({*map(checked_seed, chosen)}) < len(chosen):
        raise UsageError(f"seeds= is a number of seeds, or distinct seeds, not {seeds!r}.")
    alpha = checked_alpha(alpha)
    replicates_of(replicates_per_trial)  # Checks it.
    searches = Searches(
        named,
        _checked(optimizers),
        whole_number("num_trials", num_trials),
        replicates_per_trial,
        whole_number("confirm_replicates", confirm_replicates, 0),
    )
    goals = {name: searches.goal(name, chosen[0]) for name in named}
    if storage is not None:
        storage = Storage.of(storage)
        storage = dataclasses.replace(storage, run=storage.run or "comparison")
        for name, experiment in named.items():
            if experiment.seed_plugin.is_drawn:
                raise UsageError(
                    f"The experiment {name!r} has no seed, so a stored comparison could not be "
                    "continued. Give it one: Experiment(..., seed=0)."
                )
    cells = Cells(named, optimizers, chosen)
    search = Search(
        Recipe(searches, Pipeline([RunSearch(storage)]), name="comparison", seed=0),
        cells,
        len(cells.treatments),
        workers=workers,
        storage=storage,
        failures=Failures(give_up_after=None, give_up_after_same=None),
        progress=progress,
    )
    with contextlib.suppress(NoCompletedTrialError, KeyboardInterrupt):  # Both raised below.
        search.run()
    if len(cells.observations) < len(cells.treatments):
        raise KeyboardInterrupt(
            f"The comparison was interrupted: {search.stop_reason}. With storage=, the same call "
            "continues it."
        )
    found = [cells.cell(each) for each in cells.treatments]
    if all(cell.error is not None for cell in found):
        raise TrialsFailedError(f"Every search failed; the first one: {found[0].error}")
    return Comparison(found, goals, num_trials, alpha)


# What is asked ------------------------------------------------------------------------------------


def _named(given: Any) -> dict[str, Recipe]:
    """Return the experiments by name."""
    if isinstance(given, Recipe):
        given = {given.name or "experiment": given}
    if not isinstance(given, Mapping):
        given = list(given)
        names = [getattr(each, "name", None) for each in given]
        if None in names or len(set(names)) < len(names):
            raise UsageError(
                "Several experiments need distinct names: give a mapping of names to experiments. "
                f"Their names: {names!r}."
            )
        given = dict(zip(names, given, strict=True))
    for each in given.values():
        if not isinstance(each, Recipe):
            raise UsageError(f"compare() takes experiments, not {each!r}.")
    if not given:
        raise UsageError("compare() needs at least one experiment.")
    return dict(given)


def _checked(optimizers: Any) -> dict[str, Factory]:
    if not isinstance(optimizers, Mapping) or not optimizers:
        raise UsageError(
            "optimizers= is a mapping of names to functions that make a fresh optimizer from a "
            f"seed: {{'tpe': lambda seed: OptunaOptimizer(space, objective, seed=seed)}}, not "
            f"{optimizers!r}."
        )
    for name, factory in optimizers.items():
        if not callable(factory) or (hasattr(factory, "tell") and not isinstance(factory, type)):
            raise UsageError(
                f"optimizers[{name!r}] is {factory!r}, but every search needs a fresh optimizer: "
                "give a function of a seed that makes one."
            )
    return dict(optimizers)


def made(factory: Factory, recipe: Recipe, seed: int) -> Any:
    """Make an optimizer: from a seed, or from an experiment and a seed.

    Raises:
        UsageError: The function needs other arguments.
    """
    parameters = inspect.signature(factory).parameters.values()
    needed = [
        each.name
        for each in parameters
        if each.default is each.empty
        and each.name != "seed"
        and each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
    ]
    if any(each.name == "seed" for each in parameters) and len(needed) < 2:
        return factory(*([recipe] if needed else []), seed=seed)
    if len(needed) == 1:
        return factory(seed)
    if len(needed) == 2 and not isinstance(factory, type):
        return factory(recipe, seed)
    raise UsageError(
        f"{factory!r} needs {', '.join(needed) or 'no argument'}, but is called with a seed, or "
        "with an experiment and a seed. Bind the rest: lambda seed: OptunaOptimizer(space, "
        "objective, seed=seed)."
    )


def seeded(recipe: Recipe, seed: int) -> Recipe:
    """Return a copy of an experiment whose replicates have other seeds: its own plus `seed`."""
    plugins = []
    for plugin in recipe.plugins:
        if isinstance(plugin, SeedPlugin):
            plugin = copy.copy(plugin)
            plugin.seed, plugin.is_drawn = (plugin.seed + seed) % SEED_LIMIT, False
        plugins.append(plugin)
    recipe = copy.copy(recipe)
    recipe.plugins = plugins
    return recipe


class Cells:
    """Suggests each search once, as a plain optimizer does."""

    objective = Objective(_FAILURES, "minimize")

    def __init__(
        self, experiments: Mapping[str, Any], optimizers: Mapping[str, Any], seeds: Sequence[int]
    ) -> None:
        self.treatments = [
            Treatment(
                f"{experiment}, {optimizer}, seed {seed}",
                {"experiment": experiment, "optimizer": optimizer, "seed": seed},
            )
            # Seed by seed, so that all optimizers have as many if the comparison is interrupted.
            for seed in seeds
            for experiment in experiments
            for optimizer in optimizers
        ]
        self.observations: dict[str, Observation] = {}
        self._is_asked = False

    def ask(self) -> list[Treatment]:
        """Return all searches at once.

        Raises:
            SpaceExhausted: They have been returned.
        """
        if self._is_asked:
            raise SpaceExhausted("every search has run")
        self._is_asked = True
        return list(self.treatments)

    def tell(self, observation: Any) -> None:
        """Keep the outcome of a search, unless it was interrupted."""
        if observation.status is not Status.ABANDONED:
            self.observations[observation.treatment.name] = observation

    def get_best_treatment(self) -> Treatment:
        """Return a search: there is no best one."""
        return self.treatments[0]

    def cell(self, treatment: Treatment) -> Cell:
        """Return what a search found."""
        observation = self.observations[treatment.name]
        # A plain optimizer is told a stand-in for the metrics of a failed trial.
        replicate: Replicate = observation.replicates[0]
        asks = [value for _, value in replicate.curves.get(_ASKS, ())]
        best: list[float | None] = [None] * len(asks)
        for step, value in replicate.curves.get(_BEST, ()):
            best[step - 1] = value
        return Cell(
            **treatment.params,
            best=best,
            seconds=[value for _, value in replicate.curves.get(_SECONDS, ())],
            asks=asks,
            failures=int(replicate.get(_FAILURES, 0)),
            confirmed=replicate.get(_CONFIRMED),
            error=observation.error,
        )


# What is run --------------------------------------------------------------------------------------


class Searches(DataSource):
    """All that decides what the searches find: the data of the step that runs one of them.

    Args:
        experiments: The experiments by name.
        factories: The functions that make optimizers, by name.
        num_trials: How many trials a search has.
        replicates: How many replicates a trial has.
        fresh: On how many fresh seeds the winner of a noisy search is run.
    """

    def __init__(
        self,
        experiments: Mapping[str, Recipe],
        factories: Mapping[str, Factory],
        num_trials: int,
        replicates: int | Adaptive,
        fresh: int,
    ) -> None:
        self.experiments = experiments
        self.factories = factories
        self.num_trials = num_trials
        self.replicates = replicates
        self.fresh = fresh

    def fetch(self, ctx: FrozenContext) -> Searches:
        return self

    def goal(self, experiment: str, seed: int) -> Goal:
        """Make every optimizer once; return what they have in common.

        Raises:
            UsageError: They have different objectives, or several without thresholds.
        """
        recipe = self.experiments[experiment]
        criteria: dict[str, Criterion] = {
            name: driven(made(factory, recipe, seed)).criterion
            for name, factory in self.factories.items()
        }
        first = next(iter(criteria.values()))
        for name, criterion in criteria.items():
            if (criterion.objectives, criterion.constraints) != (
                first.objectives,
                first.constraints,
            ):
                raise UsageError(
                    f"The optimizers have different objectives or constraints in {experiment!r}: "
                    f"{name!r} has {criterion.objectives!r} and {criterion.constraints!r}, but "
                    f"{next(iter(criteria))!r} {first.objectives!r} and {first.constraints!r}."
                )
        if len(first.objectives) == 1:
            return Goal(first.objectives[0].metric, first.objectives[0].direction)
        History([], first.objectives).hypervolume()  # Raises if a threshold is missing.
        return Goal("hypervolume", "maximize")


class RunSearch(PipelineStep):
    """Runs one search, and reports its course as learning curves.

    Args:
        storage: Where the searches are stored, beside the comparison; None for nowhere.
    """

    # The version stands for the step: a file that was moved holds the same comparison.
    version = "1"

    def __init__(self, storage: Storage | None) -> None:
        self._storage = storage

    def __call__(self, data: Searches, ctx: FrozenContext) -> Any:
        given, seed, storage = data.experiments[ctx["experiment"]], ctx["seed"], self._storage
        recipe = seeded(given, seed)
        optimizer = driven(made(data.factories[ctx["optimizer"]], given, seed))
        if storage is not None:
            storage = dataclasses.replace(storage, run=f"{storage.run}: {ctx['condition']}")
        began = _Began()
        search = Search(
            recipe,
            optimizer,
            data.num_trials,
            data.replicates,
            storage=storage,
            callbacks=[began],
            progress=False,
        )
        try:
            search.run()
        finally:
            _report(ctx, search.history, began)
        if data.fresh and len(search.history.objectives) == 1 and search.best is not None:
            self._confirm(data.fresh, ctx, recipe, search.best, search.history.criterion)
        return None

    def _confirm(
        self,
        fresh: int,
        ctx: FrozenContext,
        recipe: Recipe,
        best: Observation,
        criterion: Criterion,
    ) -> None:
        """Run the winner on fresh seeds, unless the first shows that seeds make no difference."""
        metric = criterion.objectives[0].metric
        known = {each[metric] for each in best.replicates}
        found = run_sync(_fresh_replicates(recipe, best.treatment, fresh, metric, known))
        if found is None:
            return
        mean = Observation.of_replicates(best.treatment, found).checked(criterion.metrics)
        if not criterion.is_candidate(mean):
            raise NoCompletedTrialError(
                f"On fresh seeds, the winner {best.treatment.name!r} failed or violates a "
                f"constraint: {mean!r}."
            )
        ctx.metrics.add(_CONFIRMED, mean[metric])


async def _fresh_replicates(
    recipe: Recipe, treatment: Treatment, count: int, metric: str, known: set[float]
) -> list[Replicate] | None:
    """Run a treatment on fresh seeds; None if the first gives the one value known already."""
    found: list[Replicate] = []
    async with open_run(recipe) as session:  # The steps are set up once.
        for index in range(count):
            seed = recipe.seed_plugin.confirmation_seed_of(index)
            ((_, replicate),) = await run_replicates(
                session, SingleReplicate(treatment, index, seed), 0, 1
            )
            if index == 0 and {replicate.metrics.get(metric)} == known:
                return None
            found.append(replicate)
    return found


class _Began:
    """A callback that notes when a search began, and how many trials a stored run already had."""

    def __init__(self) -> None:
        self.at, self.resumed = time.time(), 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self.at, self.resumed = time.time(), len(event.resumed)


def _report(ctx: FrozenContext, history: History, began: _Began) -> None:
    """Report the best value so far after each trial, and the times."""
    several = len(history.objectives) > 1
    volumes = history.hypervolume_trace() if several else []
    best = BestSoFar(history.criterion)
    elapsed, end = 0.0, None
    for index, each in enumerate(history):
        if several:
            ctx.report(_BEST, volumes[index], step=index + 1)
        else:
            best.add(each)
            if best.best is not None:
                ctx.report(_BEST, best.best[history.objectives[0].metric], step=index + 1)
        # The time between a killed process and the one that resumed its run is no ask.
        since = began.at if index == began.resumed else end
        start, duration = each.started_at, each.duration or 0.0
        ask = 0.0 if start is None or since is None else max(0.0, start - since)
        end = end if start is None else start + duration
        elapsed += ask + duration
        ctx.report(_ASKS, ask, step=index + 1)
        ctx.report(_SECONDS, elapsed, step=index + 1)
    ctx.metrics.add(_FAILURES, sum(each.status.has_failed for each in history))
