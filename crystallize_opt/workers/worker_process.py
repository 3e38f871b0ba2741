"""A worker process that runs one trial at a time, and can be killed at a limit.

Each process has its own pipe and shares nothing with other processes. In a pool, killing a worker
that holds the queue's lock, or has sent half of a result, breaks the pool: pebble 5.2 then waits a
minute for the lock and fails every later trial; `ProcessPoolExecutor` and loky fail every running
trial. Here every new process gets a new pipe.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from contextlib import suppress
from multiprocessing import connection
from multiprocessing.util import Finalize
from typing import Any

from crystallize_opt.trials.observation import Status
from crystallize_opt.workers import logs, worker
from crystallize_opt.workers.sending import need_libraries
from crystallize_opt.workers.trial import ended

_LOOK_SECONDS = 1.0
"""How often to check that the process lives: its pipe stays open if a process it forked lives."""
_MEMORY_SECONDS = 0.05
"""How often to measure the memory. The list of child processes is renewed every `_LOOK_SECONDS`."""
_PATIENCE_SECONDS = 3.0
"""How long an idle process may take to exit before it is killed."""

_of_thread = threading.local()


def run_limited(
    key: str,
    source: worker.Source,
    treatment: bytes,
    first: int,
    last: int,
    seconds: float | None,
    memory: int | None,
) -> worker.Answer:
    """Run replicates in a child process, which is killed at a limit. This function never raises."""
    started_at = time.time()
    if multiprocessing.current_process().daemon:
        return worker.Answer([], refusal=_DAEMONIC_WORKER)
    try:
        if not hasattr(_of_thread, "process"):
            _of_thread.process, _of_thread.records = WorkerProcess(), []
            _of_thread.process.on_record = _of_thread.records.append
            # End the child first, because a process waits for its children when it ends.
            Finalize(None, _of_thread.process.close, exitpriority=100)
        process: WorkerProcess = _of_thread.process
        answer = process.run(key, source, treatment, first, last, seconds, memory)
        records, _of_thread.records[:] = tuple(_of_thread.records), ()
        return answer._replace(records=records)
    except BaseException as error:  # noqa: BLE001
        return worker.ended_by(first, error, started_at)


_DAEMONIC_WORKER = (
    "The executor's workers are daemonic processes, which are not allowed to start processes, so "
    'limits cannot be enforced. With Dask, call dask.config.set({"distributed.worker.daemon": '
    "False}) before you create the cluster."
)


class _Ended(Exception):  # noqa: N818  (not an error; it never leaves this module)
    """The process has ended, or must be killed."""

    def __init__(self, status: Status, why: str) -> None:
        super().__init__(why)
        self.status = status


class WorkerProcess:
    """Keeps a process that runs trials, and replaces it after it died or was killed.

    All methods except `give_up` are called from the same thread.

    Attributes:
        on_record: Called with each log record of the process.
    """

    def __init__(self) -> None:
        need_libraries()
        self.on_record: logs.Send = logs.handle
        self._process: Any = None
        self._pipe: Any = None
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
    ) -> worker.Answer:
        """Run replicates of a treatment. The result says whether the process died or was killed."""
        started_at = time.time()
        try:
            if self._process is None or not self._process.is_alive():
                self._throw_away()
                self._start()
            if key != self._key:
                answer = self._call((worker.load, (key, source), first))
                if answer is not None:
                    return answer  # The experiment cannot be read or unpickled there.
                self._key = key
            call = (worker.run_loaded, (treatment, first, last), first)
            return self._call(call, seconds, memory) or worker.Answer([])
        except _Ended as end:
            self._throw_away()
            return worker.answer_of([ended(first, end.status, str(end), started_at=started_at)])

    def _start(self) -> None:
        from loky.backend import get_context

        # Fork would copy the locks of running threads, here and in numerical libraries. Spawn would
        # run the main script again, and so begin this search again if the script has no guard.
        context = get_context("loky")
        self._pipe, other = context.Pipe()
        try:
            process = context.Process(target=_serve, args=(other,), name="crystallize_opt")
            process.start()
        finally:
            other.close()
        self._process = process

    def _call(
        self, call: Any, seconds: float | None = None, memory: int | None = None
    ) -> worker.Answer | None:
        """Have the process call a function.

        Raises:
            _Ended: The process has died, or was killed at a limit or by `give_up`.
        """
        # Check the flag after setting `_process`; `give_up` sets the flag and then kills. Whichever
        # runs first, one of them kills the worker.
        if self._given_up:
            self._kill()
        try:
            self._pipe.send(call)
            return self._await_answer(seconds, memory)
        except (EOFError, OSError):
            raise self._death() from None

    def _await_answer(self, seconds: float | None, memory: int | None) -> worker.Answer | None:
        deadline = None if seconds is None else time.monotonic() + seconds
        used = None if memory is None else _Memory(self._process.pid)
        while True:
            wait = _LOOK_SECONDS if used is None else _MEMORY_SECONDS
            if deadline is not None:
                wait = min(wait, max(0.0, deadline - time.monotonic()))
            if self._pipe in connection.wait([self._pipe, self._process.sentinel], wait):
                message = self._pipe.recv()
                if not isinstance(message, dict):
                    return message  # type: ignore[no-any-return]
                self.on_record(message)
            elif not self._process.is_alive():
                if self._pipe.poll():  # The process answered and then died.
                    continue
                raise self._death()
            if deadline is not None and time.monotonic() >= deadline:
                self._kill()
                raise _Ended(
                    Status.TIMED_OUT, f"The trial was ended at its limit of {seconds:g} seconds."
                )
            if used is not None and memory is not None and (size := used.resident()) > memory:
                self._kill()
                raise _Ended(
                    Status.OUT_OF_MEMORY,
                    f"The trial was ended at its memory limit: {size / 1e6:,.0f} MB resident, "
                    f"{memory / 1e6:,.0f} MB allowed.",
                )

    def _death(self) -> _Ended:
        self._process.join(_PATIENCE_SECONDS)
        code = self._process.exitcode
        self._kill()  # The process may have closed its pipe and still live.
        if self._given_up:
            return _Ended(Status.ABANDONED, "The search was ended.")
        return _Ended(Status.WORKER_DIED, _how_it_died(code))

    def _kill(self) -> None:
        process = self._process
        if process is not None and process.exitcode is None:
            for each in _family_of(process.pid):
                with suppress(Exception):  # The process has just ended.
                    each.kill()

    def _throw_away(self) -> None:
        if self._process is not None:
            self._pipe.close()
            self._process.join()
        self._process = self._pipe = self._key = None

    def give_up(self) -> None:
        """Kill the running trial, and end every later trial at once. Any thread may call this."""
        self._given_up = True
        self._kill()

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._pipe.close()  # The process ends at the end of its pipe.
            self._process.join(_PATIENCE_SECONDS)
            self._kill()
            self._throw_away()


def _serve(pipe: Any) -> None:
    """The main function of the process: call each function from the pipe and send its answer."""
    # Ctrl-C in a terminal reaches every process of the group, but the search decides how its
    # trials end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Reset loky's start method, because processes started by a trial would not know it.
    multiprocessing.set_start_method(None, force=True)
    lock = threading.Lock()

    def send(message: Any) -> None:
        with lock, suppress(OSError):  # The search has ended, so nobody waits for the message.
            pipe.send(message)

    while True:
        try:
            function, arguments, first = pipe.recv()
        except (EOFError, OSError):
            return
        started_at = time.time()
        try:
            if function is worker.run_loaded:
                arguments = (*arguments, send)
            answer = function(*arguments)
        except BaseException as error:  # noqa: BLE001
            answer = worker.ended_by(first, error, started_at)
        send(answer)


class _Memory:
    """The resident memory of a process and of all processes it has started."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._family: list[Any] = []
        self._looked_at = -_LOOK_SECONDS

    def resident(self) -> int:
        if time.monotonic() >= self._looked_at + _LOOK_SECONDS:
            # Do this rarely, because it scans every process of the system.
            self._family, self._looked_at = _family_of(self._pid), time.monotonic()
        total = 0
        for process in self._family:
            with suppress(Exception):  # The process has just ended.
                total += process.memory_info().rss
        return total


def _family_of(pid: int | None) -> list[Any]:
    """Return a process and all processes it has started."""
    import psutil

    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def _how_it_died(code: int | None) -> str:
    if code is None:
        return "The worker process closed its connection."
    if code >= 0:
        return f"The worker process ended with exit code {code}."
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " (often by the system, when memory runs out)" if name == "SIGKILL" else ""
    return f"The worker process was killed by {name}{hint}."
