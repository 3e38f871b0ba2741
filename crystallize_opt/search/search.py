"""A search that runs to its end, or is driven step by step by a `for` loop."""

from __future__ import annotations

import atexit
import dataclasses
from collections.abc import Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Unpack

from crystallize_opt.errors import UsageError
from crystallize_opt.optimizers.plain import driven
from crystallize_opt.optimizers.space_optimizer import SpaceOptimizer
from crystallize_opt.pipeline.recipe import Recipe
from crystallize_opt.runtime.interruption import Interruption
from crystallize_opt.runtime.owner import Owner
from crystallize_opt.runtime.stepwise import Ended, HandOver, Stepwise
from crystallize_opt.runtime.sync import run_sync
from crystallize_opt.runtime.tracebacks import short_traceback, shortened
from crystallize_opt.search.settings import SearchSettings, checked_settings, takes_settings
from crystallize_opt.trials.best_so_far import BestSoFar
from crystallize_opt.trials.calls import Attached, Told
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.treatment import Treatment

if TYPE_CHECKING:
    from crystallize_opt.history.history import History
    from crystallize_opt.search.adaptive import Adaptive


@takes_settings
class Search:
    """One search of an experiment by an optimizer.

    `run()` runs the search to its end, as `Experiment.optimize` does. A `for` loop over the search
    yields the outcome of each trial once it is reported to the optimizer, before the next ask.
    During the loop's body the search pauses: `random`, numpy's global generator and the signal
    handlers are the caller's. (Worker processes and threads finish the trials they have begun.) If
    `break` or an exception leaves the loop early, running trials are abandoned and reported as
    such, the steps are torn down, `after_run` is called, and the storage is closed.

    A search runs once. With a storage, another `Search` of the same experiment continues it.

    Args:
        experiment: The experiment that runs each treatment.
        optimizer: Any object with `ask`, `tell`, `get_best_treatment` and `objective`.
        num_trials: How many treatments to try, at least 1; of a stored run, in all, with those
            that were tried before. If `ask` returns several treatments, each one counts. A
            suggestion whose outcome is known does not count: the outcome is reported again, and
            nothing runs (`Observation.repeats`). The search ends earlier if a finite space is
            exhausted.
        replicates_per_trial: How often each treatment is run, at least 1. Or `Adaptive(2, 10)`:
            twice, and up to ten times if it could still be the best.
        **settings: See `SearchSettings`.

    Raises:
        TypeError: The optimizer lacks a method, or a keyword argument is unknown.
        UsageError: An argument is out of its range, or a parameter of the optimizer's space has the
            name of a context key.
        ObjectiveError: The optimizer's objective has no metric, or no known direction.
        StorageError: The storage's folder does not exist.

    Example:
        >>> from crystallize_opt import Experiment, Objective, Pipeline, data_source, pipeline_step
        >>> from crystallize_opt.adapters import GridOptimizer
        >>> @data_source
        ... def nothing(ctx):
        ...     return None
        >>> @pipeline_step()
        ... def square(data, ctx, *, x):
        ...     return data, {"square": x * x}
        >>> experiment = Experiment(nothing(), Pipeline([square()]))
        >>> optimizer = GridOptimizer({"x": [3, 2, 0, 1]}, Objective("square", "minimize"))
        >>> search = Search(experiment, optimizer, 4)
        >>> for observation in search:
        ...     if observation["square"] < 1:
        ...         search.stop("good enough")
        >>> search.best["square"], search.stop_reason, len(search.history)
        (0.0, 'good enough', 3)
    """

    def __init__(
        self,
        experiment: Recipe,
        optimizer: Any,
        num_trials: int,
        replicates_per_trial: int | Adaptive = 1,
        **settings: Unpack[SearchSettings],
    ) -> None:
        self._recipe = experiment
        self._optimizer = driven(optimizer)
        self._settings = checked_settings(
            experiment, self._optimizer, num_trials, replicates_per_trial, settings
        )
        # These imports, and those in `_run`, are not at the top of the module, because importing
        # the package would then take a quarter longer.
        from crystallize_opt.search.loop import Loop

        self._interruption = Interruption()
        self._loop = Loop(self._settings, self._interruption)
        self._has_begun = False
        self._best: BestSoFar | None = None
        self._seen = 0

    @property
    def stop_reason(self) -> str | None:
        """Why the search ended, or is about to end, in words; None before that."""
        return self._loop.reason

    @property
    def best(self) -> Observation | None:
        """The best observation so far; None if no trial has completed."""
        if isinstance(self._optimizer, SpaceOptimizer):
            return self._optimizer.ledger.best.best
        if self._best is None:
            self._best = BestSoFar(self._optimizer.criterion)
        calls = self._optimizer.calls
        for event in calls[self._seen :]:
            if isinstance(event, (Told, Attached)):
                self._best.add(event.observation)
        self._seen = len(calls)
        return self._best.best

    @property
    def history(self) -> History:
        """The observations the optimizer has, also those from before this search."""
        return self._optimizer.history

    def stop(self, reason: str = "stop() was called") -> None:
        """End the search: no more trials start, and running trials finish and are reported.

        The loop's body, callbacks, steps and other threads may call this method.

        Args:
            reason: Becomes `stop_reason`, unless the search already has one.
        """
        if self._loop.reason is None:
            self._loop.reason = reason

    @short_traceback
    def run(self) -> Treatment:
        """Run the search, also within a running event loop; return the optimizer's best treatment.

        Ctrl-C or SIGTERM ends the search: no more trials start, running trials finish, and the best
        treatment so far is returned. After a second signal, running trials are abandoned.

        Raises:
            StorageError: The run cannot be stored or read.
            RunLocked: Another process, or another search in this process, is writing the run.
            RunChanged: The run was made with other settings; the message says which.
            ReplayDiverged: The optimizer does not repeat its suggestions, for example because its
                library has another version.
            UsageError: An object cannot be sent to another process; or the search has already run.
            TrialsFailedError: All of the first trials failed; or, with `failures="raise"`, one
                failed.
            NoCompletedTrialError: No trial completed.
            ExecutorBrokenError: An executor given as an object broke.
            TeardownError: A `teardown` or an `after_run` failed; the error's `result` is the
                best treatment.
            KeyboardInterrupt: The search was interrupted before a trial completed.
        """
        coroutine = self._begin()
        with self._interruption:
            return run_sync(coroutine, self._interruption.on_event_loop)  # type: ignore[return-value]

    @short_traceback
    async def arun(self) -> Treatment:
        """Run the search from asynchronous code.

        The event loop handles signals. A search that is cancelled cancels its running trials,
        reports them to the optimizer as abandoned, and raises `CancelledError`.
        """
        return await self._begin()  # type: ignore[return-value]

    def __iter__(self) -> Iterator[Observation]:
        """Run the search, and yield each observation as soon as it is reported to the optimizer.

        Raises:
            Exception: As `run`, but a search without a completed trial raises no error.
        """
        steps: Stepwise[Observation] = Stepwise(self._begin, self._interruption.on_event_loop)
        owner = Owner()

        def leave() -> None:
            if not owner.is_here:
                steps.forget()
                return
            with self._interruption:
                steps.leave()

        registered = False
        try:
            while True:
                try:
                    with shortened, self._interruption:
                        observation = steps.step()
                except Ended:
                    return
                if not registered:
                    # A program may end within the loop. When Python collects this iterator, it can
                    # import nothing any more, and has joined the processes. What the search has
                    # imported ends after it, because functions are called in reverse order.
                    atexit.register(leave)
                    registered = True
                try:
                    yield observation
                    if not owner.is_here:
                        raise UsageError(
                            "This process is a fork of the process that runs the search. Only that "
                            "process can continue the loop; end the child within the loop's body."
                        )
                except BaseException:
                    leave()
                    raise
        finally:
            atexit.unregister(leave)

    def _begin(
        self, hand_over: HandOver[Observation] | None = None
    ) -> Coroutine[Any, Any, Treatment | None]:
        if self._has_begun:
            raise UsageError(
                "This search has already run. Make another Search; with the same storage and a "
                "fresh optimizer, it continues this run."
            )
        self._has_begun = True
        return self._run(hand_over)

    async def _run(self, hand_over: HandOver[Observation] | None) -> Treatment | None:
        from crystallize_opt.pipeline.session import open_run
        from crystallize_opt.recording.recorder import RecordedOptimizer

        settings, recipe = self._settings, self._recipe
        storage = settings.storage
        if storage is not None and storage.run is None:
            storage = dataclasses.replace(storage, run=recipe.name or "run")
        recorded = RecordedOptimizer(self._optimizer, storage)
        try:
            if storage is not None:
                from crystallize_opt.recording.description import adopt_seed, describe_recipe

                adopt_seed(recipe, recorded.stored_description)
                recorded.describe(lambda: describe_recipe(recipe, settings.described_replicates))
            in_this_process = settings.workers.in_this_process
            recorded.answer_known(recipe.seed_plugin.seed_of)
            async with open_run(recipe, set_up_steps=in_this_process) as session:
                session.outcome = best = await self._loop.run(session, recorded, hand_over)
            return best
        finally:
            recorded.close()
