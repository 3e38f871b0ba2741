"""The trial loop: ask, run the replicates, average, tell. The one loop of every search."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from crystallize_opt.errors import (
    ExecutorBrokenError,
    NoCompletedTrialError,
    SpaceExhausted,
    TrialsFailedError,
)
from crystallize_opt.optimizers.space_optimizer import SpaceOptimizer
from crystallize_opt.pipeline.context import logger
from crystallize_opt.pipeline.replicate import ReplicateRun, run_of
from crystallize_opt.pipeline.session import Session
from crystallize_opt.runtime.interruption import Interruption
from crystallize_opt.runtime.sync import resolve
from crystallize_opt.search.callbacks import (
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
from crystallize_opt.search.settings import Options, objectives_of, required_metrics
from crystallize_opt.search.stopping import SearchState
from crystallize_opt.trials.objective import Objective
from crystallize_opt.trials.observation import Observation, Status
from crystallize_opt.trials.treatment import Treatment
from crystallize_opt.workers.in_process import Concurrent, InProcess
from crystallize_opt.workers.trial import Trial, ended

if TYPE_CHECKING:
    from crystallize_opt.recording.recorder import Recorder
    from crystallize_opt.workers.executors import Workers

_NO_FAILURE = (Status.COMPLETED, Status.PRUNED)
_NOT_TO_BLAME = (*_NO_FAILURE, Status.ABANDONED)
_RETRIED = (Status.FAILED, Status.TIMED_OUT, Status.OUT_OF_MEMORY, Status.WORKER_DIED)


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
        self._objectives = objectives_of(optimizer)
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
                    self._state.criterion,
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
                self.reason = self.reason or self._why_ended(error)
                await self._settle()
                if isinstance(error, ExecutorBrokenError):
                    error.best = await self._best_or_none()
                if not (isinstance(error, KeyboardInterrupt) and self._interruption.count > 1):
                    raise
                self._error = None  # The second signal has interrupted the optimizer.
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
            if _has_failed(observation):
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
        options, recorder, interruption = self._options, self._recorder, self._interruption
        self._theirs()
        interruption.in_optimizer = True
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
            interruption.in_optimizer = False
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
        pruned = False
        if done[-1][1].status is Status.COMPLETED:
            if len(trial.done) < self._options.replicates:
                pruned = self._prune(trial)
                if not pruned and not self._interruption.count:
                    self._go_on(trial)
                    return
                if not pruned:
                    trial.done.append(ended(len(trial.done), Status.ABANDONED, _INTERRUPTED))
        elif self._tried_again(trial):
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
        if _has_failed(observation):
            self._failed(observation, trial)

    def _prune(self, trial: Trial) -> bool:
        """Tell the optimizer of a replicate; return whether it would end the trial here."""
        replicate = trial.done[-1][1]
        self._theirs()
        try:
            pruned = bool(self._optimizer.report(trial.treatment, replicate.index, replicate))
        finally:
            self._ours_again()
        if self._recorder is not None:
            self._recorder.reported(replicate)
        return pruned

    def _go_on(self, trial: Trial) -> None:
        """Run the next replicate."""
        trial.seconds += trial.done[-1][1].duration or 0.0
        trial.last += 1
        self._start(trial)

    def _tried_again(self, trial: Trial) -> bool:
        """Run a failed trial again from its first replicate, where that is wanted."""
        if (
            trial.attempt > self._options.limits.retries
            or self._interruption.count
            or trial.done[-1][1].status not in _RETRIED
        ):
            return False
        trial.attempt += 1
        trial.done.clear()
        trial.seconds = 0.0
        trial.last = 1 if self._reports else self._options.replicates
        self._start(trial)
        return True

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
        self._interruption.in_optimizer = True
        try:
            await self._tell_once(observation)
        finally:
            self._interruption.in_optimizer = False
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
            if self._lacks_replicates(trial):
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

    def _lacks_replicates(self, trial: Trial) -> bool:
        """Whether a trial lacks replicates, and none has failed."""
        if len(trial.done) == self._options.replicates:
            return False
        return not trial.done or trial.done[-1][1].status is Status.COMPLETED

    def _why_ended(self, error: BaseException) -> str:
        if isinstance(error, KeyboardInterrupt) and self._interruption.count:
            return f"interrupted by {self._interruption.cause}"
        return f"{type(error).__name__}: {error}"

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


def _has_failed(observation: Observation) -> bool:
    return observation.status not in _NOT_TO_BLAME


def _listens(optimizer: Any) -> bool:
    """Whether an optimizer wants to hear of single replicates."""
    return optimizer.capabilities.pruning or type(optimizer).report is not SpaceOptimizer.report


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
    if isinstance(asked, (list, tuple)) and asked:
        for treatment in asked:
            if not isinstance(treatment, Treatment):
                break
        else:
            return list(asked)
    raise TypeError(f"ask() returns a list with at least one Treatment, not {asked!r}.")


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
