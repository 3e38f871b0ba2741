"""One run of an experiment: calls the hooks, sets the steps up, and runs replicates.

`Experiment.run`, `apply` and `optimize` use sessions, and so does every worker process.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from crystallize_opt.errors import Pruned, TeardownError
from crystallize_opt.pipeline.context import FrozenContext, logger
from crystallize_opt.pipeline.fault import Fault
from crystallize_opt.pipeline.recipe import Recipe
from crystallize_opt.pipeline.replicate import ReplicateRun, record_of
from crystallize_opt.pipeline.result import BASELINE, Result, Results
from crystallize_opt.pipeline.seeding import SEED_KEY, BasePlugin, SeedPlugin
from crystallize_opt.runtime.interruption import asks_to_end, pass_on, requests_to_end
from crystallize_opt.runtime.owner import Owner, children_forked
from crystallize_opt.runtime.random_state import CallersRandomState
from crystallize_opt.runtime.sync import resolve, resolve_apart
from crystallize_opt.trials.curves import Listener
from crystallize_opt.trials.raced import condition_of
from crystallize_opt.trials.treatment import Treatment

if TYPE_CHECKING:
    from crystallize_opt.pipeline.steps import PipelineStep

_TEARDOWN_ERRORS = 5
"""How many different errors of a `teardown` to keep."""

FETCH: Any = object()
"""Means that the input is fetched from the data source."""


class Session:
    """One run in progress, between the set-up and the tear-down of the steps.

    Attributes:
        experiment: The experiment.
        results: The replicates of the run so far; code that runs a replicate adds it, or keeps it.
        result: The result that `after_run` gets; None for the final content of `results`.
        outcome: What the caller of the run gets; code that knows it sets it, so that the error of a
            `teardown` has it.
        owner: The process of this session; a child that foreign code forks ends in its `with`.
        context: The experiment's initial context, with the keys that the steps' `setup` added.
        teardown_errors: The distinct errors of `teardown`, and of `after_run` after a complete run.
        keeps_tracebacks: Whether the errors of failed trials keep their tracebacks, and so all data
            in their frames: the error of a search that a failed trial ends has it as its cause.
        callers_random_state: The caller's global generators. Every replicate puts them away; code
            that calls foreign code between replicates puts them back first.
    """

    def __init__(
        self, experiment: Recipe, callers_random_state: CallersRandomState, results: Results
    ) -> None:
        self.experiment = experiment
        self.callers_random_state = callers_random_state
        self.context = experiment.initial_context.child()
        self.results = results
        self.result: Result | None = None
        self.outcome: Any = None
        self.teardown_errors: list[BaseException] = []
        self.owner = Owner()
        self.keeps_tracebacks = False
        self._before_replicate = _overriding(experiment, "before_replicate")
        self._seed_plugins = [each for each in experiment.plugins if isinstance(each, SeedPlugin)]
        self._other_hooks = len(self._before_replicate) > len(self._seed_plugins)
        self._before_step = _overriding(experiment, "before_step")
        self._after_step = _overriding(experiment, "after_step")
        self._after_run = _overriding(experiment, "after_run")

    async def run_replicate(
        self,
        treatment: Treatment | None,
        index: int = 0,
        *,
        condition: str = BASELINE,
        data: Any = FETCH,
        seed: int | None = None,
        listener: Listener | None = None,
    ) -> ReplicateRun:
        """Run data source and pipeline once, with hooks, a seed and private global generators.

        Whatever a step, the data source, a plugin or the treatment raises is caught and returned,
        also `SystemExit`, a panic of a library in Rust, and the `CancelledError` of a task that the
        step itself cancelled. `KeyboardInterrupt` and the cancellation of the run are raised, even
        if a step swallowed them. A child that the code has forked ends here.

        Args:
            treatment: Applied to the context first; None for the baseline.
            index: The number of the replicate, from 0.
            condition: The treatment's name, or "baseline"; the steps read `ctx["condition"]`.
            data: The pipeline's input, instead of the data source's data.
            seed: The replicate's seed, instead of the seed from the `SeedPlugin`.
            listener: Hears the points of the trial's learning curve.
        """
        experiment = self.experiment
        ctx = self.context.child(replicate=index, condition=condition)
        if seed is not None:
            ctx.add(SEED_KEY, seed)
        ctx.listener = listener
        error: BaseException | None = None
        fault: Fault | None = None
        output = None
        started_at, start = time.time(), time.perf_counter()
        self.callers_random_state.put_away()
        requests, children = requests_to_end(), children_forked()
        try:
            with self.owner:
                self._prepare(ctx, treatment, index, seed)
                if data is FETCH:
                    data = experiment.datasource.fetch(ctx)
                    if hasattr(type(data), "__await__"):  # Else save the call of a coroutine.
                        data = await resolve_apart(data)
                output = await experiment.pipeline.execute(
                    data, ctx, before_step=self._before_step, after_step=self._after_step
                )
        except BaseException as exc:
            if asks_to_end(exc, requests):
                raise
            error, fault = exc, _fault_of(exc, index, condition)  # Returned, not swallowed.
        finally:
            ctx.close()
        if requests_to_end() != requests:
            pass_on(requests)
        duration, metrics = time.perf_counter() - start, ctx.metrics.as_dict()
        return ReplicateRun(
            record_of(index, ctx.get(SEED_KEY), metrics, error, started_at, duration, ctx.curves),
            metrics,
            error,
            output,
            # What a forked child asks for stays in the child.
            ctx.asked_for if children_forked() == children else None,
            fault,
        )

    def _prepare(
        self, ctx: FrozenContext, treatment: Treatment | None, index: int, seed: int | None
    ) -> None:
        """Apply the treatment and call the hooks; whatever draws in them, draws after a seed."""
        if self._other_hooks or (treatment is not None and treatment.function is not None):
            for plugin in self._seed_plugins:
                plugin.seed_generators(plugin.seed_of(index) if seed is None else seed)
        if treatment is not None:
            ctx.treat(treatment)
        for before_replicate in self._before_replicate:
            before_replicate(ctx)

    def keep(self, treatment: Treatment, runs: Iterable[ReplicateRun]) -> None:
        """Add replicates of a trial to the results if a plugin's `after_run` reads them."""
        if self._after_run:
            for run in runs:
                self.results.add(condition_of(treatment), run)

    def teardown_failed(self, error: BaseException) -> None:
        """Keep an error of a `teardown` until the end of the run.

        A worker tears the steps down after each trial, so the same error may come often: it is kept
        once. What was measured before stays as it is.
        """
        errors = self.teardown_errors
        if len(errors) < _TEARDOWN_ERRORS and _line(error) not in map(_line, errors):
            errors.append(error)


