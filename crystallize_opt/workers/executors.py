"""Runs trials on a `concurrent.futures.Executor`.

Executors report a dead worker in different ways; `recovery.py` explains the reaction to each.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from concurrent.futures import BrokenExecutor, Future
from typing import Any

from crystallize_opt.errors import ExecutorBrokenError
from crystallize_opt.pipeline.session import Session
from crystallize_opt.runtime.inbox import Inbox
from crystallize_opt.runtime.interruption import Interruption
from crystallize_opt.runtime.sync import run_sync
from crystallize_opt.trials.curves import Listener
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import Treatment
from crystallize_opt.workers.batch_jobs import as_future, died
from crystallize_opt.workers.recovery import DIED, Recovery
from crystallize_opt.workers.trial import Done, Trial, ended, run_replicates

_ENDED = "The search ended before this trial did."
_REMAKES = 2
"""How often to replace an executor that is broken as soon as it has been made."""


class OnExecutor:
    """Runs trials on an executor: in threads of this process. Subclasses run them in processes.

    Args:
        session: The run in progress.
        executor: Where the trials run.
        make: Makes a new executor after one broke. None for an executor object from the user,
            which is neither replaced nor shut down.
        interruption: Wakes `wait`.

    Attributes:
        failure: The error after which no trial can run, or None.
    """

    is_heard = True

    def __init__(
        self,
        session: Session,
        executor: Any,
        make: Callable[[], Any] | None,
        interruption: Interruption,
    ) -> None:
        self.failure: Exception | None = None
        self._session = session
        self._executor = executor
        self._make = make
        self._interruption = interruption
        self._inbox = Inbox()
        interruption.wake = lambda: self._inbox.put(None)
        self._running: dict[Trial, Future[Any]] = {}
        self._recovery = Recovery()
        self._withdrawn: set[Trial] = set()  # Queued trials that this search has cancelled.
        self._abandoned = False

    def start(self, trial: Trial) -> None:
        if self._recovery.is_going_on:
            self._recovery.hold(trial)
        else:
            self._send(trial)

    async def wait(self) -> list[tuple[Trial, Done]]:
        finished: list[tuple[Trial, Done]] = []
        while not finished:
            items = await self._inbox.get()
            for item in items:
                if item is not None:
                    self._take(item[0], item[1], finished)
            if not self._running:
                if self._recovery.has_lost_trials:
                    self._recover(finished)
                for trial in self._recovery.next_trials():
                    self._send(trial)
            if None in items:
                break
        return finished

    def has_finished(self) -> bool:
        return not self._inbox.is_empty

    def cancel_queued(self, trials: Collection[Trial] | None = None) -> None:
        for trial in self._recovery.withdraw(trials):
            self._give_back(trial)
        for trial, future in list(self._running.items()):
            if (trials is None or trial in trials) and future.cancel():
                self._withdrawn.add(trial)

    async def abandon(self) -> list[tuple[Trial, Done]]:
        self._abandoned = True
        self._recovery.clear()
        for future in list(self._running.values()):
            future.cancel()
        self._end_running()
        while self._threads_run() and self._interruption.count < 2:
            for item in await self._inbox.get():
                if item is not None:
                    self._running.pop(item[0], None)
        self._running.clear()
        return []

    def close(self, *, now: bool) -> None:
        if self._make is not None:
            shut_down(self._executor, wait=not now)

    # What differs between threads and processes ---------------------------------------------------

    def _submit(self, trial: Trial) -> Future[Any]:
        """Hand a trial to the executor."""
        future: Future[Any] = self._executor.submit(
            _run_here, self._session, trial.placed, len(trial.done), trial.last, trial.listener
        )
        return future

    def _runs_again(self, trial: Trial, result: Any) -> bool:
        """Send a trial again if its worker could not run it; return whether."""
        return False

    def _done(self, trial: Trial, result: Any) -> Done:
        """Return the replicates in the executor's result."""
        return result  # type: ignore[no-any-return]

    def _end_running(self) -> None:
        """Kill the running trials that run in processes of this search."""

    def _threads_run(self) -> bool:
        """Whether threads still use the session, so that its steps cannot be torn down yet."""
        return bool(self._running)

    # Sending and taking ---------------------------------------------------------------------------

    def _send(self, trial: Trial) -> None:
        for remade in range(_REMAKES + 1):
            try:
                future = as_future(self._submit(trial))
            except BrokenExecutor as error:
                if self._running:  # Running trials will report the broken executor.
                    self._recovery.hold(trial)
                    return
                if self._make is None:
                    raise _broken_object(self._executor) from error
                if remade == _REMAKES:
                    raise ExecutorBrokenError(
                        f"The executor broke as soon as it was made, {_REMAKES + 1} times. Check "
                        "that the function in workers= makes an executor that can start workers."
                    ) from error
                self._remake()
                continue
            self._running[trial] = future
            future.add_done_callback(lambda future: self._inbox.put((trial, future)))
            return

    def _take(self, trial: Trial, future: Future[Any], finished: list[tuple[Trial, Done]]) -> None:
        if self._running.get(trial) is not future:  # The trial has been given up.
            return
        del self._running[trial]
        first = len(trial.done)
        error = None if future.cancelled() else future.exception()
        # Dask has a `CancelledError` of its own. If this search did not cancel the trial, Dask
        # did, because it lost a worker.
        cancelled = future.cancelled() or type(error).__name__ == "CancelledError"
        by_others = cancelled and not self._is_ending() and trial not in self._withdrawn
        lost = isinstance(error, _killed_worker()) or by_others
        broken = isinstance(error, BrokenExecutor)
        if broken or (lost and not self._recovery.is_alone(trial)):
            self._recovery.lost(trial, broken=broken)
            return
        if lost or died(error):  # A job has a process of its own, so no other trial is a suspect.
            done = [ended(first, Status.WORKER_DIED, DIED if error is None else _text(error))]
        elif cancelled:
            done = [ended(first, Status.ABANDONED, _ENDED)]
        elif error is None:
            if self._runs_again(trial, future.result()):
                return
            done = self._done(trial, future.result())
        else:
            # Workers return every exception of a trial as data, so this one is the executor's.
            done = [ended(first, Status.FAILED, error)]
        self._recovery.finished(trial)
        finished.append((trial, done))

    def _is_ending(self) -> bool:
        """Whether this search cancels its trials."""
        return self._abandoned or self._interruption.count > 0

    def _recover(self, finished: list[tuple[Trial, Done]]) -> None:
        """Continue after trials were lost, or give up. No trial may be running now."""
        recovery = self._recovery
        if self._is_ending():
            finished.extend(recovery.give_up())
        elif recovery.broken and self._make is None:
            self.failure = _broken_object(self._executor)
            finished.extend(recovery.give_up())
        else:
            if recovery.broken:
                self._remake()
            finished.extend(recovery.blame())

    def _give_back(self, trial: Trial) -> None:
        """Let `wait` return a trial that was never sent."""
        future: Future[Any] = Future()
        self._running[trial] = future
        self._withdrawn.add(trial)
        future.cancel()
        self._inbox.put((trial, future))

    def _remake(self) -> None:
        shut_down(self._executor, wait=False)
        if self._make is not None:
            self._executor = self._make()


