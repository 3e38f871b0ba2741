"""Trials on a `concurrent.futures.Executor`: threads, processes, other machines.

What every engine does when a worker dies differs. Here is the one place that knows:

- "processes": each worker is a process of its own, looked after by pebble. Its death costs the
  trial that it ran.
- `ProcessPoolExecutor` and loky give every trial in flight the same exception. Where a function
  made the executor, it is called again, and the trials that were in flight are run again one by
  one: the one that breaks the executor alone is the one that died.
- Dask gives `KilledWorker`, which may hit a trial that only waited for that worker: it is run again
  alone as well.
"""

from __future__ import annotations

import hashlib
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from crystallize_opt import worker
from crystallize_opt.errors import ExecutorBrokenError, MissingExtraError, UsageError
from crystallize_opt.event_loop import is_loopless, run_sync
from crystallize_opt.execution import Done, Trial, ended, run_replicates
from crystallize_opt.experiment import Experiment
from crystallize_opt.interruption import Interruption
from crystallize_opt.limits import TrialLimits
from crystallize_opt.observation import Status
from crystallize_opt.optimizer import SpaceOptimizer
from crystallize_opt.pipeline import PipelineStep
from crystallize_opt.session import Session
from crystallize_opt.treatment import Treatment

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


class Inbox:
    """What other threads and signal handlers hand to a search, on an event loop or without one."""

    def __init__(self) -> None:
        self._items: SimpleQueue[Any] = SimpleQueue()
        self._waiting: tuple[Any, Any] | None = None

    def put(self, item: Any) -> None:
        """Hand an item over. May be called from anywhere."""
        self._items.put(item)
        waiting = self._waiting
        if waiting is not None:
            with suppress(RuntimeError):  # That event loop is closed.
                waiting[0].call_soon_threadsafe(waiting[1].set)

    async def get(self) -> list[Any]:
        """Wait for at least one item, and return all there are."""
        if is_loopless():
            items = [self._get_blocking()]
        else:
            items = []
            import asyncio

            arrived = asyncio.Event()
            self._waiting = (asyncio.get_running_loop(), arrived)
            if self._items.empty():
                await arrived.wait()
            self._waiting = None
        with suppress(Empty):
            while True:
                items.append(self._items.get_nowait())
        return items

    def _get_blocking(self) -> Any:
        if sys.platform != "win32":
            return self._items.get()
        while True:  # There, Ctrl-C is not seen while a lock is waited for.
            with suppress(Empty):
                return self._items.get(timeout=0.2)


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
            self._interruption.waiting = True
            try:
                items = await self._inbox.get()
            finally:
                self._interruption.waiting = False
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
            _shut_down(self._executor, wait=not now)

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
        if future.cancelled():
            done = [ended(first, Status.ABANDONED, _ENDED)]
        elif error is None:
            done = self._done(future.result())
        elif isinstance(error, BrokenExecutor) or (
            isinstance(error, _killed_worker()) and trial is not self._alone
        ):
            self._broken.append(trial)
            return
        elif isinstance(error, _killed_worker()):
            done = [ended(first, Status.WORKER_DIED, _text(error))]
        elif type(error).__name__ == "CancelledError":  # Dask's, asyncio's
            done = [ended(first, Status.ABANDONED, _ENDED)]
        else:
            # Workers return every exception of a trial as data; this is one of the executor.
            done = [ended(first, Status.FAILED, error)]
        if trial is self._alone:
            self._alone = None
        finished.append((trial, done))

    def _recover(self, finished: list[tuple[Trial, Done]]) -> None:
        """Every trial in flight has been given the exception of a broken executor."""
        broken, self._broken = self._broken, []
        self._alone = None
        if self._interruption.count or self._make is None:
            if not self._interruption.count:
                self.failure = _broken_object(self._executor)
            status = Status.WORKER_DIED if len(broken) == 1 else Status.ABANDONED
            finished.extend(
                (trial, [ended(len(trial.done), status, "The executor broke.")])
                for trial in (*broken, *self._suspects, *self._held)
            )
            self._suspects.clear()
            self._held.clear()
            return
        self._remake()
        if len(broken) == 1:
            finished.append(
                (
                    broken[0],
                    [
                        ended(
                            len(broken[0].done), Status.WORKER_DIED, "The process that ran it died."
                        )
                    ],
                )
            )
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
        _shut_down(self._executor, wait=False)
        if self._make is not None:
            self._executor = self._make()


class OnProcesses(OnExecutor):
    """Runs trials on an executor whose workers are processes, here or on other machines."""

    def __init__(
        self,
        session: Session,
        workers: Workers,
        interruption: Interruption,
        limits: TrialLimits,
        optimizer: SpaceOptimizer[Any] | None,
    ) -> None:
        self._blob = picklable_experiment(session.experiment, optimizer)
        self._key = hashlib.sha256(self._blob).hexdigest()
        self._limits = limits
        super().__init__(session, workers, interruption)

    def close(self, *, now: bool) -> None:
        if now or self._abandoned:
            if self._make is not None:
                _kill_workers(self._executor)
            now = True
        super().close(now=now)

    def _submit(self, trial: Trial) -> Future[Any]:
        arguments = (
            self._key,
            self._blob,
            _pickled(trial.treatment, f"The treatment {trial.treatment.name!r}"),
            len(trial.done),
            trial.last,
        )
        future: Future[Any]
        if self._limits.need_processes:
            future = self._executor.submit(
                worker.run_limited, *arguments, self._seconds(trial), self._limits.memory_bytes
            )
        else:
            future = self._executor.submit(worker.run_trial, *arguments)
        return future

    def _seconds(self, trial: Trial) -> float | None:
        seconds = self._limits.seconds
        return None if seconds is None else max(0.001, seconds - trial.seconds)

    def _done(self, result: Any) -> Done:
        return worker.from_rows(result)

    def _threads_run(self) -> bool:
        return False


