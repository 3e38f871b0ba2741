"""The trial loop: ask, run the replicates, average, tell. The one loop of every search."""

from __future__ import annotations

import dataclasses
import inspect
import operator
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crystallize_opt.callbacks import (
    Callback,
    Event,
    RunStarted,
    RunStopped,
    TrialAsked,
    TrialCompleted,
    TrialFailed,
    TrialStarted,
    TrialStored,
    TrialTold,
    notify,
)
from crystallize_opt.context import logger
from crystallize_opt.errors import (
    ExecutorBrokenError,
    NoCompletedTrialError,
    ObjectiveError,
    SpaceExhausted,
    TrialsFailedError,
    UsageError,
)
from crystallize_opt.event_loop import resolve
from crystallize_opt.execution import Trial, ended
from crystallize_opt.in_process import Concurrent, InProcess
from crystallize_opt.interruption import Interruption
from crystallize_opt.limits import TrialLimits
from crystallize_opt.objective import Objective, as_objectives
from crystallize_opt.observation import Observation, Status
from crystallize_opt.optimizer import BaseOptimizer, SpaceOptimizer
from crystallize_opt.progress import ProgressBar, wants_progress
from crystallize_opt.session import REPLICATE_KEYS, ReplicateRun, Session, run_of
from crystallize_opt.stopping import SearchState, StopCondition, as_conditions
from crystallize_opt.treatment import Treatment

if TYPE_CHECKING:
    from crystallize_opt.executors import Workers
    from crystallize_opt.experiment import Experiment
    from crystallize_opt.recorder import Recorder

ALL_FAILED_LIMIT = 10
"""A search ends with an error where every one of this many first trials failed."""

_NO_FAILURE = (Status.COMPLETED, Status.PRUNED)
_FAILURE = (*(status for status in Status if status not in (*_NO_FAILURE, Status.ABANDONED)),)
_RETRIED = (Status.FAILED, Status.TIMED_OUT, Status.OUT_OF_MEMORY, Status.WORKER_DIED)


@dataclass(frozen=True, slots=True)
class Storage:
    """Where a search is stored, and how it goes on."""

    path: str | os.PathLike[str]
    run: str
    resume: str

    def recorder(self, experiment: Experiment, optimizer: Any, replicates: int) -> Recorder:
        """Open the run for writing."""
        from crystallize_opt.recorder import Recorder

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
    executor: Any
    max_concurrency: int
    batch: bool
    limits: TrialLimits
    stop: tuple[StopCondition, ...]
    raise_failures: bool
    all_failed_limit: int | None
    storage: Storage | None
    callbacks: tuple[Callback, ...]


