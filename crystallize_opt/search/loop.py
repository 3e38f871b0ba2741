"""The loop of every search: fill the workers, wait, take the trials that have finished."""

from __future__ import annotations

import time
from collections import deque

from crystallize_opt.errors import (
    ExecutorBrokenError,
    NoCompletedTrialError,
    SpaceExhausted,
    printable,
)
from crystallize_opt.optimizers.plain import kind_of
from crystallize_opt.pipeline.context import logger
from crystallize_opt.pipeline.fault import Fault
from crystallize_opt.pipeline.replicate import ReplicateRun, recorded_instead, reduced, run_of
from crystallize_opt.pipeline.session import Session
from crystallize_opt.pipeline.unread import UnreadCheck
from crystallize_opt.recording.recorder import RecordedOptimizer
from crystallize_opt.recording.resumed import Resumed
from crystallize_opt.runtime.interruption import Interruption
from crystallize_opt.runtime.stepwise import HandOver
from crystallize_opt.search.baseline import refuse_failed_baseline, run_baseline
from crystallize_opt.search.callbacks import (
    BaselineCompleted,
    Event,
    RunStarted,
    RunStopped,
    TrialAsked,
    TrialCompleted,
    TrialFailed,
    TrialRepeated,
    TrialStarted,
    TrialStored,
    TrialTold,
    notify,
)
from crystallize_opt.search.callers_state import CallersTurn
from crystallize_opt.search.failures import FailureCount
from crystallize_opt.search.progress import waits_for
from crystallize_opt.search.settings import Settings
from crystallize_opt.search.stopping import SearchState
from crystallize_opt.trials.observation import Observation, Status
from crystallize_opt.trials.treatment import Treatment
from crystallize_opt.workers.trial import Done, Trial, ended

