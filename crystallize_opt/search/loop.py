"""The loop of every search: fill the workers, wait, take the trials that have finished."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from crystallize_opt.errors import (
    ExecutorBrokenError,
    NoCompletedTrialError,
    SpaceExhausted,
    printable,
)
from crystallize_opt.optimizers.space_optimizer import SpaceOptimizer
from crystallize_opt.pipeline.context import logger
from crystallize_opt.pipeline.fault import Fault
from crystallize_opt.pipeline.replicate import run_of
from crystallize_opt.pipeline.session import Session
from crystallize_opt.pipeline.unread import UnreadCheck
from crystallize_opt.recording.recorder import RecordedOptimizer
from crystallize_opt.recording.resumed import Resumed
from crystallize_opt.runtime.interruption import Interruption
from crystallize_opt.runtime.stepwise import HandOver
from crystallize_opt.search.ahead import Ahead
from crystallize_opt.search.baseline import completed_baseline, point_of, run_baseline
from crystallize_opt.search.callbacks import BaselineCompleted, RunStopped, TrialStarted
from crystallize_opt.search.callers_state import CallersTurn
from crystallize_opt.search.course import Course
from crystallize_opt.search.failures import FailureCount
from crystallize_opt.search.followers import Followers
from crystallize_opt.search.progress import waits_for
from crystallize_opt.search.settings import Settings
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import Treatment
from crystallize_opt.workers.trial import Done, Trial

if TYPE_CHECKING:
    from crystallize_opt.search.checkpoints import Checkpoints

_LEFT = "its caller left the loop over the search"
_UNREAD = (
    "If steps read a parameter in some trials only, put it under a condition: "
    "Float(...).when(...). To switch this check off: failures=Failures(unread='ignore')."
)


class Loop:
    """The trials of one search.

    Args:
        settings: The checked settings of the search.
        interruption: Tells whether Ctrl-C or SIGTERM has interrupted the search.

    Attributes:
        reason: Why the search ends; None while nothing ends it.
    """

    def __init__(self, settings: Settings, interruption: Interruption) -> None:
        self.reason: str | None = None
        self._settings = settings
        self._interruption = interruption
        self._asked: deque[Trial] = deque()
        self._running: dict[Trial, None] = {}
        # The trials that were started while every worker was busy.
        self._ahead = Ahead(settings.workers) if settings.workers.ask_ahead else None
        self._no_more: str | None = None  # Why the optimizer has no further suggestion.
        self._count = 0  # How many trials the optimizer has been asked for.
        self._error: BaseException | None = None
        self._hand_over: HandOver[Observation] | None = None
        self._to_hand_over: deque[Observation] = deque()

    async def run(
        self,
        session: Session,
        recorded: RecordedOptimizer,
        hand_over: HandOver[Observation] | None = None,
    ) -> Treatment | None:
        """Run the search.

        Args:
            session: The open run; its steps are set up if trials run in this process.
            recorded: The optimizer, with its stored run if there is one.
            hand_over: Called with each observation after it was reported to the optimizer; returns
                whether to end the search.

        Returns:
            The optimizer's best treatment. With `hand_over` it may be None.

        Raises:
            NoCompletedTrialError: No trial completed, and there is no `hand_over`.
            KeyboardInterrupt: The search was interrupted before a trial completed.
        """
        self._session, self._recorded, self._hand_over = session, recorded, hand_over
        self._by_hand = hand_over is not None
        self._failures = FailureCount(self._settings.failures, recorded.required_metrics)
        settings, optimizer = self._settings, recorded.optimizer
        self._unread = None
        if settings.failures.unread == "raise":
            self._unread = UnreadCheck(session.experiment, _UNREAD)
        session.keeps_tracebacks = settings.failures.then == "raise"
        self._callers_turn = CallersTurn.of(
            session.callers_random_state,
            settings.workers,
            may_draw=bool(
                optimizer.may_use_global_random_state or settings.callbacks or settings.stop
            ),
        )
        self._followers = Followers(settings, recorded, self._callers_turn)
        self._course = Course(
            1 if optimizer.races else settings.replicates,
            settings.adaptive,
            recorded,
            self._failures,
            self._interruption,
            self._callers_turn,
        )
        self._checkpoints = _checkpoints_of(recorded)
        self._runner = settings.workers.runner(
            session, self._interruption, optimizer.space, recorded.lease
        )
        resumed = await self._resume()
        best: Treatment | None = None
        try:
            self._followers.begin(self._title, resumed)
            await self._run_and_settle()
            best = await self._best()
            return best
        except BaseException as error:
            self._error = error
            raise
        finally:
            self.reason = self.reason or f"{type(self._error).__name__}: {self._error}"
            try:
                self._runner.close(now=self._interruption.count > 1)
                if self._checkpoints is not None:
                    self._checkpoints.close()
            finally:
                reason = printable(self.reason)
                logger.info("The search ends after %d trials: %s", self._failures.finished, reason)
                interrupted = bool(self._interruption.count)
                self._followers.emit(RunStopped(self.reason, best, self._error, interrupted))

    async def _resume(self) -> Resumed:
        """Begin a new run, or continue a stored run where it ended."""
        self._interruption.in_optimizer = True  # It is asked and told again what the run has.
        try:
            with self._callers_turn:
                resumed = await self._recorded.resume()
        finally:
            self._interruption.in_optimizer = False
        if self._checkpoints is not None:
            self._checkpoints.resume(resumed)
        self._count = resumed.count
        for observation in (*resumed.observations, *resumed.held):
            self._failures.add(observation)
            if self._course.race is not None:
                self._course.race.add(observation)
            self._session.keep(observation.treatment, map(run_of, observation.replicates))
        for treatment, replicates in resumed.pending:
            done = list(map(run_of, replicates))
            self._asked.append(self._course.begin(treatment, done))
        return resumed

    @property
    def _title(self) -> str:
        storage = self._settings.storage
        name = storage.run if storage is not None else None
        return name or self._session.experiment.name or self._recorded.optimizer.stands_for.__name__

    # Fill, wait, take -----------------------------------------------------------------------------

    async def _run_and_settle(self) -> None:
        """Run the trials; report every one to the optimizer, even if an error ends the search."""
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
            self._error = None  # A second signal during `ask` or `tell`: return the best trial.

    async def _search(self) -> None:
        runner, interruption = self._runner, self._interruption
        await self._run_baseline()
        while True:
            await self._fill()
            if not self._running:
                break
            finished = await runner.wait()
            if interruption.count:
                ahead = 0 if self._ahead is None else len(self._ahead.trials)
                await self._interrupted(len(self._running) - ahead - len(finished))
            for trial, done in finished:
                if trial in self._running:
                    await self._take(trial, done)
            if runner.failure is not None:
                raise runner.failure
            if self._to_hand_over:
                await self._hand_over_told()
        if self._asked:
            await self._settle()
        self.reason = (
            self.reason or self._no_more or f"{self._failures.finished} trials have been run"
        )

    async def _run_baseline(self) -> None:
        """Run the baseline if there is to be one, unless the stored run has it."""
        treatment = self._settings.baseline
        if treatment is None or self.reason is not None:
            return
        if (stored := self._recorded.stored_baseline(treatment)) is not None:
            self._session.keep(treatment, map(run_of, stored.replicates))
            return
        trial = Trial(treatment, self._settings.replicates)
        await run_baseline(trial, self._course, self._runner, self._interruption, self._failures)
        self._session.keep(treatment, trial.done)
        observation = completed_baseline(
            self._course.outcome(trial, all_must_complete=True), trial.done[-1]
        )
        if self._unread is not None:
            self._unread.check(treatment, trial.done)
        point = point_of(treatment, self._session.experiment, self._recorded.optimizer.space)
        with self._callers_turn:
            self._recorded.set_baseline(observation, point)
        self._followers.emit(BaselineCompleted(observation))

    async def _fill(self) -> None:
        """Ask for trials and start them while workers are free, and ahead of that if wanted."""
        if self._ahead is not None:
            await self._fill_ahead(self._ahead)
            return
        count, running = self._settings.workers.count, self._running
        while self.reason is None and len(running) < count and (self._asked or await self._ask()):
            if self._interruption.count:
                await self._interrupted(len(running))
            elif self._asked:  # Otherwise, the outcome of every suggestion is known.
                self._start(self._asked.popleft())

    async def _fill_ahead(self, ahead: Ahead) -> None:
        """Start trials also while every worker is busy; if the search ends, withdraw those."""
        count, running = self._settings.workers.count, self._running
        if ahead.trials and self.reason is None:
            self._stops()
        while self.reason is None and len(running) < ahead.most:
            is_ahead = len(running) >= count
            if is_ahead and self._runner.has_finished():
                break  # Tell the optimizer first.
            if not (self._asked or await self._ask()):
                break
            if self._interruption.count:
                await self._interrupted(len(running) - len(ahead.trials))
            elif self._asked:
                self._start(self._asked.popleft(), ahead if is_ahead else None)
        if ahead.trials and self.reason is not None:
            self._runner.cancel_queued(ahead.trials)

    def _may_ask(self) -> bool:
        """Whether there is to be another trial, and the optimizer may be asked for it now."""
        settings = self._settings
        if self._count >= settings.num_trials or self._no_more is not None:
            return False
        if not self._running:
            return True
        return not (settings.workers.batch or self._recorded.asks_when_all_is_told)

    def _stops(self) -> bool:
        """Whether a stop condition ends the search now."""
        reason = self._followers.reason_to_stop()
        if reason is not None:
            self.reason = reason
        return reason is not None

    async def _ask(self) -> bool:
        """Ask the optimizer if there is to be another trial; return whether it was asked."""
        settings, interruption = self._settings, self._interruption
        if not self._may_ask():
            return False
        if interruption.count:
            await self._interrupted()
            return False
        if settings.stop and self._stops():
            return False
        number = 1
        if settings.workers.batch:
            number = min(settings.workers.count, settings.num_trials - self._count)
        interruption.in_optimizer = True
        began = time.monotonic()
        try:
            with self._callers_turn:
                treatments = await self._recorded.ask(number)
        except SpaceExhausted as end:
            if not self._count:
                raise
            self._no_more = f"the search space is exhausted: {end}"
            return False
        finally:
            interruption.in_optimizer = False
        if self._ahead is not None:
            self._ahead.asked(time.monotonic() - began)
        self._asked.extend(map(self._course.begin, treatments))
        self._count += len(treatments)
        if settings.callbacks:
            self._followers.asked(treatments)
        return True

    def _start(self, trial: Trial, ahead: Ahead | None = None) -> None:
        """Start the next turn of a trial; with `ahead`, its first one while no worker is free."""
        self._running[trial] = None
        if self._checkpoints is not None and trial.folders is None:
            trial.folders = self._checkpoints.place(trial.treatment)
        self._runner.start(trial)
        if ahead is not None:
            ahead.trials.append(trial)
        elif self._settings.callbacks:
            self._announce(trial)

    def _announce(self, trial: Trial) -> None:
        if not trial.done:
            self._followers.emit(TrialStarted(trial.treatment, trial.attempt))

    def _begin_ahead(self, ahead: Ahead) -> None:
        """Note that free workers have taken trials that were started ahead."""
        while ahead.trials and self.reason is None:
            if len(self._running) - len(ahead.trials) >= self._settings.workers.count:
                return
            self._announce(ahead.trials.popleft())

    async def _take(self, trial: Trial, done: Done) -> None:
        """Take the replicates that a worker returned: finish the trial, or let it run again."""
        ahead, course = self._ahead, self._course
        if ahead is not None and trial in ahead.trials:
            ahead.trials.remove(trial)
            if done[-1].record.status is Status.ABANDONED and self.reason is not None:
                await self._withdraw(trial, done)
                return
            self._announce(trial)
        if course.take(trial, done):
            self._start(trial)
            return
        del self._running[trial]
        if course.hearing is not None:
            course.hearing.warn(trial, is_heard=self._runner.is_heard)
        self._session.keep(trial.treatment, trial.done)
        observation = course.outcome(trial)
        await self._finish(observation, trial.done[-1].fault)
        if ahead is not None:
            ahead.ran(observation.duration)
            self._begin_ahead(ahead)
        self._end_if_hopeless(observation, trial.done)

    async def _withdraw(self, trial: Trial, done: Done) -> None:
        """Report a trial that was asked for ahead, and that no worker had begun at the end.

        After a stop condition it will never run; after an interruption, when the run is resumed.
        """
        self._course.add(trial, done)
        del self._running[trial]
        await self._finish(self._course.outcome(trial), for_good=not self._interruption.count)

    async def _finish(
        self, observation: Observation, fault: Fault | None = None, *, for_good: bool = False
    ) -> None:
        """Store the outcome of a trial, then report it to the optimizer.

        An abandoned trial stays pending in the stored run, unless it is abandoned `for_good`.
        """
        given_up = observation.status is Status.ABANDONED and not for_good
        stored = False
        if self._settings.storage is not None and not given_up:
            stored = self._recorded.write(observation)
        self._failures.add(observation, fault)
        if self._course.race is not None:
            self._course.race.add(observation)
        if observation.status is not Status.COMPLETED and observation.status.has_failed:
            name, status = observation.treatment.name, observation.status.value
            logger.warning("%s: %s: %s", printable(name), status, printable(observation.error))
        if self._settings.callbacks:
            self._followers.finished(observation, stored=stored)
        self._interruption.in_optimizer = True
        try:
            with self._callers_turn:
                tell = self._recorded.set_aside if given_up else self._recorded.tell
                told = await tell(observation)
        finally:
            self._interruption.in_optimizer = False
        for each in told:
            if each.repeats is not None:
                continue
            if self._checkpoints is not None:
                self._checkpoints.told(each)
            self._followers.told(each)
            if self._hand_over is not None:
                self._to_hand_over.append(each)

    async def _hand_over_told(self) -> None:
        """Hand over the reported observations; settle all trials if the caller leaves the loop."""
        while self._to_hand_over and self._hand_over is not None:
            self._callers_turn.begin_loop_body(trials_run=bool(self._running))
            if await self._hand_over(self._to_hand_over.popleft()):
                self._hand_over = None
                self._to_hand_over.clear()
                self.reason = self.reason or _LEFT
                await self._settle()
            self._callers_turn.end_loop_body()

    # The end --------------------------------------------------------------------------------------

    def _end_if_hopeless(self, observation: Observation, runs: Done) -> None:
        """Raise if no step reads a parameter, or if the failures so far end the search."""
        if observation.status is Status.COMPLETED:
            if self._unread is not None:
                self._unread.check(observation.treatment, runs)
        elif observation.status.has_failed:
            all_run = not self._asked or bool(self._running)
            self._failures.end_search(observation, runs[-1].error, all_run=all_run)

    async def _interrupted(self, running: int = 0) -> None:
        """Ask for no more trials. Wait for those that run; after a second signal, abandon them."""
        if self.reason is None:
            self.reason = f"interrupted by {self._interruption.cause}"
            self._runner.cancel_queued()
            if running and self._interruption.count == 1:
                waits_for(running)
        if self._interruption.count > 1:
            await self._settle()

    async def _settle(self) -> None:
        """Stop every trial that is queued or running, and report it to the optimizer."""
        if self._course.hearing is not None:
            self._course.hearing.end()
        for trial, done in await self._runner.abandon():
            self._course.add(trial, done)
        if self._ahead is not None:
            self._ahead.trials.clear()
        self._running.update(dict.fromkeys(self._asked))
        self._asked.clear()
        for trial in list(self._running):
            del self._running[trial]
            self._course.give_up(trial, f"Given up: {self.reason}")
            observation = self._course.outcome(trial)
            if self._error is None:
                await self._finish(observation)
                continue
            try:
                await self._finish(observation)
            except Exception:  # noqa: BLE001  (the error that ends the search is the one to see)
                logger.exception("%r could not be told.", trial.treatment.name)

    def _why_ended(self, error: BaseException) -> str:
        if isinstance(error, KeyboardInterrupt) and self._interruption.count:
            return f"interrupted by {self._interruption.cause}"
        return f"{type(error).__name__}: {error}"

    async def _best(self) -> Treatment | None:
        try:
            return await self._recorded.best()
        except NoCompletedTrialError as error:
            if self._interruption.count:
                raise (self._interruption.error or KeyboardInterrupt(self.reason)) from error
            if self._by_hand:
                return None
            raise

    async def _best_or_none(self) -> Treatment | None:
        try:
            return await self._recorded.best()
        except Exception:  # noqa: BLE001  (whatever a foreign optimizer raises without a trial)
            return None


def _checkpoints_of(recorded: RecordedOptimizer) -> Checkpoints | None:
    """Return the checkpoints of a search; None if its optimizer continues no trial."""
    optimizer = recorded.optimizer
    if not isinstance(optimizer, SpaceOptimizer) or optimizer.racing() is None:
        return None
    from crystallize_opt.search.checkpoints import Checkpoints  # It imports pathlib.

    return Checkpoints(optimizer, recorded.checkpoint_folder)