class OnOwnProcesses(OnProcesses):
    """Runs each worker as a process that is killed at a limit: `executor="processes"`."""

    def __init__(self, session: Session, workers: Workers, *others: Any) -> None:
        worker.pebble()  # or say at once that it is not installed
        self._of_thread = threading.local()
        self._keepers: list[worker.Keeper] = []
        super().__init__(session, workers, *others)
        self._executor = ThreadPoolExecutor(workers.count, thread_name_prefix="crystallize_opt")

    def _submit(self, trial: Trial) -> Future[Any]:
        treatment = _pickled(trial.treatment, f"The treatment {trial.treatment.name!r}")
        future: Future[Any] = self._executor.submit(
            self._run, treatment, len(trial.done), trial.last, self._seconds(trial)
        )
        return future

    def _run(self, treatment: bytes, first: int, last: int, seconds: float | None) -> Any:
        """Run a trial: in a thread of this process that waits for the worker process."""
        if not hasattr(self._of_thread, "keeper"):
            self._of_thread.keeper = worker.Keeper()
            self._keepers.append(self._of_thread.keeper)
        if self._abandoned:
            self._of_thread.keeper.give_up()
        keeper: worker.Keeper = self._of_thread.keeper
        memory = self._limits.memory_bytes
        return keeper.run(self._key, self._blob, treatment, first, last, seconds, memory)

    def _end_running(self) -> None:
        for keeper in list(self._keepers):
            keeper.give_up()

    def close(self, *, now: bool) -> None:
        if now:
            self._abandoned = True
            self._end_running()
        _shut_down(self._executor, wait=True)  # Its threads have nothing left to wait for.
        for keeper in self._keepers:
            keeper.close()


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
            kind = OnOwnProcesses if self.executor is None else OnProcesses
            ours = optimizer if isinstance(optimizer, SpaceOptimizer) else None
            return kind(session, self, interruption, limits, ours)
        except BaseException:
            if self.make is not None:
                _shut_down(self.executor, wait=False)
            raise


def refuse_limits(where: str, limits: TrialLimits) -> None:
    """Refuse limits on seconds or memory where nothing can enforce them."""
    raise UsageError(
        f"limits={limits!r} cannot be enforced in {where}: only a process can be ended. Use "
        'executor="processes", or another executor whose workers are processes.'
    )


def picklable_experiment(
    experiment: Experiment, optimizer: SpaceOptimizer[Any] | None = None
) -> bytes:
    """Return an experiment as bytes, for other processes.

    Raises:
        UsageError: A part of it cannot be pickled; the message names the part.
        MissingExtraError: cloudpickle is not installed.
    """
    for what, part in _parts(experiment, optimizer):
        _pickled(part, what)
    return _pickled(experiment, "The experiment")


def _parts(
    experiment: Experiment, optimizer: SpaceOptimizer[Any] | None
) -> Iterable[tuple[str, Any]]:
    for step in experiment.pipeline.steps:
        yield f"Step {_name_of(step)!r}", step
    source = experiment.datasource
    name = getattr(getattr(source, "_factory", None), "__name__", type(source).__name__)
    yield f"The data source {name!r}", source
    for key in experiment.initial_context:
        yield f"initial_ctx[{key!r}]", experiment.initial_context[key]
    for plugin in experiment.plugins:
        yield f"The plugin {type(plugin).__name__}", plugin
    if optimizer is not None:
        for key in optimizer.space:
            yield f"The parameter {key!r} of the search space", optimizer.space[key]


def _name_of(step: PipelineStep) -> str:
    return step.name


def _pickled(part: Treatment | Any, what: str) -> bytes:
    try:
        import cloudpickle
    except ModuleNotFoundError as error:
        if error.name != "cloudpickle":
            raise
        raise MissingExtraError(
            "Trials in processes need cloudpickle, which is not installed. Run: pip install "
            '"crystallize-opt[processes]"',
            name="cloudpickle",
        ) from error
    try:
        return cloudpickle.dumps(part)  # type: ignore[no-any-return]
    except Exception as error:
        raise UsageError(
            f"{what} cannot be sent to another process: {_text(error)}. Make it in the step's "
            'setup(), or where it is used; or use executor="threads".'
        ) from error


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


def _shut_down(executor: Any, *, wait: bool) -> None:
    try:
        executor.shutdown(wait=wait, cancel_futures=True)
    except TypeError:  # loky's and Dask's have no such argument.
        executor.shutdown(wait=wait)


def _kill_workers(executor: Any) -> None:
    """End the processes of an executor that was made for this search, where they are known."""
    processes = getattr(executor, "_processes", None)
    if isinstance(processes, dict):
        for process in list(processes.values()):
            with suppress(Exception):
                process.kill()


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
