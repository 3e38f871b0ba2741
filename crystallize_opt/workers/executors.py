"""Trials on a `concurrent.futures.Executor`: threads, processes, other machines.

What every engine does when a worker dies differs. Here is the one place that knows:

- "processes": each worker is a `WorkerProcess`. Its death costs the trial that it ran.
- `ProcessPoolExecutor` and loky give every trial in flight the same exception. Where a function
  made the executor, it is called again, and the trials that were in flight are run again one by
  one: the one that breaks the executor alone is the one that died.
- Dask gives `KilledWorker`, or cancels, which may hit a trial that only waited for that worker: it
  is run again alone as well. The executor stays usable.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from crystallize_opt.errors import ExecutorBrokenError, UsageError
from crystallize_opt.optimizers.space_optimizer import SpaceOptimizer
from crystallize_opt.pipeline.session import Session
from crystallize_opt.runtime.inbox import Inbox
from crystallize_opt.runtime.interruption import Interruption
from crystallize_opt.runtime.sync import run_sync
from crystallize_opt.trials.observation import Status
from crystallize_opt.trials.treatment import Treatment
from crystallize_opt.workers.limits import TrialLimits
from crystallize_opt.workers.trial import Done, Trial, ended, run_replicates

_ENDED = "The search ended before this trial did."


def is_threads(executor: Any) -> bool:
    """Whether the trials run in threads of this process."""
    return executor == "threads" or isinstance(executor, ThreadPoolExecutor)


def check_executor(executor: Any) -> None:
    """Refuse what is no executor.

    Raises:
        UsageError: It is neither a known word, nor an executor, nor a function that makes one.
    """
    if executor in ("threads", "processes"):
        return
    if isinstance(executor, str) or not (callable(executor) or hasattr(executor, "submit")):
        raise UsageError(
            "executor= takes 'threads', 'processes', a concurrent.futures.Executor, or a function "
            f"that makes one, not {executor!r}."
        )


class OnExecutor:
    """Runs trials on an executor that is given, or made by a function; here: in threads.

    Args:
        session: The run; its steps are set up.
        workers: The executor. One that was given as an object is neither rebuilt nor shut down.
        interruption: Wakes the wait.
    """

    def __init__(self, session: Session, workers: Workers, interruption: Interruption) -> None:
        self.failure: Exception | None = None
        self._session = session
        self._make = workers.make
        self._executor = workers.executor
        self._interruption = interruption
        self._inbox = Inbox()
        interruption.wake = lambda: self._inbox.put(None)
        self._running: dict[Trial, Future[Any]] = {}
        self._held: deque[Trial] = deque()
        self._suspects: deque[Trial] = deque()
        self._broken: list[Trial] = []
        self._unusable = False
        self._alone: Trial | None = None
        self._abandoned = False

    def start(self, trial: Trial) -> None:
        if self._suspects or self._alone or self._broken:
            self._held.append(trial)
        else:
            self._send(trial)

    async def wait(self) -> list[tuple[Trial, Done]]:
        finished: list[tuple[Trial, Done]] = []
        while not finished:
            items = await self._inbox.get()
            for item in items:
                if item is not None:
                    self._take(item[0], item[1], finished)
            if self._broken and not self._running:
                self._recover(finished)
            self._go_on()
            if None in items:
                break
        return finished

    def cancel_queued(self) -> None:
        for trial in (*self._held, *self._suspects):
            self._give_back(trial)
        self._held.clear()
        self._suspects.clear()
        for future in list(self._running.values()):
            future.cancel()

    async def abandon(self) -> list[tuple[Trial, Done]]:
        self._abandoned = True
        self._held.clear()
        self._suspects.clear()
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
            _run_here, self._session, trial.treatment, len(trial.done), trial.last
        )
        return future

    def _done(self, result: Any) -> Done:
        """Make replicates of what the executor returned."""
        return result  # type: ignore[no-any-return]

    def _end_running(self) -> None:
        """End what is running where it can be ended."""

    def _threads_run(self) -> bool:
        """Whether threads still use the session: its steps are not torn down under them."""
        return bool(self._running)

    # Sending and taking ---------------------------------------------------------------------------

    def _send(self, trial: Trial) -> None:
        for attempt in range(3):
            try:
                future = self._submit(trial)
            except BrokenExecutor as error:
                if self._running:  # They are about to be told of it.
                    self._held.append(trial)
                    return
                if self._make is None:
                    raise _broken_object(self._executor) from error
                if attempt == 2:
                    raise ExecutorBrokenError(
                        "The executor is broken as soon as the function has made it."
                    ) from error
                self._remake()
                continue
            self._running[trial] = future
            future.add_done_callback(lambda future: self._inbox.put((trial, future)))
            return

    def _take(self, trial: Trial, future: Future[Any], finished: list[tuple[Trial, Done]]) -> None:
        if self._running.get(trial) is not future:  # It has been given up.
            return
        del self._running[trial]
        first = len(trial.done)
        error = None if future.cancelled() else future.exception()
        cancelled = future.cancelled() or type(error).__name__ == "CancelledError"  # Dask's
        # Where nobody has cancelled it, Dask has: it does when it loses a worker.
        lost = isinstance(error, _killed_worker()) or (cancelled and not self._given_up())
        if isinstance(error, BrokenExecutor) or (lost and trial is not self._alone):
            self._unusable |= not lost
            self._broken.append(trial)
            return
        if lost:
            why = "The process that ran it died." if error is None else _text(error)
            done = [ended(first, Status.WORKER_DIED, why)]
        elif cancelled:
            done = [ended(first, Status.ABANDONED, _ENDED)]
        elif error is None:
            done = self._done(future.result())
        else:
            # Workers return every exception of a trial as data; this is one of the executor.
            done = [ended(first, Status.FAILED, error)]
        if trial is self._alone:
            self._alone = None
        finished.append((trial, done))

    def _given_up(self) -> bool:
        """Whether this search cancels its trials."""
        return self._abandoned or self._interruption.count > 0

    def _recover(self, finished: list[tuple[Trial, Done]]) -> None:
        """Nothing is in flight: the executor is broken, or trials have been lost with a worker."""
        broken, self._broken = self._broken, []
        unusable, self._unusable = self._unusable, False
        self._alone = None
        if self._given_up() or (unusable and self._make is None):
            if not self._given_up():
                self.failure = _broken_object(self._executor)
            status = Status.WORKER_DIED if len(broken) == 1 else Status.ABANDONED
            finished.extend(
                (trial, [ended(len(trial.done), status, "The executor broke.")])
                for trial in (*broken, *self._suspects, *self._held)
            )
            self._suspects.clear()
            self._held.clear()
            return
        if unusable:
            self._remake()
        if len(broken) == 1:
            died = ended(len(broken[0].done), Status.WORKER_DIED, "The process that ran it died.")
            finished.append((broken[0], [died]))
        else:
            self._suspects.extend(broken)

    def _go_on(self) -> None:
        """Run suspects one by one, then what has been held back for them."""
        if self._running or self._alone or self._broken:
            return
        if self._suspects:
            self._alone = self._suspects.popleft()
            self._send(self._alone)
        while self._held and not self._alone and not self._suspects:
            self._send(self._held.popleft())

    def _give_back(self, trial: Trial) -> None:
        future: Future[Any] = Future()
        self._running[trial] = future
        future.cancel()
        self._inbox.put((trial, future))

    def _remake(self) -> None:
        shut_down(self._executor, wait=False)
        if self._make is not None:
            self._executor = self._make()


@dataclass(frozen=True)
class Workers:
    """An executor, ready to be used.

    Attributes:
        count: How many trials are in flight at most.
        executor: The executor; None where this package runs processes of its own.
        make: Makes another one; None where the executor was given as an object.
    """

    count: int
    executor: Any
    make: Callable[[], Any] | None

    @classmethod
    def of(cls, executor: Any, count: int) -> Workers:
        """Make the executor where a word or a function is given; `check_executor` has passed it."""
        if executor == "processes":
            return cls(count, None, None)
        if executor == "threads":

            def make() -> Any:
                return ThreadPoolExecutor(count, thread_name_prefix="crystallize_opt")

            return cls(count, make(), make)
        if not isinstance(executor, type) and hasattr(executor, "submit"):
            return cls(count, executor, None)
        made = executor()
        if not hasattr(made, "submit"):
            raise UsageError(
                f"The function given as executor= made {made!r}, which is no Executor."
            )
        return cls(count, made, executor)

    @property
    def are_threads(self) -> bool:
        """Whether trials run in threads of this process, on the experiment itself."""
        return isinstance(self.executor, ThreadPoolExecutor)

    def runner(
        self, session: Session, interruption: Interruption, limits: TrialLimits, optimizer: Any
    ) -> OnExecutor:
        """Return what runs trials on this executor.

        Raises:
            UsageError: Something cannot be sent to another process, or limits not be enforced.
            MissingExtraError: A library is not installed.
        """
        try:
            if self.are_threads:
                if limits.need_processes:
                    refuse_limits("threads", limits)
                return OnExecutor(session, self, interruption)
            from crystallize_opt.workers.process_executors import OnOwnProcesses, OnProcesses

            kind = OnOwnProcesses if self.executor is None else OnProcesses
            ours = optimizer if isinstance(optimizer, SpaceOptimizer) else None
            return kind(session, self, interruption, limits, ours)
        except BaseException:
            if self.make is not None:
                shut_down(self.executor, wait=False)
            raise


def refuse_limits(where: str, limits: TrialLimits) -> None:
    """Refuse limits on seconds or memory where nothing can enforce them."""
    raise UsageError(
        f"limits={limits!r} cannot be enforced in {where}: only a process can be ended. Use "
        'executor="processes", or another executor whose workers are processes.'
    )


def _run_here(session: Session, treatment: Treatment, first: int, last: int) -> Done:
    try:
        return run_sync(run_replicates(session, treatment, first, last))
    except BaseException as error:  # noqa: BLE001  (a step's own KeyboardInterrupt, for example)
        return [ended(first, Status.FAILED, error)]


def _killed_worker() -> tuple[type[BaseException], ...]:
    distributed = sys.modules.get("distributed")
    killed = getattr(distributed, "KilledWorker", None)
    return () if killed is None else (killed,)


def _broken_object(executor: Any) -> ExecutorBrokenError:
    name = type(executor).__name__
    return ExecutorBrokenError(
        f"The {name} broke: one of its processes died. The search has ended, and every trial has "
        f"been told. To go on after a death, give a function that makes the executor: "
        f"executor=lambda: {name}(...)."
    )


def shut_down(executor: Any, *, wait: bool) -> None:
    """Shut an executor down; what is queued is not run."""
    try:
        executor.shutdown(wait=wait, cancel_futures=True)
    except TypeError:  # loky's and Dask's have no such argument.
        executor.shutdown(wait=wait)


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
