"""What a search was asked for, checked before anything runs."""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crystallize_opt.errors import ObjectiveError, StorageError, UsageError
from crystallize_opt.optimizers.base import BaseOptimizer
from crystallize_opt.optimizers.space_optimizer import SpaceOptimizer
from crystallize_opt.pipeline.recipe import REPLICATE_KEYS
from crystallize_opt.runtime.checks import whole_number
from crystallize_opt.search.callbacks import Callback
from crystallize_opt.search.progress import ProgressBar, wants_progress
from crystallize_opt.search.stopping import StopCondition, as_conditions
from crystallize_opt.trials.objective import Objective, as_objectives
from crystallize_opt.workers.limits import TrialLimits
from crystallize_opt.workers.workers import Workers

if TYPE_CHECKING:
    from crystallize_opt.pipeline.recipe import Recipe
    from crystallize_opt.recording.recorder import Recorder

ALL_FAILED_LIMIT = 10
"""A search ends with an error where every one of this many first trials failed."""


@dataclass(frozen=True, slots=True)
class Storage:
    """Where a search is stored, and how it goes on."""

    path: str | os.PathLike[str]
    run: str
    resume: str

    def recorder(self, experiment: Recipe, optimizer: Any, replicates: int) -> Recorder:
        """Open the run for writing."""
        from crystallize_opt.recording.recorder import Recorder

        return Recorder(
            experiment,
            optimizer,
            replicates,
            storage=self.path,
            run=self.run,
            resume=self.resume,
            required=required_metrics(optimizer),
        )


@dataclass(frozen=True, slots=True)
class Options:
    """What `Experiment.optimize` was given, checked."""

    num_trials: int
    replicates: int
    workers: Workers
    retries: int
    stop: tuple[StopCondition, ...]
    raise_failures: bool
    all_failed_limit: int | None
    storage: Storage | None
    callbacks: tuple[Callback, ...]


def checked_options(
    experiment: Recipe,
    optimizer: BaseOptimizer,
    num_trials: int,
    replicates_per_trial: int,
    *,
    executor: Any,
    max_concurrency: int,
    batch: bool,
    limits: TrialLimits | None,
    workers: Any,
    retries: int,
    stop: Any,
    on_failure: str,
    all_failed_limit: int | None,
    storage: Any,
    run: Any,
    resume: str,
    callbacks: Sequence[Callback],
    progress: bool | None,
) -> Options:
    """Refuse what cannot be run, before anything is.

    Raises:
        UsageError: An argument is out of its range, or cannot be combined with another one.
        ObjectiveError: The optimizer's objective has no metric, or no known direction.
        TypeError: The optimizer lacks a method.
    """
    num_trials = checked_count("num_trials", num_trials)
    replicates = checked_count("replicates_per_trial", replicates_per_trial)
    _check_optimizer(experiment, optimizer)
    if workers is None:
        workers = Workers(executor, max_concurrency, batch=batch, limits=limits)
    chosen = Workers.of(workers)
    chosen.check(experiment)
    if on_failure not in ("tell", "raise"):
        raise UsageError(f"on_failure= is 'tell' or 'raise', not {on_failure!r}.")
    if all_failed_limit is not None:
        checked_count("all_failed_limit", all_failed_limit)
    stored = _checked_storage(storage, run, resume, experiment.name)
    for callback in callbacks:
        if not callable(callback) or isinstance(callback, type):
            raise UsageError(f"A callback is called with each event; {callback!r} cannot be.")
    if wants_progress(progress):
        callbacks = (*callbacks, ProgressBar())
    return Options(
        num_trials=num_trials,
        replicates=replicates,
        workers=chosen,
        retries=whole_number("retries", retries, 0),
        stop=as_conditions(stop, objectives_of(optimizer)),
        raise_failures=on_failure == "raise",
        all_failed_limit=all_failed_limit,
        storage=stored,
        callbacks=tuple(callbacks),
    )


def _checked_storage(storage: Any, run: Any, resume: str, name: str | None) -> Storage | None:
    if resume not in ("exact", "attach"):
        raise UsageError(f"resume= is 'exact' or 'attach', not {resume!r}.")
    if storage is None:
        if run is not None:
            raise UsageError(f"run={run!r} needs storage=, the path of a file.")
        return None
    if not isinstance(storage, (str, os.PathLike)):
        raise UsageError(f"storage= takes the path of a file, not {storage!r}.")
    if os.fspath(storage) in ("", ":memory:"):
        raise UsageError(
            f"storage={storage!r} keeps nothing. Give the path of a file, or leave it out."
        )
    folder = os.path.dirname(os.path.abspath(storage))  # noqa: PTH100, PTH120  (pathlib: 5 ms)
    if not os.path.isdir(folder):  # noqa: PTH112
        raise StorageError(f"storage={storage!r}: there is no folder {folder!r}. Make it first.")
    run = run if run is not None else name or "run"
    if not isinstance(run, str) or not run:
        raise UsageError(f"run= is the name of a run, not {run!r}.")
    return Storage(storage, run, resume)


def _check_optimizer(experiment: Recipe, optimizer: BaseOptimizer) -> None:
    needed = ("ask", "tell", "get_best_treatment", "objective")
    if isinstance(optimizer, type) or (
        missing := [name for name in needed if not hasattr(optimizer, name)]
    ):
        what = "a class; build it first" if isinstance(optimizer, type) else f"without {missing}"
        raise TypeError(f"An optimizer has {', '.join(needed)}; {optimizer!r} is {what}.")
    objectives_of(optimizer)
    if isinstance(optimizer, SpaceOptimizer):
        taken = {*experiment.initial_context, *REPLICATE_KEYS}
        if clash := [name for name in optimizer.space if name in taken]:
            raise UsageError(
                f"The search space has the parameter {clash[0]!r}, but every replicate's context "
                f"has that key already (it has {', '.join(sorted(taken))}). Rename the parameter, "
                "or drop the key from initial_ctx."
            )


def checked_count(name: str, number: Any) -> int:
    """Return a number of trials or replicates as a plain `int`.

    Raises:
        UsageError: It is no whole number of at least 1.
    """
    try:
        count = 0 if isinstance(number, bool) else operator.index(number)
    except TypeError:
        count = 0
    if count < 1:
        raise UsageError(f"{name} is a whole number, at least 1, not {number!r}.")
    return count


def objectives_of(optimizer: Any) -> tuple[Objective, ...]:
    """Return the objectives of an optimizer, which may use a class of its own for them.

    Raises:
        ObjectiveError: One has no metric, or no known direction.
    """
    if isinstance(optimizer, SpaceOptimizer):
        return optimizer.objectives
    objective = optimizer.objective
    several = objective if isinstance(objective, (list, tuple)) else (objective,)
    for each in several:
        if not hasattr(each, "metric") or not hasattr(each, "direction"):
            raise ObjectiveError(
                f"The objective of {type(optimizer).__name__} has a metric and a direction, as "
                f"Objective('loss', 'minimize') has; {each!r} has not."
            )
    return as_objectives([Objective(each.metric, each.direction) for each in several])


def required_metrics(optimizer: Any) -> Sequence[str]:
    """Return the metrics that a completed trial has."""
    if isinstance(optimizer, SpaceOptimizer):
        return optimizer.required_metrics
    return [objective.metric for objective in objectives_of(optimizer)]
