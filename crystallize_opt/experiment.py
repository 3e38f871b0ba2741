"""An experiment: data source, pipeline and plugins, described once and run in several ways."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from os import PathLike
from typing import Any, Literal

from crystallize_opt.errors import UsageError
from crystallize_opt.optimizers.base import BaseOptimizer
from crystallize_opt.pipeline.hypothesis import Hypothesis
from crystallize_opt.pipeline.recipe import Recipe
from crystallize_opt.pipeline.replicate import ReplicateRun
from crystallize_opt.pipeline.result import (
    ExperimentMetrics,
    HypothesisResult,
    Result,
    TreatmentMetrics,
)
from crystallize_opt.pipeline.session import BASELINE, FETCH, open_session
from crystallize_opt.runtime.checks import checked_seed
from crystallize_opt.runtime.interruption import Interruption
from crystallize_opt.runtime.random_state import CallersRandomState
from crystallize_opt.runtime.sync import run_sync
from crystallize_opt.search.callbacks import Callback
from crystallize_opt.search.loop import Search
from crystallize_opt.search.settings import (
    ALL_FAILED_LIMIT,
    Options,
    checked_count,
    checked_options,
)
from crystallize_opt.search.stopping import StopCondition
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.trials.treatment import Treatment
from crystallize_opt.workers.limits import TrialLimits


class Experiment(Recipe):
    """What is tried: a data source, a pipeline, and plugins around them.

    Args:
        datasource: Provides the input of every replicate.
        pipeline: What is run on it.
        plugins: Called around the run. A `SeedPlugin` is added where there is none.
        name: For people.
        initial_ctx: Context keys that every replicate starts with.
        seed: The seed the replicates' seeds come from; short for `plugins=[SeedPlugin(seed)]`.

    Example:
        >>> from crystallize_opt import Objective, Treatment, data_source, pipeline_step
        >>> from crystallize_opt.adapters import GridOptimizer
        >>> @data_source
        ... def numbers(ctx):
        ...     return [1, 2, 3]
        >>> @pipeline_step()
        ... def total(data, ctx, *, delta=0):
        ...     ctx.metrics.add("total", sum(x + delta for x in data))
        ...     return data
        >>> experiment = Experiment(numbers(), Pipeline([total()]), seed=0)
        >>> result = experiment.run(treatments=[Treatment("plus one", {"delta": 1})], replicates=2)
        >>> result.metrics.treatments["plus one"].metrics["total"]
        [9, 9]
        >>> optimizer = GridOptimizer({"delta": [0, 1, 2]}, Objective("total", "maximize"))
        >>> experiment.optimize(optimizer, num_trials=3).params["delta"]
        2
    """

    stop_reason: str | None = None

    def search_space(self) -> SearchSpace:
        """Collect the search space from the steps' `Annotated[...]` parameters.

        Raises:
            SpaceError: The same name is annotated with two different ranges.
        """
        return self.pipeline.search_space()

    def run(
        self,
        *,
        treatments: Sequence[Treatment] = (),
        hypotheses: Sequence[Hypothesis] = (),
        replicates: int = 1,
    ) -> Result:
        """Run the baseline and every treatment, and check the hypotheses.

        A failed replicate does not end the run; it is in `Result.errors`. A treatment that failed
        in every replicate has no metrics, and no hypothesis is checked on it (on no treatment,
        where that is the baseline).

        The hypotheses are checked before the steps are torn down.

        Args:
            treatments: With different names. One called "baseline" changes the baseline.
            hypotheses: Checked on the metrics of all replicates; they need a treatment.
            replicates: How often each is run, at least 1.

        Raises:
            UsageError: An argument is out of its range.
            UnknownMetricError: A hypothesis names a metric that was not recorded.
        """
        return run_sync(self._run(list(treatments), list(hypotheses), replicates))

    def apply(
        self, treatment: Treatment | None = None, *, data: Any = FETCH, seed: int | None = None
    ) -> Any:
        """Run the pipeline once, as one replicate of `run`, and return the last step's data.

        Args:
            treatment: What to apply; None for the baseline.
            data: The pipeline's input, instead of the data source's.
            seed: The replicate's seed, instead of the `SeedPlugin`'s.

        Raises:
            UsageError: The seed is no whole number in [0, 2**32).
            Exception: Whatever a step raised.
        """
        return run_sync(self._apply(treatment, data, seed))

    def optimize(
        self,
        optimizer: BaseOptimizer,
        num_trials: int,
        replicates_per_trial: int = 1,
        *,
        executor: Any = None,
        max_concurrency: int = 1,
        batch: bool = False,
        limits: TrialLimits | None = None,
        workers: Any = None,
        retries: int = 0,
        stop: StopCondition | Sequence[StopCondition] = (),
        on_failure: Literal["tell", "raise"] = "tell",
        all_failed_limit: int | None = ALL_FAILED_LIMIT,
        storage: str | PathLike[str] | None = None,
        run: str | None = None,
        resume: Literal["exact", "attach"] = "exact",
        callbacks: Sequence[Callback] = (),
        progress: bool | None = None,
    ) -> Treatment:
        """Search: ask, run, average over the replicates, tell, `num_trials` times.

        Replicate r has the same seed in every trial. A failed trial does not end the search. It
        works in scripts and inside a running event loop (Jupyter), with synchronous and
        asynchronous steps.

        Ctrl-C and SIGTERM end the search: nothing more is asked, running trials are told, and the
        best so far is returned. The second time, it does not wait for running trials.

        Args:
            optimizer: Any object with `ask`, `tell`, `get_best_treatment` and `objective`.
            num_trials: How many treatments to try, at least 1. The search ends earlier where a
                finite space is used up. Each treatment of an `ask` that gives several counts.
            replicates_per_trial: How often each is run, at least 1.
            executor: Where trials run. None: in this process. `"processes"`: in processes on this
                machine. `"threads"`. A `concurrent.futures.Executor`. Or a function that makes
                one, which is called again when a dead worker has broken it.
            max_concurrency: How many trials are in flight at most. Without an executor, more than
                1 needs asynchronous steps.
            batch: Ask for `max_concurrency` trials at once, and again when all of them are told;
                for optimizers that choose several points jointly.
            limits: What one trial may take; needs an executor whose workers are processes.
            workers: `Workers`, or a short form of it.
            retries: How often a failed trial is run again.
            stop: Conditions that end the search early: `MaxTime`, `TargetValue`, `NoImprovement`,
                or functions of a `SearchState` that return a reason.
            on_failure: `"tell"`: a failed trial is told, and the search goes on. `"raise"`: it
                ends the search with an error.
            all_failed_limit: The search ends with an error when every one of this many first
                trials has failed. None: never.
            storage: The path of a file, made where there is none, in which every event is stored
                at once. Calling the same line again, with a fresh optimizer, goes on where the run
                ended: finished trials are not run again, those that were running are, and the
                suggestions are those of a run without a break. `num_trials` is the run's total.
            run: The run's name in that file. Default: the experiment's name, or "run".
            resume: `"exact"`: a run that exists goes on exactly, or not at all. `"attach"`: the
                optimizer learns all of its trials, and goes on from there in its own way, also
                where space, objective, optimizer or pipeline have changed.
            callbacks: Called with each event; see `crystallize_opt.search.callbacks`.
            progress: Whether to show a bar. None: where stderr is a terminal, or in a notebook.

        Returns:
            The optimizer's best treatment. Why the search ended is in `.stop_reason`.

        Raises:
            UsageError: An argument is out of its range, the optimizer's space has a parameter that
                the context has already, or something cannot be sent to another process.
            ObjectiveError: The optimizer's objective has no metric, or no known direction.
            StorageError: The run cannot be stored or read.
            RunLocked: Another process is writing the run.
            RunChanged: The run was made with other settings; the message says which.
            ReplayDiverged: The optimizer does not repeat its suggestions, for example because its
                library has another version.
            TrialsFailedError: Every one of the first trials failed; or one, with
                `on_failure="raise"`.
            NoCompletedTrialError: No trial completed.
            ExecutorBrokenError: An executor given as an object broke.
            KeyboardInterrupt: The search was interrupted before a trial completed.
        """
        options = checked_options(
            self,
            optimizer,
            num_trials,
            replicates_per_trial,
            executor=executor,
            max_concurrency=max_concurrency,
            batch=batch,
            limits=limits,
            workers=workers,
            retries=retries,
            stop=stop,
            on_failure=on_failure,
            all_failed_limit=all_failed_limit,
            storage=storage,
            run=run,
            resume=resume,
            callbacks=callbacks,
            progress=progress,
        )
        with Interruption() as interruption:
            return run_sync(
                self._search(optimizer, options, interruption), interruption.on_event_loop
            )

    async def aoptimize(
        self,
        optimizer: BaseOptimizer,
        num_trials: int,
        replicates_per_trial: int = 1,
        *,
        executor: Any = None,
        max_concurrency: int = 1,
        batch: bool = False,
        limits: TrialLimits | None = None,
        workers: Any = None,
        retries: int = 0,
        stop: StopCondition | Sequence[StopCondition] = (),
        on_failure: Literal["tell", "raise"] = "tell",
        all_failed_limit: int | None = ALL_FAILED_LIMIT,
        storage: str | PathLike[str] | None = None,
        run: str | None = None,
        resume: Literal["exact", "attach"] = "exact",
        callbacks: Sequence[Callback] = (),
        progress: bool | None = None,
    ) -> Treatment:
        """Search as `optimize` does, from asynchronous code.

        Signals are left to the event loop. When it is cancelled, it cancels the running trials,
        tells them as abandoned, and raises `CancelledError`.
        """
        options = checked_options(
            self,
            optimizer,
            num_trials,
            replicates_per_trial,
            executor=executor,
            max_concurrency=max_concurrency,
            batch=batch,
            limits=limits,
            workers=workers,
            retries=retries,
            stop=stop,
            on_failure=on_failure,
            all_failed_limit=all_failed_limit,
            storage=storage,
            run=run,
            resume=resume,
            callbacks=callbacks,
            progress=progress,
        )
        return await self._search(optimizer, options, Interruption())

    async def _search(
        self, optimizer: BaseOptimizer, options: Options, interruption: Interruption
    ) -> Treatment:
        recorder = None
        results = _Results()
        in_this_process = options.workers.in_this_process
        if options.storage is not None:
            recorder = options.storage.recorder(self, optimizer, options.replicates)
        try:
            async with open_session(self, set_up_steps=in_this_process) as session:
                search = Search(session, optimizer, options, interruption, results.add, recorder)
                try:
                    best = await search.run()
                finally:
                    self.stop_reason = search.reason
                result = results.result()
        finally:
            if recorder is not None:
                recorder.close()
        self._finish(result)
        return best

    async def _run(
        self, treatments: list[Treatment], hypotheses: list[Hypothesis], replicates: int
    ) -> Result:
        replicates = checked_count("replicates", replicates)
        for given in treatments:
            if not isinstance(given, Treatment):
                raise TypeError(f"treatments= takes a list of Treatment, not {given!r} in it.")
        names = [treatment.name for treatment in treatments]
        if len(set(names)) < len(names):
            raise UsageError(f"Two treatments have the same name: {names!r}.")
        if hypotheses and not set(names) - {BASELINE}:
            raise UsageError(
                "A hypothesis compares treatments with the baseline; give treatments=."
            )
        conditions: dict[str, Treatment | None] = {BASELINE: None}
        conditions.update(zip(names, treatments, strict=True))
        results = _Results()
        async with open_session(self) as session:
            for index in range(replicates):
                for condition, treatment in conditions.items():
                    run = await session.run_replicate(treatment, index, condition=condition)
                    results.add(condition, run)
            result = results.result(hypotheses)
        self._finish(result)
        return result

    async def _apply(self, treatment: Treatment | None, data: Any, seed: int | None) -> Any:
        if seed is not None:
            seed = checked_seed(seed)
        results = _Results()
        async with open_session(self) as session:
            condition = BASELINE if treatment is None else treatment.name
            run = await session.run_replicate(treatment, condition=condition, data=data, seed=seed)
            if run.error is not None:
                raise run.error
            results.add(condition, run)
            result = results.result()
        self._finish(result)
        return run.data

    def _finish(self, result: Result) -> None:
        with CallersRandomState():
            for plugin in self.plugins:
                plugin.after_run(self, result)


class _Results:
    """Gathers the replicates of a run into its `Result`."""

    def __init__(self) -> None:
        self._metrics: dict[str, dict[str, list[Any]]] = {BASELINE: {}}
        self._errors: dict[str, BaseException] = {}
        self._completed: set[str] = set()

    def add(self, condition: str, run: ReplicateRun) -> None:
        metrics = self._metrics.setdefault(condition, {})
        if run.error is not None:
            self._errors[f"{condition}_rep_{run.index}"] = run.error
            return
        self._completed.add(condition)
        for name, values in run.metrics.items():
            metrics.setdefault(name, []).extend(values)

    def result(self, hypotheses: Iterable[Hypothesis] = ()) -> Result:
        baseline = self._metrics[BASELINE]
        treatments = {name: m for name, m in self._metrics.items() if name != BASELINE}
        checked = []
        for hypothesis in hypotheses:
            # What failed in every replicate cannot be compared; the errors are in the result.
            comparable = self._completed if BASELINE in self._completed else ()
            outcomes = {
                name: hypothesis.verify(baseline, metrics)
                for name, metrics in treatments.items()
                if name in comparable
            }
            ranking = hypothesis.rank_treatments(outcomes)
            checked.append(HypothesisResult(hypothesis.name, outcomes, ranking))
        return Result(
            ExperimentMetrics(
                TreatmentMetrics(baseline),
                {name: TreatmentMetrics(metrics) for name, metrics in treatments.items()},
                checked,
            ),
            self._errors,
        )
