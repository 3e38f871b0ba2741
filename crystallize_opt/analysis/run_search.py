"""The step of a comparison that runs one search, and judges its winner on fresh seeds."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from crystallize_opt.analysis.cells import Goal, course_of, goal_of
from crystallize_opt.analysis.plan import Plan, goals_of
from crystallize_opt.errors import NoCompletedTrialError, TrialsFailedError, UsageError
from crystallize_opt.history.history import History
from crystallize_opt.optimizers.plain import Driven, driven
from crystallize_opt.optimizers.space_optimizer import SpaceOptimizer
from crystallize_opt.pipeline.context import FrozenContext
from crystallize_opt.pipeline.pipeline import Pipeline
from crystallize_opt.pipeline.recipe import Recipe
from crystallize_opt.pipeline.seeding import SeedPlugin
from crystallize_opt.pipeline.steps import DataSource, PipelineStep
from crystallize_opt.recording.description import describe_recipe
from crystallize_opt.recording.recorder import RecordedOptimizer
from crystallize_opt.runtime.checks import SEED_LIMIT
from crystallize_opt.search.adaptive import Adaptive
from crystallize_opt.search.callbacks import Event, RunStarted
from crystallize_opt.search.search import Search
from crystallize_opt.search.settings import checked_settings
from crystallize_opt.storage.reading import read_observations
from crystallize_opt.storage.settings import Storage
from crystallize_opt.trials.best import Criterion
from crystallize_opt.trials.calls import Asked
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import SingleReplicate, Treatment
from crystallize_opt.workers.limits import TrialLimits
from crystallize_opt.workers.workers import Workers

Factory = Callable[..., Any]
"""Makes a fresh optimizer from a seed, or from an experiment and a seed."""

BEST, SECONDS, ASKS = "best so far", "seconds", "ask seconds"
CONFIRMED, FAILURES = "confirmed", "failed trials"


def comparing(searches: Searches, storage: Storage | None, limits: TrialLimits) -> Recipe:
    """Return the experiment each of whose trials is a search.

    Args:
        searches: What the searches have in common.
        storage: Where each search is stored, beside the comparison; None for nowhere.
        limits: The limits of each trial of a search.
    """
    return Recipe(searches, Pipeline([RunSearch(storage, limits)]), name="comparison", seed=0)


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


class Searches(DataSource):
    """What the searches have in common: the data of the step that runs one of them.

    A stored comparison may grow, so this class has a version: what decides the outcome of a search
    is compared with the search's own run.

    Args:
        experiments: The experiments by name.
        factories: The functions that make optimizers, by name.
        replicates: How many replicates a trial has.
        fresh: On how many fresh seeds the winner of a noisy search is run.
    """

    version = "1"

    def __init__(
        self,
        experiments: Mapping[str, Recipe],
        factories: Mapping[str, Factory],
        replicates: int | Adaptive,
        fresh: int,
    ) -> None:
        self.experiments = experiments
        self.factories = factories
        self.replicates = replicates
        self.fresh = fresh

    @property
    def params(self) -> dict[str, Any]:
        """What a stored comparison must not change, besides its searches."""
        return {"confirm_replicates": self.fresh}

    def fetch(self, ctx: FrozenContext) -> Searches:
        return self

    def made(self, cell: Mapping[str, Any]) -> tuple[Recipe, Driven]:
        """Return the experiment and a fresh optimizer of a search."""
        recipe, seed = self.experiments[cell["experiment"]], cell["seed"]
        return seeded(recipe, seed), driven(made(self.factories[cell["optimizer"]], recipe, seed))

    def refuse_changes(self, cell: Mapping[str, Any], storage: Storage) -> None:
        """Refuse an experiment or an optimizer that is not the one of a stored search.

        Raises:
            RunChanged: It has changed; the message says how.
        """
        recipe, optimizer = self.made(cell)
        settings = checked_settings(recipe, optimizer, 1, self.replicates, {})
        recorded = RecordedOptimizer(optimizer, storage)
        try:
            recorded.describe(describe_recipe(recipe, settings.described_replicates))
        finally:
            recorded.close()

    def goals(self, seeds: Sequence[int]) -> dict[str, Goal]:
        """Make every optimizer once for each experiment; return what they have in common.

        Of the first experiment, each is made for the first two seeds: they must be two searches.

        Raises:
            UsageError: They have different objectives, or several without thresholds; or one lacks
                the baseline of a constraint; or a function ignores the seed, or makes no fresh
                optimizer.
        """
        goals: dict[str, Goal] = {}
        for experiment, recipe in self.experiments.items():
            criteria: dict[str, Criterion] = {}
            for name, factory in self.factories.items():
                first = made(factory, recipe, seeds[0])
                if not goals:
                    _refuse_used(name, first)
                    _refuse_equal(name, first, factory, recipe, seeds)
                criteria[name] = driven(first).criterion
            goals[experiment] = _goal(experiment, criteria)
        return goals


def _refuse_used(name: str, optimizer: Any) -> None:
    """Refuse an optimizer that has been asked; it may have learnt from trials of others."""
    if any(isinstance(call, Asked) for call in driven(optimizer).calls):
        raise UsageError(
            f"optimizers[{name!r}] returned {optimizer!r}, which has searched already. {_FRESH}"
        )


def _refuse_equal(
    name: str, first: Any, factory: Factory, recipe: Recipe, seeds: Sequence[int]
) -> None:
    """Refuse a function that would make the search of the first seed again for the second."""
    try:
        other = made(factory, recipe, seeds[1]) if len(seeds) > 1 else None
    except Exception:  # noqa: BLE001  (the search of this seed fails with it; the others run)
        return
    if other is first:
        raise UsageError(
            f"optimizers[{name!r}] returned the same optimizer for two seeds, {first!r}. {_FRESH}"
        )
    if isinstance(first, SpaceOptimizer) and first.seed == getattr(other, "seed", None):
        raise UsageError(
            f"optimizers[{name!r}] ignores its seed: two optimizers have the seed {first.seed}, so "
            f"one search would count as several. {_FRESH}"
        )


_FRESH = (
    "Every search needs an optimizer of its own, with the seed that the function gets: lambda "
    "seed: OptunaOptimizer(space, objective, seed=seed)."
)


def _goal(experiment: str, criteria: Mapping[str, Criterion]) -> Goal:
    """Return what optimizers, by name, have in common in an experiment."""
    first = next(iter(criteria.values()))
    for name, criterion in criteria.items():
        if (criterion.objectives, criterion.constraints) != (first.objectives, first.constraints):
            raise UsageError(
                f"The optimizers have different objectives or constraints in {experiment!r}: "
                f"{name!r} has {criterion.objectives!r} and {criterion.constraints!r}, but "
                f"{next(iter(criteria))!r} {first.objectives!r} and {first.constraints!r}."
            )
        if criterion.lacks_baseline:
            raise UsageError(
                f"A constraint of {name!r} is relative to a baseline, and compare() runs none. "
                "Call optimizer.set_baseline({metric: mean}) in the function that makes the "
                "optimizer, or give an absolute bound."
            )
    return goal_of(History([], first.objectives))


def stored_in(storage: Storage, cell: Mapping[str, Any]) -> Storage:
    """Return where a search of a stored comparison is stored."""
    name = "{experiment}, {optimizer}, seed {seed}".format_map(cell)
    return dataclasses.replace(storage, run=f"{storage.run}: {name}")


class RunSearch(PipelineStep):
    """Runs one search, and reports its course as learning curves.

    Args:
        storage: Where the searches are stored, beside the comparison; None for nowhere.
        limits: The limits of each trial.
    """

    # The version stands for the step: a file that was moved holds the same comparison.
    version = "2"

    def __init__(self, storage: Storage | None, limits: TrialLimits) -> None:
        self._storage, self._limits = storage, limits

    def __call__(self, data: Searches, ctx: FrozenContext) -> Any:
        cell = {name: ctx[name] for name in ("experiment", "optimizer", "seed")}
        recipe, optimizer = data.made(cell)
        storage = None if self._storage is None else stored_in(self._storage, cell)
        began = _Began()
        search = Search(
            recipe,
            optimizer,
            ctx["num_trials"],
            data.replicates,
            workers=self._workers(),
            storage=storage,
            callbacks=[began],
            progress=False,
        )
        try:
            search.run()
        finally:
            began.note_resumes(storage)
            _report(ctx, search.history, began)
        if data.fresh and len(search.history.objectives) == 1 and search.best is not None:
            plan = FreshSeeds(recipe, search.best, search.history.criterion, data.fresh)
            mean = self._on_fresh_seeds(plan, recipe, storage)
            if mean is not None:
                ctx.metrics.add(CONFIRMED, mean)
        return None

    def _on_fresh_seeds(
        self, plan: FreshSeeds, recipe: Recipe, storage: Storage | None
    ) -> float | None:
        """Return the winner's mean on fresh seeds; None if seeds make no difference.

        Raises:
            NoCompletedTrialError: The winner failed or violates a constraint.
        """
        if storage is not None:
            run = f"{storage.run}: {plan.best.treatment.name} on fresh seeds"
            storage = dataclasses.replace(storage, run=run)
        search = Search(
            recipe, plan, plan.count, workers=self._workers(), storage=storage, progress=False
        )
        with contextlib.suppress(NoCompletedTrialError, TrialsFailedError):  # Raised below.
            search.run()
        if not plan.is_complete:
            raise KeyboardInterrupt
        return plan.mean

    def _workers(self) -> Workers:
        """Return a worker for the trials: one that can be ended at a limit, if there is any."""
        if not self._limits.need_processes:
            return Workers()
        return Workers("processes", 1, limits=self._limits)


class FreshSeeds(Plan):
    """The replicates of a winner on fresh seeds; one, if it shows that seeds make no difference.

    Args:
        recipe: The experiment.
        best: The winner.
        criterion: What makes a trial the best.
        count: On how many seeds.
    """

    def __init__(self, recipe: Recipe, best: Observation, criterion: Criterion, count: int) -> None:
        super().__init__()
        self.objective = goals_of(criterion)
        self.best, self.count = best, count
        self._criterion = criterion
        self._seed_of = recipe.seed_plugin.confirmation_seed_of

    def next_batch(self) -> list[Treatment]:
        """Return the first replicate, and then all others if they may differ."""
        first, last = len(self.asked), self.count if self.asked else 1
        if self.asked and not self._may_differ():
            return []
        return [
            SingleReplicate(self.best.treatment, index, self._seed_of(index))
            for index in range(first, last)
        ]

    def _may_differ(self) -> bool:
        """Whether the first replicate completed with another value than those of the search."""
        metric = self._criterion.objectives[0].metric
        known = {each[metric] for each in self.best.replicates}
        return any(
            each.status is Status.COMPLETED and {each[metric]} != known
            for each in self.replicates(self.best.treatment)[:1]
        )

    @property
    def mean(self) -> float | None:
        """The mean on the fresh seeds; None if seeds make no difference.

        Raises:
            NoCompletedTrialError: A replicate failed, or the mean violates a constraint.
        """
        criterion, treatment = self._criterion, self.best.treatment
        found = Observation.of_replicates(treatment, self.replicates(treatment))
        found = found.checked(criterion.metrics)
        if not criterion.is_candidate(found):
            raise NoCompletedTrialError(
                f"On fresh seeds, the winner {treatment.name!r} failed or violates a "
                f"constraint: {found!r}."
            )
        return found[criterion.objectives[0].metric] if self._may_differ() else None


class _Began:
    """A callback that notes when a search began, and how many trials a stored run already had.

    Attributes:
        at: When the search began.
        resumed: How many trials the run had then.
        earlier: How many it had when it was resumed before.
    """

    def __init__(self) -> None:
        self.at, self.resumed = time.time(), 0
        self.earlier: set[int] = set()

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self.at, self.resumed = time.time(), len(event.resumed)

    def note_resumes(self, storage: Storage | None) -> None:
        """Read when the run was resumed."""
        if storage is not None and self.resumed:
            self.earlier = set(read_observations(storage.path, storage.run).resumed)


def _report(ctx: FrozenContext, history: History, began: _Began) -> None:
    """Report the best value so far after each trial, and the times."""

    def ended(index: int, end: float | None) -> float | None:
        # The time between a process that ended and the one that resumed its run is no ask.
        if index == began.resumed:
            return began.at
        return end if index not in began.earlier else None

    for step, after in enumerate(course_of(history, ended), 1):
        if after.best is not None:
            ctx.report(BEST, after.best, step=step)
        ctx.report(ASKS, after.ask, step=step)
        ctx.report(SECONDS, after.seconds, step=step)
    ctx.metrics.add(FAILURES, sum(each.status.has_failed for each in history))