_INTERRUPTED = "The search was interrupted."
_PERHAPS_BY_A_SIGNAL = (Status.FAILED, Status.WORKER_DIED)
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
        self._count = 0  # How many trials the optimizer has been asked for.
        self._error: BaseException | None = None
        self._hand_over: HandOver[Observation] | None = None
        self._to_hand_over: deque[Observation] = deque()
        self._began = time.monotonic()

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
        self._state = SearchState(
            recorded.criterion.objectives,
            recorded.criterion.constraints,
            recorded.criterion.fidelity,
        )
        # Workers return single replicates only if the optimizer uses reports of them.
        self._reports = self._settings.replicates > 1 and recorded.hears_replicates
        settings, optimizer = self._settings, recorded.optimizer
        self._unread = UnreadCheck(session.experiment, _UNREAD)
        session.keeps_tracebacks = settings.failures.then == "raise"
        self._callers_turn = CallersTurn(
            session.callers_random_state,
            settings.workers,
            may_draw=bool(
                optimizer.may_use_global_random_state or settings.callbacks or settings.stop
            ),
        )
        self._runner = settings.workers.runner(session, self._interruption, optimizer.space)
        resumed = await self._resume()
        best: Treatment | None = None
        try:
            self._announce(resumed)
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
            finally:
                reason = printable(self.reason)
                logger.info("The search ends after %d trials: %s", self._failures.finished, reason)
                if self._settings.callbacks:
                    interrupted = bool(self._interruption.count)
                    self._emit(RunStopped(self.reason, best, self._error, interrupted))

    async def _resume(self) -> Resumed:
        """Begin a new run, or continue a stored run where it ended."""
        settings = self._settings
        with self._callers_turn:
            resumed = await self._recorded.resume()
        self._count = resumed.count
        for observation in (*resumed.observations, *resumed.held):
            self._failures.add(observation)
            for replicate in observation.replicates:
                self._session.results.add(observation.treatment.name, run_of(replicate))
        if settings.stop:
            for observation in resumed.observations:
                self._state.add(observation)
        for treatment, replicates in resumed.pending:
            done: Done = [(run_of(replicate), replicate) for replicate in replicates]
            last = len(done) + 1 if self._reports else settings.replicates
            self._asked.append(Trial(treatment, last, done))
        return resumed

    def _announce(self, resumed: Resumed) -> None:
        """Tell whoever follows the search that it begins."""
        settings = self._settings
        name = settings.storage.run if settings.storage is not None else None
        title = name or self._session.experiment.name or kind_of(self._recorded.optimizer).__name__
        if settings.progress_lines is not None:
            settings.progress_lines.begin(title, settings.num_trials, len(resumed.observations))
        if settings.callbacks:
            self._emit(
                RunStarted(
                    kind_of(self._recorded.optimizer).__name__,
                    self._recorded.criterion.objectives,
                    settings.num_trials,
                    settings.replicates,
                    settings.workers.count,
                    tuple(resumed.observations),
                    self._recorded.criterion,
                    title,
                    self._recorded.run_identity,
                )
            )
            self._emit_repeats()

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
            if self.reason is None:
                await self._fill()
            if not self._running:
                break
            finished = await runner.wait()
            if interruption.count:
                await self._interrupted(len(self._running) - len(finished))
            for trial, done in finished:
                if trial in self._running:
                    await self._take(trial, done)
            if runner.failure is not None:
                raise runner.failure
            if self._to_hand_over:
                await self._hand_over_told()
        if self._asked:
            await self._settle()
        self.reason = self.reason or f"{self._failures.finished} trials have been run"

    async def _run_baseline(self) -> None:
        """Run the baseline if there is to be one, unless the stored run has it."""
        treatment, results = self._settings.baseline, self._session.results
        if treatment is None or self.reason is not None:
            return
        if (stored := self._recorded.stored_baseline(treatment)) is not None:
            for replicate in stored.replicates:
                results.add(treatment.name, run_of(replicate))
            return
        trial = Trial(treatment, self._settings.replicates)
        reductions = self._recorded.criterion.reductions
        for run, replicate in await run_baseline(
            trial, self._runner, self._interruption, self._failures
        ):
            trial.done.append((run, reduced(run, replicate, reductions)))
            results.add(treatment.name, run)
        observation = self._observation_of(trial)
        runs = [run for run, _ in trial.done]
        refuse_failed_baseline(observation, runs[-1])
        if self._settings.failures.unread == "raise":
            self._unread.check(treatment, runs)
        self._recorded.set_baseline(observation)
        if self._settings.callbacks:
            self._emit(BaselineCompleted(observation))

    async def _fill(self) -> None:
        """Ask for trials and start them while workers are free."""
        settings, running = self._settings, self._running
        count, batch = settings.workers.count, settings.workers.batch
        while self.reason is None and len(running) < count:
            if not self._asked:
                if self._count >= settings.num_trials:
                    return
                if running and (batch or self._recorded.asks_when_all_is_told):
                    return
                if self._interruption.count:
                    await self._interrupted()
                    return
                if settings.stop and self._should_stop():
                    return
                if not await self._ask():
                    return
                if not self._asked:
                    continue  # The outcome of every suggestion is known.
            trial = self._asked.popleft()
            running[trial] = None
            self._start(trial)

    async def _ask(self) -> bool:
        settings, interruption = self._settings, self._interruption
        number = 1
        if settings.workers.batch:
            number = min(settings.workers.count, settings.num_trials - self._count)
        interruption.in_optimizer = True
        try:
            with self._callers_turn:
                treatments = await self._recorded.ask(number)
        except SpaceExhausted as end:
            if not self._count:
                raise
            self.reason = f"the search space is exhausted: {end}"
            return False
        finally:
            interruption.in_optimizer = False
        last = 1 if self._reports else settings.replicates
        for treatment in treatments:
            self._asked.append(Trial(treatment, last))
        self._count += len(treatments)
        if settings.callbacks:
            self._emit_repeats()
            for treatment in treatments:
                self._emit(TrialAsked(treatment))
        return True

    def _start(self, trial: Trial) -> None:
        self._runner.start(trial)
        if self._settings.callbacks and not trial.done:
            self._emit(TrialStarted(trial.treatment, trial.attempt))

    async def _take(self, trial: Trial, done: Done) -> None:
        """Take the replicates that a worker returned: finish the trial, or start its next run."""
        reductions = self._recorded.criterion.reductions
        trial.done.extend([(run, reduced(run, replicate, reductions)) for run, replicate in done])
        pruned = False
        if done[-1][1].status is Status.COMPLETED:
            if len(trial.done) < self._settings.replicates:
                pruned = self._report(trial)
                if not pruned and not self._interruption.count:
                    self._run_next_replicate(trial)
                    return
                if not pruned:
                    trial.done.append(ended(len(trial.done), Status.ABANDONED, _INTERRUPTED))
        elif self._tried_again(trial):
            return
        elif self._interruption.count and done[-1][1].status in _PERHAPS_BY_A_SIGNAL:
            # A signal for the whole process group also reaches what the trial has started. The
            # trial may have failed because of that; it runs again when the run is resumed.
            error = f"{_INTERRUPTED} {done[-1][1].error}"
            trial.done[-1] = ended(len(trial.done) - 1, Status.ABANDONED, error)
        del self._running[trial]
        results, name = self._session.results, trial.treatment.name
        for run, _ in trial.done:
            results.add(name, run)
        observation = self._observation_of(trial)
        if pruned:
            observation = observation.ended_early()
        await self._finish(observation, trial.done[-1][0].fault)
        self._end_if_hopeless(observation, [run for run, _ in trial.done])

    def _report(self, trial: Trial) -> bool:
        """Report a replicate to the optimizer; return whether it would end the trial here."""
        with self._callers_turn:
            return self._recorded.report(trial.treatment, trial.done[-1][1])

    def _run_next_replicate(self, trial: Trial) -> None:
        trial.seconds += trial.done[-1][1].duration or 0.0
        trial.last += 1
        self._start(trial)

    def _tried_again(self, trial: Trial) -> bool:
        """Retry a failed trial from its first replicate if retries are left; return whether."""
        run, replicate = trial.done[-1]
        if self._interruption.count or not self._failures.may_be_retried(
            replicate, run.fault, trial.attempt
        ):
            return False
        name, error = printable(trial.treatment.name), printable(replicate.error)
        logger.warning("%s: %s; it is retried.", name, error)
        trial.attempt += 1
        trial.done.clear()
        trial.seconds = 0.0
        trial.last = 1 if self._reports else self._settings.replicates
        self._start(trial)
        return True

    def _observation_of(self, trial: Trial) -> Observation:
        replicates = [replicate for _, replicate in trial.done]
        observation = Observation.of_replicates(trial.treatment, replicates)
        return observation.checked(
            self._recorded.required_metrics,
            lambda metric: recorded_instead([run for run, _ in trial.done], metric),
        )

    async def _finish(self, observation: Observation, fault: Fault | None = None) -> None:
        """Store the outcome of a trial, then report it to the optimizer."""
        callbacks = self._settings.callbacks
        stored = self._settings.storage is not None and self._recorded.write(observation)
        self._failures.add(observation, fault)
        if observation.status is not Status.COMPLETED and observation.status.has_failed:
            name, status = observation.treatment.name, observation.status.value
            logger.warning("%s: %s: %s", printable(name), status, printable(observation.error))
        if callbacks:
            if stored:
                self._emit(TrialStored(observation))
            good = observation.status.has_value
            self._emit(TrialCompleted(observation) if good else TrialFailed(observation))
        self._interruption.in_optimizer = True
        try:
            with self._callers_turn:
                told = await self._recorded.tell(observation)
        finally:
            self._interruption.in_optimizer = False
        self._show([each for each in told if each.repeats is None])

    def _show(self, told: list[Observation]) -> None:
        """Show the observations that were reported to whoever follows the search."""
        settings = self._settings
        if settings.progress_lines is not None:
            for _ in told:
                settings.progress_lines.add(lambda: self._recorded.optimizer.history)
        if settings.stop:
            for each in told:
                self._state.add(each)
        if settings.callbacks:
            for each in told:
                self._emit(TrialTold(each))
        if self._hand_over is not None:
            self._to_hand_over.extend(told)

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

    def _end_if_hopeless(self, observation: Observation, runs: list[ReplicateRun]) -> None:
        """Raise if no step reads a parameter, or if the failures so far end the search."""
        if observation.status is Status.COMPLETED:
            if self._settings.failures.unread == "raise":
                self._unread.check(observation.treatment, runs)
        elif observation.status.has_failed:
            all_run = not self._asked or bool(self._running)
            self._failures.end_search(observation, runs[-1].error, all_run=all_run)

    def _should_stop(self) -> bool:
        self._state.elapsed = time.monotonic() - self._began
        with self._callers_turn:
            for condition in self._settings.stop:
                if reason := condition(self._state):
                    name = getattr(condition, "__name__", repr(condition))
                    self.reason = reason if isinstance(reason, str) else f"{name} said so"
                    return True
        return False

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
        for trial, done in await self._runner.abandon():
            trial.done.extend(done)
        self._running.update(dict.fromkeys(self._asked))
        self._asked.clear()
        for trial in list(self._running):
            del self._running[trial]
            if trial.lacks_replicates(self._settings.replicates):
                why = f"Given up: {self.reason}"
                trial.done.append(ended(len(trial.done), Status.ABANDONED, why))
            observation = self._observation_of(trial)
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

    def _emit_repeats(self) -> None:
        for observation in self._recorded.repeats:
            self._emit(TrialRepeated(observation))

    def _emit(self, event: Event) -> None:
        with self._callers_turn:
            notify(self._settings.callbacks, event)