def checked_options(
    experiment: Experiment,
    optimizer: BaseOptimizer,
    num_trials: int,
    replicates_per_trial: int,
    *,
    executor: Any,
    max_concurrency: int,
    batch: bool,
    limits: TrialLimits | None,
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
    check_arguments(experiment, optimizer, num_trials, replicates_per_trial)
    checked_count("max_concurrency", max_concurrency)
    limits = limits or TrialLimits()
    if not isinstance(limits, TrialLimits):
        raise UsageError(f"limits= takes TrialLimits(...), not {limits!r}.")
    if on_failure not in ("tell", "raise"):
        raise UsageError(f"on_failure= is 'tell' or 'raise', not {on_failure!r}.")
    if all_failed_limit is not None:
        checked_count("all_failed_limit", all_failed_limit)
    stored = _checked_storage(storage, run, resume, experiment.name)
    for callback in callbacks:
        if not callable(callback) or isinstance(callback, type):
            raise UsageError(f"A callback is called with each event; {callback!r} cannot be.")
    if executor is None:
        _check_in_process(experiment, max_concurrency, limits)
    else:
        from crystallize_opt.executors import check_executor, is_threads, refuse_limits

        check_executor(executor)
        if limits.need_processes and is_threads(executor):
            refuse_limits("threads", limits)
    if wants_progress(progress):
        callbacks = (*callbacks, ProgressBar())
    return Options(
        num_trials=checked_count("num_trials", num_trials),
        replicates=checked_count("replicates_per_trial", replicates_per_trial),
        executor=executor,
        max_concurrency=checked_count("max_concurrency", max_concurrency),
        batch=bool(batch),
        limits=limits,
        stop=as_conditions(stop, _objectives_of(optimizer)),
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
    run = run if run is not None else name or "run"
    if not isinstance(run, str) or not run:
        raise UsageError(f"run= is the name of a run, not {run!r}.")
    return Storage(storage, run, resume)


def _check_in_process(experiment: Experiment, max_concurrency: int, limits: TrialLimits) -> None:
    if limits.need_processes:
        from crystallize_opt.executors import refuse_limits

        refuse_limits("this process", limits)
    if max_concurrency > 1 and not _is_asynchronous(experiment):
        raise UsageError(
            f"max_concurrency={max_concurrency} without an executor needs asynchronous steps: "
            'synchronous ones would run one after the other. Give executor="processes" or '
            '"threads".'
        )


def _is_asynchronous(experiment: Experiment) -> bool:
    for each in (experiment.datasource, *experiment.pipeline.steps):
        parameters = getattr(each, "_parameters", None)  # of a decorated function
        works = getattr(parameters, "function", None) or getattr(each, "fetch", type(each).__call__)
        if inspect.iscoroutinefunction(works):
            return True
    return False


def check_arguments(
    experiment: Experiment, optimizer: BaseOptimizer, num_trials: int, replicates_per_trial: int
) -> None:
    """Refuse what cannot be run, before anything is.

    Raises:
        UsageError: A number is no whole number of at least 1, or the optimizer's space has a
            parameter that the context has already.
        ObjectiveError: The optimizer's objective has no metric, or no known direction.
        TypeError: The optimizer lacks a method.
    """
    checked_count("num_trials", num_trials)
    checked_count("replicates_per_trial", replicates_per_trial)
    needed = ("ask", "tell", "get_best_treatment", "objective")
    if isinstance(optimizer, type) or (
        missing := [name for name in needed if not hasattr(optimizer, name)]
    ):
        what = "a class; build it first" if isinstance(optimizer, type) else f"without {missing}"
        raise TypeError(f"An optimizer has {', '.join(needed)}; {optimizer!r} is {what}.")
    _objectives_of(optimizer)
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


class Search:
    """One search in progress.

    Args:
        session: The run in progress.
        optimizer: What suggests. It is used in this thread only.
        options: What was asked for.
        interruption: Ctrl-C and SIGTERM.
        workers: The executor; None to run trials in process.
        on_replicate: Called with the treatment's name and each finished replicate.
        recorder: Writes the search down; None where nothing is stored.

    Attributes:
        reason: Why the search ends; None while it goes on.
    """

    def __init__(
        self,
        session: Session,
        optimizer: Any,
        options: Options,
        interruption: Interruption,
        workers: Workers | None,
        on_replicate: Callable[[str, ReplicateRun], None],
        recorder: Recorder | None = None,
    ) -> None:
        self.reason: str | None = None
        self._optimizer = optimizer
        self._ours = isinstance(optimizer, SpaceOptimizer)
        self._options = options
        self._interruption = interruption
        self._on_replicate = on_replicate
        self._recorder = recorder
        self._objectives = _objectives_of(optimizer)
        self._required = required_metrics(optimizer)
        # Only where the optimizer hears of replicates, they come back one by one.
        self._reports = options.replicates > 1 and self._ours and _listens(optimizer)
        self._asked: deque[Trial] = deque()
        self._running: dict[Trial, None] = {}
        self._in_order: dict[Trial, Observation | None] = {}
        self._failures: list[Observation] = []
        self._count = self._done = self._completed = 0
        self._error: BaseException | None = None
        self._began = time.monotonic()
        self._state = SearchState(self._objectives, getattr(optimizer, "constraints", ()))
        self._runner, self._theirs, self._ours_again = self._make_runner(session, workers)

    def _make_runner(
        self, session: Session, workers: Workers | None
    ) -> tuple[Any, Callable[[], None], Callable[[], None]]:
        """Return what runs trials, and what to call before and after code that is not the trials'.

        In between, `random` and numpy's global generator are the caller's, where that is possible:
        not while threads use them.
        """
        options, state = self._options, session.callers_random_state
        if workers is None:
            if options.max_concurrency > 1:
                return Concurrent(session, self._interruption), state.put_back, state.put_away
            may_draw = (
                not self._ours
                or self._optimizer.may_use_global_random_state
                or options.callbacks
                or options.stop
            )
            put_back = state.put_back if may_draw else _nothing
            return InProcess(session, self._interruption), put_back, _nothing
        if not workers.are_threads:
            state.put_back()
        runner = workers.runner(session, self._interruption, options.limits, self._optimizer)
        return runner, _nothing, _nothing

    async def run(self) -> Treatment:
        """Run the search and return the optimizer's best treatment."""
        options = self._options
        resumed = await self._take_up()
        if options.callbacks:
            self._emit(
                RunStarted(
                    type(self._optimizer).__name__,
                    self._objectives,
                    options.num_trials,
                    options.replicates,
                    options.max_concurrency,
                    tuple(resumed),
                )
            )
        best: Treatment | None = None
        try:
            try:
                await self._search()
            except GeneratorExit:
                raise
            except BaseException as error:
                self._error = error
                self.reason = self.reason or f"{type(error).__name__}: {error}"
                await self._settle()
                if isinstance(error, ExecutorBrokenError):
                    error.best = await self._best_or_none()
                raise
            best = await self._best()
            return best
        except BaseException as error:
            self._error = error
            raise
        finally:
            self.reason = self.reason or f"{type(self._error).__name__}: {self._error}"
            self._runner.close(now=self._interruption.count > 1)
            logger.info("The search ends after %d trials: %s", self._done, self.reason)
            if options.callbacks:
                self._emit(RunStopped(self.reason, best, self._error))

    async def _take_up(self) -> list[Observation]:
        """Go on with a stored run where it ended; return the trials that are finished."""
        if self._recorder is None:
            return []
        self._theirs()
        try:
            taken = await self._recorder.take_up(self._ask_once, self._tell_once)
        finally:
            self._ours_again()
        self._count, self._done = taken.count, len(taken.observations)
        untold = {id(observation) for _, observation in taken.in_order}
        for observation in taken.observations:
            self._completed += observation.status in _NO_FAILURE
            if observation.status in _FAILURE:
                self._failures.append(observation)
            if self._options.stop and id(observation) not in untold:
                self._state.add(observation)
            for replicate in observation.replicates:
                self._on_replicate(observation.treatment.name, run_of(replicate))
        for trial in taken.trials:
            if not self._reports:
                trial.last = self._options.replicates
            self._asked.append(trial)
        self._in_order.update(taken.in_order)
        return [each for each in taken.observations if id(each) not in untold]

    async def _search(self) -> None:
        runner, interruption = self._runner, self._interruption
        while True:
            if self.reason is None:
                await self._fill()
            if not self._running:
                if not self._asked:
                    break
                self._give_up_asked()
                await self._tell_in_order()
                break
            finished = await runner.wait()
            if interruption.count:
                await self._interrupted()
            for trial, done in finished:
                if trial in self._running:
                    await self._take(trial, done)
            if runner.failure is not None:
                raise runner.failure
        self.reason = self.reason or f"{self._done} trials have been run"

    async def _fill(self) -> None:
        """Ask for trials, and start them, while there are free workers."""
        options, running = self._options, self._running
        while self.reason is None and len(running) < options.max_concurrency:
            if not self._asked:
                if self._count >= options.num_trials:
                    return
                if running and (options.batch or not self._ours):
                    # A plain optimizer may not know of several pending trials: it hears of all it
                    # has suggested before it is asked again.
                    return
                if self._interruption.count:
                    await self._interrupted()
                    return
                if options.stop and self._should_stop():
                    return
                if not await self._ask():
                    return
            trial = self._asked.popleft()
            running[trial] = None
            self._start(trial)

    async def _ask(self) -> bool:
        options, recorder = self._options, self._recorder
        self._theirs()
        try:
            if recorder is not None:
                recorder.before_ask()
            treatments = await self._ask_once()
            if recorder is not None:
                recorder.asked(treatments)
        except SpaceExhausted as end:
            if not self._count:
                raise
            self.reason = f"the search space is used up: {end}"
            return False
        finally:
            self._ours_again()
        for treatment in treatments:
            trial = Trial(treatment, 1 if self._reports else options.replicates)
            self._asked.append(trial)
            if not self._ours:
                self._in_order[trial] = None
        self._count += len(treatments)
        if options.callbacks:
            for treatment in treatments:
                self._emit(TrialAsked(treatment))
        return True

    async def _ask_once(self) -> list[Treatment]:
        options = self._options
        if options.batch and self._ours:
            number = min(options.max_concurrency, options.num_trials - self._count)
            asked = self._optimizer.ask(number)
        else:
            asked = self._optimizer.ask()
        if type(asked) is not list:  # A coroutine, perhaps.
            asked = await resolve(asked)
        return _checked_treatments(asked)

    def _start(self, trial: Trial) -> None:
        self._runner.start(trial)
        if self._options.callbacks and not trial.done:
            self._emit(TrialStarted(trial.treatment, trial.attempt))

    async def _take(self, trial: Trial, done: Any) -> None:
        """Go on with a trial that has finished its turn, or tell it."""
        trial.done.extend(done)
        replicate = done[-1][1]
        status, pruned = replicate.status, False
        if status is Status.COMPLETED and len(trial.done) < self._options.replicates:
            self._theirs()
            pruned = self._optimizer.report(trial.treatment, replicate.index, replicate)
            self._ours_again()
            if self._recorder is not None:
                self._recorder.reported(replicate)
            if not pruned and not self._interruption.count:
                trial.seconds += replicate.duration or 0.0
                trial.last += 1
                self._start(trial)
                return
            if not pruned:
                trial.done.append(ended(len(trial.done), Status.ABANDONED, _INTERRUPTED))
        elif (
            status in _RETRIED
            and trial.attempt <= self._options.limits.retries
            and not self._interruption.count
        ):
            trial.attempt += 1
            trial.done.clear()
            trial.seconds = 0.0
            trial.last = 1 if self._reports else self._options.replicates
            self._start(trial)
            return
        del self._running[trial]
        replicates = []
        for run, replicate in trial.done:
            self._on_replicate(trial.treatment.name, run)
            replicates.append(replicate)
        observation = Observation.of_replicates(trial.treatment, replicates).checked(self._required)
        if pruned and observation.status is Status.COMPLETED:
            observation = dataclasses.replace(observation, status=Status.PRUNED)
        await self._finish(trial, observation)
        if observation.status in _FAILURE:
            self._failed(observation, trial)

    async def _finish(self, trial: Trial, observation: Observation) -> None:
        if self._recorder is not None:
            self._recorder.finished(observation)
            if self._options.callbacks and observation.status is not Status.ABANDONED:
                self._emit(TrialStored(observation))
        self._done += 1
        self._completed += observation.status in _NO_FAILURE
        if self._options.callbacks:
            failed = observation.status not in _NO_FAILURE
            self._emit(TrialFailed(observation) if failed else TrialCompleted(observation))
        if self._ours:
            await self._tell(observation)
        else:
            self._in_order[trial] = observation
            await self._tell_in_order()

    async def _tell_in_order(self) -> None:
        """Tell a plain optimizer what is finished, in the order in which it suggested it."""
        while self._in_order:
            trial, observation = next(iter(self._in_order.items()))
            if observation is None:
                return
            del self._in_order[trial]
            await self._tell(observation)

    async def _tell(self, observation: Observation) -> None:
        self._theirs()
        try:
            await self._tell_once(observation)
        finally:
            self._ours_again()
        if self._recorder is not None:
            self._recorder.sync()
        if self._options.stop:
            self._state.add(observation)
        if self._options.callbacks:
            self._emit(TrialTold(observation))

    async def _tell_once(self, observation: Observation) -> None:
        told = self._optimizer.tell(
            observation if self._ours else _plain(observation, self._objectives)
        )
        if told is not None:  # A coroutine, perhaps.
            await resolve(told)

    def _failed(self, observation: Observation, trial: Trial) -> None:
        self._failures.append(observation)
        if self._options.raise_failures:
            name, error = observation.treatment.name, trial.done[-1][0].error
            raise TrialsFailedError(
                f"Trial {name!r}, {dict(observation.treatment.params)!r}: "
                f"{observation.status.value}, {observation.error}"
            ) from error
        limit = self._options.all_failed_limit
        if len(self._failures) == self._done and limit is not None and self._done >= limit:
            # The trials of one ask are one step of the search.
            if self._asked and not self._running:
                return
            raise TrialsFailedError(_causes(self._failures))

    def _should_stop(self) -> bool:
        self._state.elapsed = time.monotonic() - self._began
        self._theirs()
        try:
            for condition in self._options.stop:
                if reason := condition(self._state):
                    name = getattr(condition, "__name__", repr(condition))
                    self.reason = reason if isinstance(reason, str) else f"{name} said so"
                    return True
        finally:
            self._ours_again()
        return False

    async def _interrupted(self) -> None:
        """No new trials. What runs is waited for, or given up the second time."""
        if self.reason is None:
            self.reason = f"interrupted by {self._interruption.cause}"
            self._runner.cancel_queued()
        if self._interruption.count > 1:
            await self._settle()

    def _give_up_asked(self) -> None:
        self._running.update(dict.fromkeys(self._asked))
        self._asked.clear()

    async def _settle(self) -> None:
        """Give up everything that is running, and tell it."""
        for trial, done in await self._runner.abandon():
            trial.done.extend(done)
        self._give_up_asked()
        for trial in list(self._running):
            del self._running[trial]
            if self._goes_on(trial):
                why = f"Given up: {self.reason}"
                trial.done.append(ended(len(trial.done), Status.ABANDONED, why))
            replicates = [replicate for _, replicate in trial.done]
            observation = Observation.of_replicates(trial.treatment, replicates)
            observation = observation.checked(self._required)
            if self._error is None:
                await self._finish(trial, observation)
                continue
            try:
                await self._finish(trial, observation)
            except Exception:  # noqa: BLE001  (the error that ends the search is the one to see)
                logger.exception("%r could not be told.", trial.treatment.name)

    def _goes_on(self, trial: Trial) -> bool:
        """Whether a trial lacks replicates, and none has failed."""
        if len(trial.done) == self._options.replicates:
            return False
        return not trial.done or trial.done[-1][1].status is Status.COMPLETED

    async def _best(self) -> Treatment:
        try:
            if not self._completed and not self._ours:
                # An optimizer that knows no failures would call one of these trials the best.
                raise NoCompletedTrialError(_causes(self._failures))
            return await resolve(self._optimizer.get_best_treatment())
        except NoCompletedTrialError as error:
            if self._interruption.count:
                raise (self._interruption.error or KeyboardInterrupt(self.reason)) from error
            raise

    async def _best_or_none(self) -> Treatment | None:
        try:
            return await self._best()
        except Exception:  # noqa: BLE001  (whatever a foreign optimizer raises without a trial)
            return None

    def _emit(self, event: Event) -> None:
        self._theirs()
        notify(self._options.callbacks, event)
        self._ours_again()


_INTERRUPTED = "The search was interrupted."


def _listens(optimizer: Any) -> bool:
    """Whether an optimizer wants to hear of single replicates."""
    return optimizer.capabilities.pruning or type(optimizer).report is not SpaceOptimizer.report


def required_metrics(optimizer: Any) -> Sequence[str]:
    """Return the metrics that a completed trial has."""
    if isinstance(optimizer, SpaceOptimizer):
        return optimizer.required_metrics
    return [objective.metric for objective in _objectives_of(optimizer)]


def _objectives_of(optimizer: Any) -> tuple[Objective, ...]:
    """Return the objectives of an optimizer, which may use a class of its own for them."""
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


def _plain(observation: Observation, objectives: Sequence[Objective]) -> Observation:
    """Return what an optimizer is told that is written to the plain protocol.

    It reads a mapping of just its metric and knows no status. A trial that did not complete has the
    infinity that loses, so that it is told at all and never chosen.
    """
    completed = observation.status is Status.COMPLETED
    metrics = {
        each.metric: observation[each.metric] if completed else each.worst for each in objectives
    }
    return dataclasses.replace(observation, metrics=metrics)


def _checked_treatments(asked: Any) -> list[Treatment]:
    treatments = list(asked) if isinstance(asked, (list, tuple)) else []
    if not treatments or not all(isinstance(treatment, Treatment) for treatment in treatments):
        raise TypeError(f"ask() returns a list with at least one Treatment, not {asked!r}.")
    return treatments


def _causes(failures: list[Observation]) -> str:
    causes: dict[str, list[str]] = {}
    for failure in failures:
        name = failure.treatment.name
        # The error names the trial it happened in.
        cause = f"{failure.status.value}: {failure.error}".replace(repr(name), "<trial>")
        causes.setdefault(cause, []).append(name)
    lines = [f"  {len(names)} x {cause}" for cause, names in causes.items()]
    return f"Every one of the first {len(failures)} trials failed:\n" + "\n".join(lines)


def _nothing() -> None:
    pass