def _fault_of(error: BaseException, index: int, condition: str) -> Fault | None:
    """Add a note to an exception that ended a replicate, and describe it; a step meant `Pruned`."""
    if isinstance(error, Pruned):
        return None
    error.add_note(f"In replicate {index} of {condition!r}.")
    return Fault.of(error)


@asynccontextmanager
async def open_run(experiment: Recipe, *, set_up_steps: bool = True) -> AsyncIterator[Session]:
    """Open a session, with `before_run` before it and `after_run` after it.

    With `set_up_steps=False` the steps are not set up, because they run in other processes.

    If a plugin's `before_run` returned, its `after_run` is called even if the run ends in an error.
    The hooks run with private global generators, like the replicates.

    Errors of `teardown` and `after_run` are raised last, together, after every `after_run`. If
    another error ended the run, that one is raised, and these errors are logged.

    Raises:
        TeardownError: A `teardown` or an `after_run` failed; the error has the session's `outcome`.
    """
    with CallersRandomState() as callers_random_state:
        owner = Owner()
        begun: list[BasePlugin] = []
        results = Results()
        session: Session | None = None
        try:
            for plugin in _seeding_first(experiment):
                with owner:
                    plugin.before_run(experiment)
                begun.append(plugin)
            session = Session(experiment, callers_random_state, results)
            async with _set_up(session, experiment.pipeline.parts if set_up_steps else ()):
                yield session
        except BaseException:
            callers_random_state.put_away()
            errors = [] if session is None else session.teardown_errors
            _call_after_run(experiment, begun, results.result(), owner, errors.append)
            for error in errors:
                logger.error("%s", _line(error), exc_info=error)
            raise
        callers_random_state.put_away()
        result = session.result or results.result()
        _call_after_run(experiment, begun, result, owner, session.teardown_failed)
        if errors := session.teardown_errors:
            lines = "\n".join(f"  {_line(error)}" for error in errors)
            raise TeardownError(
                f"Everything has run, but what ends a run failed:\n{lines}\nThe result is this "
                "error's attribute: except TeardownError as error: error.result",
                session.outcome,
                errors,
            ) from errors[0]


