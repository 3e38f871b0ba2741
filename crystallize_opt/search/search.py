"""One search: run to its end, or driven by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Unpack

from crystallize_opt.errors import UsageError
from crystallize_opt.optimizers.plain import driven
from crystallize_opt.pipeline.recipe import Recipe
from crystallize_opt.runtime.interruption import Interruption
from crystallize_opt.runtime.stepwise import Ended, HandOver, Stepwise
from crystallize_opt.runtime.sync import run_sync
from crystallize_opt.search.settings import SearchSettings, checked_settings, takes_settings
from crystallize_opt.trials.best import BestSoFar
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.treatment import Treatment

if TYPE_CHECKING:
    from crystallize_opt.history.history import History


@takes_settings
class Search:
    """One search of an experiment by an optimizer.

    `run()` runs it to its end, as `Experiment.optimize` does. A loop over it gives each observation
    as soon as the optimizer has been told, before the optimizer is asked again. In the loop's body
    the search stands still: `random`, numpy's global generator and the signal handlers are the
    caller's. (Worker processes and threads finish what they have begun.) When the loop is left
    early, by `break` or an exception, what is running is given up and told as abandoned, the steps
    are torn down, `after_run` is called, and the storage is closed.

    A search runs once. With a storage, another `Search` of the same experiment continues it.

    Args:
        experiment: What is run.
        optimizer: Any object with `ask`, `tell`, `get_best_treatment` and `objective`.
        num_trials: How many treatments to try, at least 1. The search ends earlier where a finite
            space is used up. Each treatment of an `ask` that gives several counts.
        replicates_per_trial: How often each is run, at least 1.
        **settings: See `SearchSettings`.

    Raises:
        TypeError: The optimizer lacks a method, or there is no such argument.
        UsageError: An argument is out of its range, or the optimizer's space has a parameter that
            the context has already.
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
        replicates_per_trial: int = 1,
        **settings: Unpack[SearchSettings],
    ) -> None:
        self._recipe = experiment
        self._optimizer = driven(optimizer)
        self._settings = checked_settings(
            experiment, self._optimizer, num_trials, replicates_per_trial, settings
        )
        # Not at the top, like the imports of `_run`: only a search needs them, and importing the
        # package would take a quarter longer.
        from crystallize_opt.search.loop import Loop

        self._interruption = Interruption()
        self._loop = Loop(self._settings, self._interruption)
        self._has_begun = False
        self._best: BestSoFar | None = None
        self._seen = 0

    @property
    def stop_reason(self) -> str | None:
        """Why the search ended, or is about to end, in words; None while nothing ends it."""
        return self._loop.reason

    @property
    def best(self) -> Observation | None:
        """The best of what the optimizer has been told; None where no trial completed."""
        if self._best is None:
            self._best = BestSoFar(self._optimizer.criterion)
        observations = self._optimizer.observations
        for observation in observations[self._seen :]:
            self._best.add(observation)
        self._seen = len(observations)
        return self._best.best

    @property
    def history(self) -> History:
        """Everything that the optimizer has been told, also before this search."""
        return self._optimizer.history

    def stop(self, reason: str = "stop() was called") -> None:
        """End the search in good order: nothing more is asked, and what runs is told.

        May be called in the loop's body, by callbacks and steps, and from other threads.

        Args:
            reason: Becomes the `stop_reason`, unless the search has one already.
        """
        if self._loop.reason is None:
            self._loop.reason = reason

    def run(self) -> Treatment:
        """Run the search, also within a running event loop; return the optimizer's best treatment.

        Ctrl-C and SIGTERM end the search: nothing more is asked, running trials are told, and the
        best so far is returned. The second time, the search does not wait for running trials.

        Raises:
            StorageError: The run cannot be stored or read.
            RunLocked: Another process, or another search of this one, is writing the run.
            RunChanged: The run was made with other settings; the message says which.
            ReplayDiverged: The optimizer does not repeat its suggestions, for example because its
                library has another version.
            UsageError: Something cannot be sent to another process; or the search has run already.
            TrialsFailedError: Every one of the first trials failed; or one, with
                `failures="raise"`.
            NoCompletedTrialError: No trial completed.
            ExecutorBrokenError: An executor given as an object broke.
            KeyboardInterrupt: The search was interrupted before a trial completed.
        """
        coroutine = self._begin()
        with self._interruption:
            return run_sync(coroutine, self._interruption.on_event_loop)  # type: ignore[return-value]

    async def arun(self) -> Treatment:
        """Run the search from asynchronous code.

        Signals are left to the event loop. When it is cancelled, it cancels the running trials,
        tells them as abandoned, and raises `CancelledError`.
        """
        return await self._begin()  # type: ignore[return-value]

    def __iter__(self) -> Iterator[Observation]:
        """Run the search, and give each observation as soon as the optimizer has been told.

        Raises:
            Exception: What `run` raises, except that a search without a completed trial just ends.
        """
        steps: Stepwise[Observation] = Stepwise(self._begin, self._interruption.on_event_loop)
        while True:
            try:
                with self._interruption:
                    observation = steps.step()
            except Ended:
                return
            try:
                yield observation
            except BaseException:
                with self._interruption:
                    steps.leave()
                raise

    def _begin(
        self, hand_over: HandOver[Observation] | None = None
    ) -> Coroutine[Any, Any, Treatment | None]:
        if self._has_begun:
            raise UsageError(
                "This search has run already. Make another Search; with a storage, and a fresh "
                "optimizer, it continues this one."
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
                recorded.describe(describe_recipe(recipe, settings.replicates))
            in_this_process = settings.workers.in_this_process
            async with open_run(recipe, set_up_steps=in_this_process) as session:
                return await self._loop.run(session, recorded, hand_over)
        finally:
            recorded.close()
