"""The settings of a search: the arguments that `optimize`, `aoptimize` and `Search` share."""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar

from crystallize_opt.errors import UsageError
from crystallize_opt.pipeline.recipe import REPLICATE_KEYS, Recipe
from crystallize_opt.runtime.checks import whole_number

if TYPE_CHECKING:
    from crystallize_opt.optimizers.plain import Driven
    from crystallize_opt.optimizers.space_optimizer import SpaceOptimizer
    from crystallize_opt.search.adaptive import Adaptive
    from crystallize_opt.search.callbacks import Callback
    from crystallize_opt.search.failures import Failures
    from crystallize_opt.search.progress import ProgressBar, ProgressLines
    from crystallize_opt.search.stopping import StopCondition
    from crystallize_opt.storage.settings import Storage
    from crystallize_opt.trials.treatment import Treatment
    from crystallize_opt.workers.workers import Workers

F = TypeVar("F", bound=Callable[..., Any])
_KEYWORD_ONLY = inspect.Parameter.KEYWORD_ONLY


class SearchSettings(TypedDict, total=False):
    """How a search runs: the keyword arguments of `optimize`, `aoptimize` and `Search`.

    Attributes:
        workers: Where trials run, and how many at once. None: one after the other in this process.
            A whole number: that many processes. `"processes"` or `"threads"`: one per core. An
            executor, or a function that makes one. Or `Workers(...)`, which also takes batches and
            limits.
        storage: The path of a file in which every event is stored at once, or `Storage(...)`. The
            same call again, with a fresh optimizer, continues where the run ended: finished trials
            are kept, unfinished ones run again, and the suggestions are those of an uninterrupted
            run. `num_trials` is the run's total.
        failures: How to react to failed trials. None: report them to the optimizer and continue,
            unless all of the first ten fail. `"raise"`: a failed trial ends the search with an
            error. Or `Failures(...)`, which also takes the number of retries.
        baseline: True: run the untreated experiment once, before the first trial, on the seeds of
            the trials' replicates. A `Treatment`: run that one. The outcome is stored with the run,
            is `history.baseline`, and counts as no trial. A baseline that fails ends the search.
        stop: Conditions that end the search early: `MaxTime`, `TargetValue`, `NoImprovement`, or
            functions of a `SearchState` that return a reason.
        callbacks: Functions called with each event, or one of them; see
            `crystallize_opt.search.callbacks`.
        progress: True: a progress bar. `"log"`: at most one line a minute in the log, at level
            INFO. None: a bar in a terminal or a notebook, elsewhere at most one line a minute on
            stderr. False: nothing.
    """

    workers: Workers | int | str | Any
    storage: Storage | str | PathLike[str] | None
    failures: Failures | Literal["tell", "raise"] | None
    baseline: Treatment | bool | None
    stop: StopCondition | Sequence[StopCondition]
    callbacks: Callback | Sequence[Callback]
    progress: bool | Literal["log"] | None


DEFAULTS: SearchSettings = {
    "workers": None,
    "storage": None,
    "failures": None,
    "baseline": None,
    "stop": (),
    "callbacks": (),
    "progress": None,
}


def takes_settings(door: F) -> F:
    """Show `**settings: Unpack[SearchSettings]` as single arguments, with their documentation.

    Editors read the annotation; `help()` and notebooks read the signature and the docstring. This
    decorator replaces the signature, and the line `**settings:` of the docstring.

    Args:
        door: A function, or a class whose `__init__` takes the settings.
    """
    function: Any = door
    if isinstance(door, type):
        function = vars(door)["__init__"]
    signature = inspect.signature(function)
    *shown, _ = signature.parameters.values()
    for name, default in DEFAULTS.items():
        # Show an annotation as it is written in the source, not as it is evaluated.
        annotation = SearchSettings.__annotations__[name].__forward_arg__
        shown.append(inspect.Parameter(name, _KEYWORD_ONLY, default=default, annotation=annotation))
    function.__signature__ = signature.replace(parameters=shown)
    if door.__doc__ and SearchSettings.__doc__:  # Python may run without docstrings.
        lines = textwrap.dedent(SearchSettings.__doc__.split("Attributes:\n")[1])

        def documented(line: re.Match[str]) -> str:
            return textwrap.indent(lines.rstrip(), line[1])

        door.__doc__ = re.sub(r"(?m)^( *)\*\*settings:.*$", documented, door.__doc__)
    return door


@dataclass(frozen=True)
class Settings:
    """The checked settings of a search, with every short form resolved."""

    num_trials: int
    replicates: int
    adaptive: Adaptive | None
    workers: Workers
    storage: Storage | None
    failures: Failures
    baseline: Treatment | None
    stop: tuple[StopCondition, ...]
    callbacks: tuple[Callback, ...]
    progress_lines: ProgressLines | None

    @property
    def described_replicates(self) -> Any:
        """How many replicates trials have, and how many must complete, as plain data."""
        described: Any = self.replicates
        if self.adaptive is not None:
            described = dataclasses.asdict(self.adaptive)
        if self.failures.min_share < 1:
            described = {"replicates": described, "min_share": self.failures.min_share}
        return described