def _call_after_run(
    experiment: Recipe,
    plugins: Sequence[BasePlugin],
    result: Result,
    owner: Owner,
    keep: Callable[[BaseException], None],
) -> None:
    """Call `after_run` of every plugin, also after one that raises; its error is kept."""
    requests = requests_to_end()
    for plugin in plugins:
        try:
            with owner:
                plugin.after_run(experiment, result)
        except BaseException as error:
            if asks_to_end(error, requests):
                raise
            error.add_note(f"In after_run of {plugin!r}.")
            keep(error)


def _line(error: BaseException) -> str:
    """Return the error and where it happened, in one line."""
    notes: Sequence[str] = getattr(error, "__notes__", ())
    where = notes[-1] if notes else ""
    where = "" if "\n" in where else where  # The traceback of a worker.
    return " ".join(f"{type(error).__name__}: {error} {where}".split())


@asynccontextmanager
async def open_session(experiment: Recipe) -> AsyncIterator[Session]:
    """Open a session in a worker process, without `after_run`: it runs only a part of a run."""
    with CallersRandomState() as callers_random_state:
        for plugin in _seeding_first(experiment):
            plugin.before_run(experiment)
        session = Session(experiment, callers_random_state, Results())
        async with _set_up(session, experiment.pipeline.parts):
            yield session


@asynccontextmanager
async def _set_up(session: Session, steps: Sequence[PipelineStep]) -> AsyncIterator[None]:
    """Set the steps up, and tear them down at the end, even after an exception.

    If a step's `setup` was called, its `teardown` is called, too, even if `setup` raised. Both run
    with private global generators, like the replicates.
    """
    begun: list[PipelineStep] = []
    try:
        for step in steps:
            begun.append(step)
            with session.owner:
                await resolve(step.setup(session.context))
        yield
    finally:
        session.callers_random_state.put_away()
        await _tear_down(begun, session)


async def _tear_down(steps: Sequence[PipelineStep], session: Session) -> None:
    """Tear all steps down, the last one first; the session keeps their errors."""
    if steps:
        requests = requests_to_end()
        try:
            with session.owner:
                await resolve(steps[-1].teardown(session.context))
        except BaseException as error:
            if asks_to_end(error, requests):
                raise
            error.add_note(f"In the teardown of step {steps[-1].name!r}.")
            session.teardown_failed(error)
        finally:
            await _tear_down(steps[:-1], session)


def _seeding_first(experiment: Recipe) -> list[BasePlugin]:
    """Return the plugins in the order of `before_run`, in which any of them may draw numbers."""
    return sorted(experiment.plugins, key=lambda plugin: not isinstance(plugin, SeedPlugin))


def _overriding(experiment: Recipe, hook: str) -> list[Callable[..., None]]:
    """Return the hook of each plugin that overrides it, without its argument `experiment`."""
    inherited = getattr(BasePlugin, hook)
    hooks = [getattr(plugin, hook) for plugin in experiment.plugins]
    return [
        partial(each, experiment)
        for each in hooks
        if getattr(each, "__func__", None) is not inherited
    ]
