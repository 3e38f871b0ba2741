"""Runs several optimizers on the same experiments, seeds and replicate seeds: `compare`.

Each search is a trial of one outer search. So the searches run on any workers, are stored and
resumed, show one progress bar, and one that fails does not end the others.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from crystallize_opt.analysis.cells import Cell
from crystallize_opt.analysis.comparison import Comparison
from crystallize_opt.analysis.paired import checked_alpha
from crystallize_opt.analysis.plan import Plan
from crystallize_opt.analysis.run_search import (
    ASKS,
    BEST,
    CONFIRMED,
    FAILURES,
    SECONDS,
    Factory,
    Searches,
    comparing,
    stored_in,
)
from crystallize_opt.errors import (
    NoCompletedTrialError,
    RunChanged,
    TrialsFailedError,
    UsageError,
)
from crystallize_opt.pipeline.recipe import Recipe
from crystallize_opt.runtime.checks import checked_seed, whole_number
from crystallize_opt.runtime.extras import needs
from crystallize_opt.search.adaptive import Adaptive, replicates_of
from crystallize_opt.search.failures import Failures
from crystallize_opt.search.search import Search
from crystallize_opt.storage.journal import read_run, run_names
from crystallize_opt.storage.reading import StoredRun
from crystallize_opt.storage.settings import Storage
from crystallize_opt.trials.calls import Asked
from crystallize_opt.trials.objective import Objective
from crystallize_opt.trials.replicate import Replicate
from crystallize_opt.trials.treatment import Treatment
from crystallize_opt.workers.workers import Workers


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
        num_trials: How many trials each search has, at least 1; of a stored one, in all.
        seeds: How many seeds, which are then 0, 1, ...; or the seeds. The seed of a search is that
            of its optimizer, and is added to the seed of the experiment.
        replicates_per_trial: How often each treatment is run; or `Adaptive(2, 10)`.
        confirm_replicates: On how many fresh seeds the winner of a noisy search is run; 0: on none.
        alpha: The probability of at most this is an error among all verdicts about pairs.
        workers: Where the searches run, and how many at once: as for `optimize`. Each search runs
            its trials one after the other. Limits are those of each trial, which then runs in a
            process of its own.
        storage: A file for all searches, as for `optimize`: the same call again continues there.
            The comparison may grow: more trials, seeds, optimizers or experiments.
        progress: As for `optimize`; one step is one search.

    Raises:
        UsageError: An argument is out of its range; or a function makes no fresh optimizer, or one
            that ignores the seed; or the optimizers of an experiment have different objectives; or
            there are several objectives without thresholds.
        TrialsFailedError: Every search failed.
        RunChanged: The stored comparison has other experiments or optimizers of the same names.
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
    chosen = _seeds(seeds)
    alpha = checked_alpha(alpha)
    replicates_of(replicates_per_trial)  # Checks it.
    searches = Searches(
        named,
        _checked(optimizers),
        replicates_per_trial,
        whole_number("confirm_replicates", confirm_replicates, 0),
    )
    wanted = _wanted(searches, chosen, whole_number("num_trials", num_trials))
    goals = searches.goals(chosen)
    workers, stored = Workers.of(workers), None
    if storage is not None:
        storage = _checked_storage(storage, named)
        stored = _recorded(storage)
    cells = Cells(wanted, ()) if stored is None else _grown(stored, wanted, searches, storage)
    search = Search(
        comparing(searches, storage, workers.limits),
        cells,
        sum(map(len, cells.batches)),
        # The limits are those of each trial of a search, not of the whole search.
        workers=dataclasses.replace(workers, limits=None),
        storage=storage,
        failures=Failures(give_up_after=None, give_up_after_same=None),
        progress=progress,
    )
    with contextlib.suppress(NoCompletedTrialError, KeyboardInterrupt):  # Both raised below.
        search.run()
    if not cells.is_complete:
        raise KeyboardInterrupt(
            f"The comparison was interrupted: {search.stop_reason}. With storage=, the same call "
            "continues it."
        )
    found = list(map(cells.cell, wanted))
    if all(cell.error is not None for cell in found):
        raise TrialsFailedError(f"Every search failed; the first one: {found[0].error}")
    return Comparison(found, goals, num_trials, alpha)


# What is asked ------------------------------------------------------------------------------------


def _seeds(given: Any) -> tuple[int, ...]:
    """Return the seeds: those given, or so many."""
    if isinstance(given, Iterable):
        chosen = tuple(map(checked_seed, given))
        if not chosen or len(set(chosen)) < len(chosen):
            raise UsageError(f"seeds= is a number of seeds, or distinct seeds, not {given!r}.")
        return chosen
    return tuple(range(whole_number("seeds", given)))


def _named(given: Any) -> dict[str, Recipe]:
    """Return the experiments by name."""
    if isinstance(given, Recipe):
        given = {given.name or "experiment": given}
    if not isinstance(given, Iterable):
        raise UsageError(
            f"compare() takes experiments, not {given!r}. Make one from a function: "
            "Experiment.of(function)."
        )
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


def _checked_storage(given: Any, experiments: Mapping[str, Recipe]) -> Storage:
    storage = Storage.of(given)
    for name, experiment in experiments.items():
        if experiment.seed_plugin.is_drawn:
            raise UsageError(
                f"The experiment {name!r} has no seed, so a stored comparison could not be "
                "continued. Give it one: Experiment(..., seed=0)."
            )
    return dataclasses.replace(storage, run=storage.run or "comparison")


# What is run --------------------------------------------------------------------------------------


class Cells(Plan):
    """Each search as a trial.

    Args:
        wanted: The searches of this call.
        recorded: The searches that a stored comparison has asked for, batch by batch.
    """

    objective = Objective(FAILURES, "minimize")

    def __init__(
        self, wanted: Sequence[Treatment], recorded: Sequence[Sequence[Treatment]]
    ) -> None:
        super().__init__()
        names = {each.name for batch in recorded for each in batch}
        self.new = [each for each in wanted if each.name not in names]
        self.batches = [*recorded, *([self.new] if self.new else [])]

    def next_batch(self) -> Sequence[Treatment]:
        """Return what the stored comparison asked for, and then the rest."""
        first = 0
        for batch in self.batches:
            if first == len(self.asked):
                return batch
            first += len(batch)
        return []

    def cell(self, treatment: Treatment) -> Cell:
        """Return what a search found."""
        observation = self.observations[treatment.name]
        # A plain optimizer is told a stand-in for the metrics of a failed trial.
        replicate: Replicate = observation.replicates[0]
        asks = [value for _, value in replicate.curves.get(ASKS, ())]
        best: list[float | None] = [None] * len(asks)
        for step, value in replicate.curves.get(BEST, ()):
            best[step - 1] = value
        return Cell(
            **{name: treatment[name] for name in _KEY},
            best=best,
            seconds=[value for _, value in replicate.curves.get(SECONDS, ())],
            asks=asks,
            failures=int(replicate.get(FAILURES, 0)),
            confirmed=replicate.get(CONFIRMED),
            error=observation.error,
        )


_KEY = ("experiment", "optimizer", "seed")


def _wanted(searches: Searches, seeds: Sequence[int], num_trials: int) -> list[Treatment]:
    """Return the searches of a call, seed by seed.

    So all optimizers have as many if the comparison is interrupted.
    """
    cells = [
        dict(zip(_KEY, each, strict=True))
        for seed in seeds
        for each in itertools.product(searches.experiments, searches.factories, [seed])
    ]
    return [
        Treatment(
            f"{cell['experiment']}, {cell['optimizer']}, seed {cell['seed']}, {num_trials} trials",
            {**cell, "num_trials": num_trials},
        )
        for cell in cells
    ]


# What is stored -----------------------------------------------------------------------------------


def _recorded(storage: Storage) -> StoredRun | None:
    """Return the stored comparison that a call continues; None if there is none."""
    if not Path(storage.path).exists() or storage.run not in run_names(storage.path):
        return None
    stored = StoredRun(*read_run(storage.path, storage.run))
    asked = [each for segment in stored.segments for each in segment.treatments]
    # Another run of that name is refused later, with the changes between the descriptions.
    return stored if all({*each.params} == {*_KEY, "num_trials"} for each in asked) else None


def _grown(
    stored: StoredRun, wanted: Sequence[Treatment], searches: Searches, storage: Storage
) -> Cells:
    """Return the searches to run if a call continues a stored comparison, which may grow.

    Raises:
        RunChanged: An experiment or an optimizer has changed, or the call leaves out what is still
            to be run.
        UsageError: The call has fewer trials than the stored searches.
    """
    asked = [each for each in stored.segments[-1].events if isinstance(each, Asked)]
    cells = Cells(wanted, [each.treatments for each in asked])
    longest: dict[tuple[Any, ...], int] = {}
    for each in itertools.chain(*cells.batches[: len(asked)]):
        key = tuple(each[name] for name in _KEY)
        longest[key] = max(each["num_trials"], longest.get(key, 0))
    for each in cells.new:
        if (most := longest.get(tuple(each[name] for name in _KEY), 0)) > each["num_trials"]:
            raise UsageError(
                f"The comparison {storage.run!r} is stored with {most} trials: it can be continued "
                f"with more, but not with {each['num_trials']}. Give another name for shorter "
                "searches: Storage(path, run=...)."
            )
    for each in stored.pending:
        if each["experiment"] not in searches.experiments or (
            each["optimizer"] not in searches.factories
        ):
            raise RunChanged(
                f"The comparison {storage.run!r} was interrupted before {each.name!r} had run, but "
                "this call has no such search. Give all experiments and optimizers of the stored "
                "comparison, and further ones; or another name: Storage(path, run=...)."
            )
    _refuse_changes(longest, searches, storage)
    return cells


def _refuse_changes(known: Iterable[tuple[Any, ...]], searches: Searches, storage: Storage) -> None:
    """Refuse experiments and optimizers that are not those of the stored searches.

    Raises:
        RunChanged: One has changed; the message says how.
    """
    runs = set(run_names(storage.path))
    checked = set()
    for key in known:
        experiment, optimizer, _ = key
        cell = dict(zip(_KEY, key, strict=True))
        run = stored_in(storage, cell)
        if experiment not in searches.experiments or optimizer not in searches.factories:
            continue
        if (experiment, optimizer) in checked or run.run not in runs:
            continue
        checked.add((experiment, optimizer))
        searches.refuse_changes(cell, run)