def checked_settings(
    recipe: Recipe,
    optimizer: Driven,
    num_trials: Any,
    replicates_per_trial: Any,
    given: SearchSettings,
) -> Settings:
    """Check the settings of a search before anything runs.

    Raises:
        TypeError: A keyword argument is unknown.
        UsageError: An argument is out of its range, or does not fit the experiment.
        StorageError: The storage's folder does not exist.
    """
    # Not at the top: `Experiment` imports this module for its signatures, without any search.
    from crystallize_opt.optimizers.space_optimizer import SpaceOptimizer
    from crystallize_opt.search.adaptive import replicates_of
    from crystallize_opt.search.baseline import as_baseline, refuse_lacking_baseline
    from crystallize_opt.search.failures import Failures
    from crystallize_opt.search.progress import ProgressLines, progress_shown
    from crystallize_opt.search.stopping import as_conditions
    from crystallize_opt.storage.settings import Storage
    from crystallize_opt.workers.workers import Workers

    if unknown := [name for name in given if name not in DEFAULTS]:
        raise TypeError(f"A search has no argument {unknown[0]!r}; it takes {', '.join(DEFAULTS)}.")
    given = {**DEFAULTS, **given}
    _check_parameters(recipe, optimizer)
    workers, storage = Workers.of(given["workers"]), given["storage"]
    workers.check(recipe)
    if workers.ask_ahead and optimizer.asks_when_all_is_told:
        raise UsageError(
            "Workers: ask_ahead=True asks while trials run, but this optimizer is a plain one, "
            "which is asked only when all of its suggestions have been told. Leave ask_ahead out."
        )
    replicates, adaptive = replicates_of(replicates_per_trial)
    failures = Failures.of(given["failures"])
    _check_pruning(optimizer, failures)
    if isinstance(optimizer, SpaceOptimizer) and optimizer.races:
        _prepare_race(optimizer, replicates, adaptive, failures)
    shown = progress_shown(given["progress"])
    baseline = as_baseline(given["baseline"])
    if storage is None:  # A stored run may have its baseline; else the first ask refuses.
        refuse_lacking_baseline(optimizer, baseline)
    return Settings(
        num_trials=whole_number("num_trials", num_trials),
        replicates=replicates,
        adaptive=adaptive,
        workers=workers,
        storage=None if storage is None else Storage.of(storage),
        failures=failures,
        baseline=baseline,
        stop=as_conditions(given["stop"], optimizer.criterion.objectives),
        callbacks=_checked_callbacks(given["callbacks"], shown),
        progress_lines=shown if isinstance(shown, ProgressLines) else None,
    )


def _checked_callbacks(
    callbacks: Any, shown: ProgressBar | ProgressLines | None
) -> tuple[Callback, ...]:
    from crystallize_opt.search.progress import ProgressBar

    single = callable(callbacks) or not isinstance(callbacks, Iterable)
    given = (callbacks,) if single else tuple(callbacks)
    for callback in given:
        if not callable(callback) or isinstance(callback, type):
            raise UsageError(
                f"callbacks= takes functions of one event, not {callback!r}. For none, leave out "
                "callbacks=."
            )
    return (*given, shown) if isinstance(shown, ProgressBar) else given


def _check_parameters(recipe: Recipe, optimizer: Driven) -> None:
    taken = {*recipe.initial_context, *REPLICATE_KEYS}
    if clash := [name for name in optimizer.space or () if name in taken]:
        raise UsageError(
            f"The search space has the parameter {clash[0]!r}, but every replicate's context "
            f"has that key already (it has {', '.join(sorted(taken))}). Rename the parameter, "
            "or drop the key from initial_ctx."
        )


def _check_pruning(optimizer: Driven, failures: Failures) -> None:
    """Refuse an optimizer with a pruner that would be asked about failures."""
    if optimizer.capabilities.pruning and failures.min_share < 1:
        raise UsageError(
            f"{type(optimizer).__name__} has a pruner, which compares trials replicate by "
            f"replicate; Failures(min_share={failures.min_share!r}) lets trials lack some. Leave "
            "out min_share, or build the optimizer without a pruner."
        )


def _prepare_race(
    optimizer: SpaceOptimizer[Any], replicates: int, adaptive: Adaptive | None, failures: Failures
) -> None:
    """Tell an optimizer that races how many replicates a trial has at most; refuse the rest."""
    name = type(optimizer).__name__
    if adaptive is not None:
        raise UsageError(
            f"{name} races: it decides itself which trials run more replicates. Give the largest "
            f"number, replicates_per_trial={replicates}, instead of {adaptive!r}."
        )
    if failures.min_share < 1:
        raise UsageError(
            f"{name} races: it learns of each failed replicate. Leave out "
            f"Failures(min_share={failures.min_share!r})."
        )
    optimizer.race_up_to(replicates)