def _run_here(
    session: Session, treatment: Treatment, first: int, last: int, listener: Listener | None
) -> Done:
    try:
        return run_sync(run_replicates(session, treatment, first, last, listener))
    except BaseException as error:  # noqa: BLE001  (a step may raise KeyboardInterrupt)
        return [ended(first, Status.FAILED, error)]


def _killed_worker() -> tuple[type[BaseException], ...]:
    distributed = sys.modules.get("distributed")
    killed = getattr(distributed, "KilledWorker", None)
    return () if killed is None else (killed,)


def _broken_object(executor: Any) -> ExecutorBrokenError:
    name = type(executor).__name__
    return ExecutorBrokenError(
        f"The {name} broke: one of its processes died. The search has ended, and every trial has "
        "been reported. To continue after a death, give a function that makes the executor: "
        f"workers=Workers(lambda: {name}(...), 4)."
    )


def shut_down(executor: Any, *, wait: bool) -> None:
    """Shut an executor down, and discard the trials in its queue."""
    if not hasattr(executor, "shutdown"):  # Those of submitit have nothing to shut down.
        return
    try:
        executor.shutdown(wait=wait, cancel_futures=True)
    except TypeError:  # The executors of loky and Dask lack `cancel_futures`.
        executor.shutdown(wait=wait)


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
