"""A worker that runs one trial at a time, and is killed at a limit: `guard.py` is its other side.

Each worker has its own pipe and shares nothing with other workers. In a pool, killing a worker
that holds the queue's lock, or has sent half of a result, breaks the pool: pebble 5.2 then waits a
minute for the lock and fails every later trial; `ProcessPoolExecutor` and loky fail every running
trial. Here every new worker gets a new pipe.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from contextlib import suppress
from multiprocessing import connection
from multiprocessing.util import Finalize
from typing import Any

from crystallize_opt.errors import StorageError
from crystallize_opt.runtime.signals import blocked_signals
from crystallize_opt.storage.lease import Lease, held
from crystallize_opt.trials.curves import Listener
from crystallize_opt.trials.status import Status
from crystallize_opt.workers import logs, worker
from crystallize_opt.workers.family import end_family, end_session
from crystallize_opt.workers.guard import guard, how_it_died
from crystallize_opt.workers.sending import need_libraries
from crystallize_opt.workers.trial import Began, ended

_PATIENCE_SECONDS = 3.0
"""How long an idle process may take to exit before it is killed."""

_of_thread = threading.local()


def run_limited(
    key: str,
    source: worker.Source,
    treatment: bytes,
    first: int,
    last: int,
    lease: Lease | None,
    seconds: float | None,
    memory: int | None,
) -> worker.Answer:
    """Run replicates in a child process, which is killed at a limit. This function never raises."""
    began = Began.now()
    if multiprocessing.current_process().daemon:
        return worker.Answer([], refusal=_DAEMONIC_WORKER)
    try:
        worker.end_with_owner()
        if not hasattr(_of_thread, "process"):
            _of_thread.process, _of_thread.records = WorkerProcess(), []
            _of_thread.process.on_record = _of_thread.records.append
        process: WorkerProcess = _of_thread.process
        with held(worker.lease_here(key, source, lease)), worker.deaf_to_interrupts():
            answer = process.run(key, source, treatment, first, last, seconds, memory)
        records, _of_thread.records[:] = tuple(_of_thread.records), ()
        return answer._replace(records=records)
    except StorageError as error:
        return worker.Answer([], refusal=str(error))
    except BaseException as error:  # noqa: BLE001
        return worker.ended_by(first, error, began)


_DAEMONIC_WORKER = (
    "The executor's workers are daemonic processes, which are not allowed to start processes, so "
    'limits cannot be enforced. With Dask, call dask.config.set({"distributed.worker.daemon": '
    "False}) before you create the cluster. Workers that a command or a batch system starts read "
    "the environment variable DASK_DISTRIBUTED__WORKER__DAEMON=False: see docs/parallel.md."
)


class _Ended(Exception):  # noqa: N818  (not an error; it never leaves this module)
    """The worker has ended, or was killed."""

    def __init__(self, status: Status, why: str) -> None:
        super().__init__(why)
        self.status = status


class _NotTakenError(Exception):
    """The worker had ended before it was given the trial."""


class WorkerProcess:
    """Keeps a worker that runs trials, and replaces it after it died or was killed.

    All methods except `give_up` are called from the same thread.

    Args:
        lease: The lease of the run, which each process holds until it ends; None for no lease.

    Attributes:
        on_record: Called with each log record of the process.
    """

    def __init__(self, lease: Lease | None = None) -> None:
        need_libraries()
        self._lease = lease
        self.on_record: logs.Send = logs.handle
        self._process: Any = None  # The guard, whose child is the worker.
        self._pipe: Any = None  # To the worker.
        self._control: Any = None  # To the guard.
        self._at_exit: Any = None
        self._key: str | None = None
        self._given_up = False

    def run(
        self,
        key: str,
        source: worker.Source,
        treatment: bytes,
        first: int,
        last: int,
        seconds: float | None = None,
        memory: int | None = None,
        listener: Listener | None = None,
    ) -> worker.Answer:
        """Run replicates of a treatment. The result says whether the process died or was killed."""
        heard = None if listener is None else (listener.metric, listener.replicate)
        began = Began.now()
        while True:
            try:
                if self._process is None or not self._process.is_alive():
                    self._throw_away()
                    self._start()
                if key != self._key:
                    answer = self._call((worker.load, (key, source), first))
                    if answer is not None:
                        return answer  # It cannot be read or unpickled there.
                    self._key = key
                call = (worker.run_loaded, (treatment, first, last, heard), first)
                return self._call(call, (seconds, memory), listener) or worker.Answer([])
            except _NotTakenError:
                self._throw_away()  # It died between two trials; the next worker gets this one.
            except _Ended as end:
                self._throw_away()
                return worker.answer_of([ended(first, end.status, str(end), began=began)])

    def _start(self) -> None:
        from multiprocessing import resource_tracker

        from loky.backend import get_context
        from loky.backend.resource_tracker import ensure_running

        # The trackers are started with the first process, and then unblock signals.
        resource_tracker.ensure_running()
        ensure_running()
        # Fork would copy the locks of running threads, here and in numerical libraries. Spawn would
        # run the main script again, and so begin this search again if the script has no guard.
        context = get_context("loky")
        self._pipe, others_pipe = context.Pipe()
        self._control, others_control = context.Pipe()
        try:
            process = context.Process(
                target=guard,
                args=(others_pipe, others_control, self._lease, os.getpid()),
                name="crystallize_opt",
            )
            with blocked_signals():
                process.start()
        finally:
            others_pipe.close()
            others_control.close()
        self._process = process
        # A process waits for its children when it ends, and nobody may have closed this object.
        self._at_exit = Finalize(None, self.close, exitpriority=100)

    def _call(
        self,
        call: Any,
        limits: tuple[float | None, int | None] = (None, None),
        listener: Listener | None = None,
    ) -> worker.Answer | None:
        """Have the worker call a function.

        Raises:
            _Ended: The worker has died, or was killed at a limit or by `give_up`.
            _NotTakenError: The worker had died before.
        """
        # Check the flag after setting `_process`; `give_up` sets the flag and then kills. Whichever
        # runs first, one of them kills the worker.
        if self._given_up:
            self._kill()
            raise self._death()
        limited = limits != (None, None)
        try:
            if limited:
                self._control.send(limits)
            self._pipe.send(call)
        except OSError:
            if self._given_up or self._key is None:  # A new worker that cannot even start.
                raise self._death() from None
            raise _NotTakenError from None
        try:
            answer = self._await_answer(listener)
        except (EOFError, OSError):
            raise self._death() from None
        if limited:
            self._end_limits()
        return answer

    def _await_answer(self, listener: Listener | None) -> worker.Answer | None:
        while self._pipe in connection.wait([self._pipe, self._control]):
            message = self._pipe.recv()
            if isinstance(message, dict):
                self.on_record(message)
            elif isinstance(message, worker.Point) and listener is not None:
                self._pipe.send(listener.report(*message))
            else:
                return message  # type: ignore[no-any-return]
        raise self._death()

    def _end_limits(self) -> None:
        """Tell the guard that the trial has ended; wait for its answer, or for its end."""
        try:
            self._control.send(None)
            if self._control.recv() is None:
                return
        except (EOFError, OSError):
            pass
        self._throw_away()  # The trial reached a limit just after it had answered.

    def _death(self) -> _Ended:
        report = None
        with suppress(EOFError, OSError):  # The guard itself was killed.
            if self._control.poll(_PATIENCE_SECONDS):
                report = self._control.recv()
        self._kill()
        if self._given_up:
            return _Ended(Status.ABANDONED, "The search was ended.")
        if report is None:
            self._process.join()
            # On Linux the worker has died with its guard, but not what it has started.
            end_session(self._process.pid)
            return _Ended(Status.WORKER_DIED, how_it_died(self._process.exitcode))
        status, why = report
        return _Ended(Status(status), why)

    def _kill(self) -> None:
        process = self._process
        if process is not None and process.exitcode is None:
            end_family(process.pid)

    def _throw_away(self) -> None:
        if self._process is not None:
            self._pipe.close()
            self._control.close()  # The guard ends the worker, if it lives, and itself.
            self._process.join()
            self._at_exit.cancel()
        self._process = self._pipe = self._control = self._key = self._at_exit = None

    def give_up(self) -> None:
        """Kill the running trial, and end every later trial at once. Any thread may call this."""
        self._given_up = True
        self._kill()

    def hang_up(self) -> None:
        """Let the worker end, and its guard after it."""
        if self._process is not None:
            self._pipe.close()

    def close(self) -> None:
        """End the worker, and wait until it has ended."""
        if self._process is not None:
            self.hang_up()
            self._process.join(_PATIENCE_SECONDS)
            self._kill()
            self._throw_away()
