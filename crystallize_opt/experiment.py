"""An experiment: data source, pipeline and plugins, described once, then run or optimized."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack

from crystallize_opt.errors import TeardownError, UnreadParameterError, UsageError
from crystallize_opt.pipeline.context import logger
from crystallize_opt.pipeline.function import PlainFunction, no_data
from crystallize_opt.pipeline.hypothesis import Hypothesis, as_hypotheses
from crystallize_opt.pipeline.pipeline import Pipeline
from crystallize_opt.pipeline.recipe import Recipe
from crystallize_opt.pipeline.result import BASELINE, Result
from crystallize_opt.pipeline.seeding import BasePlugin
from crystallize_opt.pipeline.session import FETCH, open_run
from crystallize_opt.pipeline.unread import UnreadCheck
from crystallize_opt.runtime.checks import checked_seed, whole_number
from crystallize_opt.runtime.sync import run_sync
from crystallize_opt.runtime.tracebacks import short_traceback
from crystallize_opt.search.settings import SearchSettings, takes_settings
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.trials.objective import Constraint, Objective
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.treatment import Treatment

if TYPE_CHECKING:
    from crystallize_opt.analysis.confirmation import Confirmation
    from crystallize_opt.history.history import History
    from crystallize_opt.search.adaptive import Adaptive
    from crystallize_opt.search.search import Search

_REMEMBERED = 8
"""How many of the last searches an experiment remembers for `confirm`."""
_UNREAD = "To set a key that no step reads, give the treatment as a function of the context."


class Experiment(Recipe):
    """A data source, a pipeline that runs on its data, and plugins around them.

    Args:
        datasource: Provides the input of every replicate.
        pipeline: The steps that process the input.
        plugins: Called around the run. A `SeedPlugin` is added if none is given.
        name: A name for people; a stored run gets it unless the storage names the run.
        initial_ctx: Context keys that every replicate starts with.
        seed: The seed from which the replicates' seeds are derived; short for
            `plugins=[SeedPlugin(seed)]`.

    Example:
        >>> from crystallize_opt import Objective, Pipeline, Treatment, data_source, pipeline_step
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

    @classmethod
    def of(
        cls,
        function: Callable[..., Any],
        *,
        metric: str | None = None,
        plugins: Iterable[BasePlugin] | None = None,
        name: str | None = None,
        initial_ctx: Mapping[str, Any] | None = None,
        seed: int | None = None,
    ) -> Self:
        """Make the experiment of one function, such as the objective of an optimization library.

        Args:
            function: Takes parameters by name; their annotations are the search space. A parameter
                `ctx` gets the context. Returns a number, or a mapping of metrics, which
                `apply` returns. May be a coroutine function.
            metric: The metric that a returned number is; by default, the function's name.
            plugins: As for `Experiment`.
            name: As for `Experiment`; by default, the function's name.
            initial_ctx: As for `Experiment`.
            seed: As for `Experiment`.

        Raises:
            TypeError: It is no function, or a parameter has no name of its own: `*args` or
                `**kwargs`.

        Example:
            >>> from crystallize_opt import Float, Objective
            >>> from crystallize_opt.adapters import RandomOptimizer
            >>> def loss(x: Float(-10.0, 10.0), y: Float(0.0, 1.0) = 0.5):
            ...     return (x - 2.0) ** 2 + y
            >>> experiment = Experiment.of(loss)
            >>> objective = Objective("loss", "minimize")
            >>> optimizer = RandomOptimizer(experiment.search_space(), objective, seed=0)
            >>> best = experiment.optimize(optimizer, num_trials=100)
            >>> experiment.apply(best) < 1.0
            True
        """
        step = PlainFunction(function, metric)
        return cls(
            no_data(),
            Pipeline([step]),
            plugins,
            name=step.name if name is None else name,
            initial_ctx=initial_ctx,
            seed=seed,
        )

    # What the last calls of `optimize` searched; `confirm` looks a treatment up there.
    _searched: tuple[History, ...] = ()

    def __getstate__(self) -> dict[str, Any]:
        # Workers, and copies that are compared, need no history.
        return {name: value for name, value in vars(self).items() if name != "_searched"}

    def __repr__(self) -> str:
        name = "" if self.name is None else f" {self.name!r}"
        parts = (self.datasource, *self.pipeline.steps)
        steps = " | ".join(
            # By default, the text would hold the address of the object.
            f"{type(each).__name__}()" if type(each).__repr__ is object.__repr__ else repr(each)
            for each in parts
        )
        return f"<Experiment{name}: {steps}; seed {self.seed_plugin.seed}>"

    def search_space(self) -> SearchSpace:
        """Collect the search space from the steps' `Annotated[...]` parameters.

        Raises:
            SpaceError: The same name is annotated with two different ranges.
        """
        return self.pipeline.search_space()

    @short_traceback
    def run(
        self,
        *,
        treatments: Sequence[Treatment] = (),
        hypotheses: Sequence[Hypothesis] = (),
        replicates: int = 1,
    ) -> Result:
        """Run the baseline and every treatment, and check the hypotheses.

        A failed replicate does not end the run: its error is added to `Result.errors`, and logged
        as a warning. If every
        replicate of a treatment failed, the treatment has no metrics, and hypotheses skip it. If
        every replicate of the baseline failed, no hypothesis is checked.

        The hypotheses are checked before the steps are torn down.

        Args:
            treatments: Treatments with distinct names. One called "baseline" changes the baseline.
            hypotheses: Checked on the metrics of all replicates; they need a treatment.
            replicates: How often the baseline and each treatment are run, at least 1.

        Raises:
            UsageError: An argument is out of its range.
            TrialsFailedError: Every replicate of every condition failed.
            UnreadParameterError: No step reads a parameter of a treatment.
            UnknownMetricError: A hypothesis names a metric that was not recorded.
            HypothesisError: A verifier or ranker failed, or a score is not a number; the error's
                `result` has the metrics.
            TeardownError: A `teardown` or an `after_run` failed; the error's `result` is the
                `Result`.
        """
        given = _checked_treatments(treatments)
        return run_sync(self._run(given, as_hypotheses(hypotheses), replicates))

    @short_traceback
    def apply(
        self, treatment: Treatment | None = None, *, data: Any = FETCH, seed: int | None = None
    ) -> Any:
        """Run the pipeline once, as one replicate of `run`, and return the last step's data.

        Args:
            treatment: The treatment to apply; None for the baseline.
            data: The pipeline's input, instead of that of the data source.
            seed: The replicate's seed, instead of that of the `SeedPlugin`.

        Raises:
            UsageError: The seed is not a whole number in [0, 2**32).
            Exception: The exception that a step raised.
            TeardownError: A `teardown` or an `after_run` failed; the error's `result` is the
                data.
        """
        output, unread = run_sync(self._apply(treatment, data, seed))
        if unread is not None:
            # The run is over, so its result is not lost. The frame between is `short_traceback`'s.
            warnings.warn(unread, stacklevel=3)
        return output

    @short_traceback
    @takes_settings
    def optimize(
        self,
        optimizer: Any,
        num_trials: int,
        replicates_per_trial: int | Adaptive = 1,
        **settings: Unpack[SearchSettings],
    ) -> Treatment:
        """Let an optimizer search for the best treatment, and return it.

        Each trial asks the optimizer for a treatment, runs its replicates, and tells the optimizer
        the mean of each metric. Replicate r has the same seed in every trial. A failed trial does
        not end the search. The method works in scripts and in a running event loop (Jupyter), with
        synchronous and asynchronous steps. It is short for `Search(experiment, ...).run()`: use a
        `Search` to see each observation as it comes, or to learn why the search ended.

        Ctrl-C or SIGTERM ends the search: no more trials start, running trials finish, and the best
        treatment so far is returned. After a second signal, running trials are abandoned.

        Args:
            optimizer: Any object with `ask`, `tell`, `get_best_treatment` and `objective`.
            num_trials: How many treatments to try, at least 1; of a stored run, in all, with those
                that were tried before. If `ask` returns several treatments, each one counts. The
                search ends earlier if a finite space is exhausted.
            replicates_per_trial: How often each treatment is run, at least 1. Or `Adaptive(2, 10)`:
                twice, and up to ten times if it could still be the best.
            **settings: See `SearchSettings`.

        Returns:
            The optimizer's best treatment.

        Raises:
            CrystallizeOptError: See `Search` and `Search.run`.
            TeardownError: A `teardown` or an `after_run` failed; the error's `result` is the
                best treatment.
            KeyboardInterrupt: The search was interrupted before a trial completed.
        """
        from crystallize_opt.search.search import Search  # Only a search needs all of that.

        search = Search(self, optimizer, num_trials, replicates_per_trial, **settings)
        try:
            best = search.run()
        except TeardownError:  # Its `result` is the best treatment, which may be confirmed.
            self._remember(search)
            raise
        self._remember(search)
        return best

    @short_traceback
    @takes_settings
    async def aoptimize(
        self,
        optimizer: Any,
        num_trials: int,
        replicates_per_trial: int | Adaptive = 1,
        **settings: Unpack[SearchSettings],
    ) -> Treatment:
        """Search as `optimize` does, from asynchronous code.

        The event loop handles signals. A search that is cancelled cancels its running trials,
        reports them to the optimizer as abandoned, and raises `CancelledError`.

        Args:
            optimizer: As in `optimize`.
            num_trials: As in `optimize`.
            replicates_per_trial: As in `optimize`.
            **settings: See `SearchSettings`.
        """
        from crystallize_opt.search.search import Search

        search = Search(self, optimizer, num_trials, replicates_per_trial, **settings)
        try:
            best = await search.arun()
        except TeardownError:
            self._remember(search)
            raise
        self._remember(search)
        return best

    def _remember(self, search: Search) -> None:
        self._searched = (search.history, *self._searched[: _REMEMBERED - 1])

    @short_traceback
    def confirm(
        self,
        candidates: Treatment | Observation | History | Sequence[Treatment | Observation],
        replicates: int = 20,
        *,
        baseline: Treatment | Observation | Literal[True] | None = None,
        objective: Objective | Sequence[Objective] | None = None,
        constraints: Sequence[Constraint] | None = None,
        alpha: float = 0.05,
        test: str = "auto",
        hypotheses: Sequence[Hypothesis] = (),
        workers: Any = None,
        storage: Any = None,
        progress: bool | Literal["log"] | None = False,
    ) -> Confirmation:
        """Test candidates against the baseline on fresh seeds: are they really better?

        The best of many noisy trials looks better than it is, and a test on the search's own
        replicates repeats that. A confirmation runs candidates and baseline anew, on seeds that no
        search or run of this experiment uses, and with the same seeds for all: a paired comparison.

        Args:
            candidates: The treatment that `optimize` returned; an observation; several of them; or
                a `History`, whose best trial is tested.
            replicates: How many pairs to run, at least 2; with `test="sequential"`, at most.
            baseline: What to compare with. None: the baseline of the search that chose the
                candidates, or else the untreated experiment, as with True.
            objective: What counts. None: the objectives of the history, or of the search of
                this experiment that found a candidate (the last eight `optimize` are remembered).
            constraints: Outcome constraints, which the candidates' means have to satisfy. None:
                those of the search.
            alpha: The probability of at most this is an error among all verdicts, in (0, 1).
            test: `"t"`, `"wilcoxon"` or `"permutation"`, all of paired differences and two-sided;
                or `"sequential"`, which looks after every four pairs and stops as soon as the
                evidence suffices, at the same error rate. `"auto"`: the permutation test if there
                are enough pairs for its p-value to reach alpha, else the t-test.
            hypotheses: Verified on the fresh replicates; see `Confirmation.hypotheses`.
            workers: As in `optimize`. Each replicate is a trial of its own.
            storage: As in `optimize`; the same call again continues. By default, each question
                is a run of its own in the file.
            progress: As in `optimize`.

        Returns:
            The `Confirmation`: print it, or read `verdict`, `effect`, `interval`, `p_value`, and
            `winner`. A candidate with a failed replicate gets the verdict "failed".

        Raises:
            UsageError: An argument is out of its range, or the objective is not known.
            TrialsFailedError: The first replicates failed.
            TeardownError: A `teardown` or an `after_run` failed; the error's `result` is the
                `Confirmation`.
            MissingExtraError: SciPy is not installed.
            KeyboardInterrupt: The confirmation was interrupted.
        """
        from crystallize_opt.analysis.confirm import confirm

        return confirm(
            self,
            candidates,
            replicates=replicates,
            baseline=baseline,
            objective=objective,
            constraints=constraints,
            alpha=alpha,
            test=test,
            hypotheses=hypotheses,
            workers=workers,
            storage=storage,
            progress=progress,
            known=self._searched,
        )

    async def _run(
        self, treatments: Sequence[Treatment], hypotheses: Sequence[Hypothesis], replicates: int
    ) -> Result:
        replicates = whole_number("replicates", replicates)
        names = [treatment.name for treatment in treatments]
        if len(set(names)) < len(names):
            raise UsageError(f"Two treatments have the same name: {names!r}.")
        if hypotheses and not set(names) - {BASELINE}:
            raise UsageError(
                "A hypothesis compares treatments with the baseline; give treatments=."
            )
        conditions: dict[str, Treatment | None] = {BASELINE: None}
        conditions.update(zip(names, treatments, strict=True))
        unread = UnreadCheck(self, _UNREAD)
        async with open_run(self) as session:
            for index in range(replicates):
                for condition, treatment in conditions.items():
                    run = await session.run_replicate(treatment, index, condition=condition)
                    session.results.add(condition, run)
                    if run.error is not None:
                        logger.warning("%s, replicate %d: %s", condition, index, run.record.error)
                    elif treatment is not None:
                        unread.check(treatment, [run])
            session.results.refuse_only_failures()
            session.result = session.outcome = session.results.result(hypotheses)
        return session.result

    async def _apply(
        self, treatment: Treatment | None, data: Any, seed: int | None
    ) -> tuple[Any, str | None]:
        """Return the last step's data, and a text about parameters that no step read."""
        if seed is not None:
            seed = checked_seed(seed)
        if treatment is not None:
            _check_treatment("apply() takes a Treatment", treatment)
        async with open_run(self) as session:
            condition = BASELINE if treatment is None else treatment.name
            run = await session.run_replicate(treatment, condition=condition, data=data, seed=seed)
            session.results.add(condition, run)
            if run.error is not None:
                raise run.error
            session.outcome = run.data
        if treatment is not None:
            try:
                UnreadCheck(self, _UNREAD).check(treatment, [run])
            except UnreadParameterError as error:
                return run.data, str(error)
        return run.data, None


def _checked_treatments(given: Any) -> list[Treatment]:
    treatments = list(given) if isinstance(given, Iterable) else [given]
    if isinstance(given, Treatment) or treatments == [None]:
        raise TypeError(f"treatments= takes a list of Treatment, [treatment], not {given!r}.")
    for each in treatments:
        _check_treatment("treatments= takes a list of Treatment", each)
    return treatments


def _check_treatment(what: str, given: Any) -> None:
    if not isinstance(given, Treatment):
        raise TypeError(
            f"{what}, but {given!r} is not one. Give parameters a name: Treatment('mine', {{...}})."
        )
