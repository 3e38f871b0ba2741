"""The two processes of a worker: one runs the trials, and the other, its parent, guards it.

The guard does nothing but wait. It ends the worker, and all that the worker has started, when a
trial reaches a limit, when the worker dies, and when the process that needs the worker is gone,
even by SIGKILL. A thread of the worker could not do that: it waits while C code holds the
interpreter's lock, and dies with the worker.

The guard leads a session of its own, so that signals for the search's process group (Ctrl-C in a
terminal, the end of a batch job) reach neither process. The search decides how its trials end.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import threading
import time
from contextlib import ExitStack, suppress
from multiprocessing import connection
from typing import Any

from crystallize_opt.errors import StorageError
from crystallize_opt.runtime.owner import Owner
from crystallize_opt.runtime.signals import (
    SignalHandlers,
    blocked_signals,
    ignore,
    unblock_signals,
)
from crystallize_opt.storage.lease import Lease, held
from crystallize_opt.trials.status import Status
from crystallize_opt.workers import worker
from crystallize_opt.workers.family import (
    Memory,
    adopt_orphans,
    end_descendants,
    end_with_parent,
    reap_orphans,
)
from crystallize_opt.workers.trial import Began

_LOOK_SECONDS = 1.0
"""How often to check that the processes live; one that was forked may keep a pipe open."""
_MEMORY_SECONDS = 0.05
"""How often to measure the memory."""

# Fork costs a millisecond, and shares the memory of what is imported; the guard has one thread. On
# macOS, system libraries may not survive a fork.
_START_METHOD = "fork" if sys.platform == "linux" else "loky"

Report = tuple[str, str]
"""How a worker ended: the value of a `Status`, and in words."""


class Limits:
    """The limits of one trial, which begins now.

    Args:
        seconds: Wall time, or None.
        memory: Bytes, or None.
    """

    def __init__(self, seconds: float | None, memory: int | None) -> None:
        self._seconds, self._bytes = seconds, memory
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._memory = Memory()

    def wait_seconds(self) -> float:
        """How long to wait before the next check."""
        wait = _LOOK_SECONDS if self._bytes is None else _MEMORY_SECONDS
        if self._deadline is not None:
            wait = min(wait, max(0.0, self._deadline - time.monotonic()))
        return wait

    def exceeded(self) -> Report | None:
        """Return which limit the trial has reached, or None."""
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return (
                Status.TIMED_OUT.value,
                f"The trial was ended at its limit of {self._seconds:g} seconds.",
            )
        if self._bytes is not None and (size := self._memory.exceeds(self._bytes)) is not None:
            used, allowed = f"{size / 1e6:,.0f} MB", f"{self._bytes / 1e6:,.0f} MB"
            return (
                Status.OUT_OF_MEMORY.value,
                f"The trial was ended at its memory limit: {used} resident, {allowed} allowed.",
            )
        return None


def guard(pipe: Any, control: Any, lease: Lease | None, parent: int) -> None:
    """The main function of the guard: start the worker, and guard it.

    Args:
        pipe: The worker's connection to the process that needs it: trials and answers.
        control: The guard's own one. The guard gets the limits of each trial that has any, and None
            at the trial's end, which it sends back. It sends a `Report` if the worker has ended.
        lease: The lease of the run, which guard and worker hold until they end; or None.
        parent: The number of the process that needs the worker.
    """
    if os.name == "posix":
        os.setsid()
    adopt_orphans()
    # A handler, because a program that a trial starts would inherit `SIG_IGN`.
    with SignalHandlers(ignore):
        context: Any
        arguments: Any
        if _START_METHOD == "fork":
            context, arguments = multiprocessing.get_context("fork"), (pipe, control, lease)
        else:
            from loky.backend import get_context

            context, arguments = get_context(_START_METHOD), (pipe, None, lease)
        process = context.Process(target=_work, args=arguments, name="crystallize_opt")
        with blocked_signals():
            process.start()
        unblock_signals()
        pipe.close()
        import psutil  # noqa: F401  (now, because it takes time at the end, or may lack memory)

        report = None
        with ExitStack() as until_all_ended:
            try:
                # After the fork, because SQLite in the worker would take this lock for its own.
                until_all_ended.enter_context(held(lease))
                report = _wait_for_end(process, control, parent)
            except StorageError as error:
                report = Status.WORKER_DIED.value, str(error)
            finally:
                end_descendants()
                process.join()
                if report is not None:
                    _send(control, report)


def _wait_for_end(process: Any, control: Any, parent: int) -> Report | None:
    """Wait until the worker has to end; return why, or None if nobody needs it any more."""
    limits: Limits | None = None
    while True:
        wait = _LOOK_SECONDS if limits is None else limits.wait_seconds()
        if control in connection.wait([control, process.sentinel], wait):
            try:
                message = control.recv()
            except (EOFError, OSError):
                return None
            limits = None if message is None else Limits(*message)
            if message is None:
                _send(control, None)
        if not process.is_alive():
            return Status.WORKER_DIED.value, how_it_died(process.exitcode)
        # A process that the search has forked may keep the other end of `control` open.
        if os.name == "posix" and os.getppid() != parent:
            return None
        if limits is not None and (report := limits.exceeded()) is not None:
            return report
        reap_orphans(process.pid)


def _send(end: Any, message: Any) -> None:
    with suppress(OSError):  # The search has ended and no longer waits for the message.
        end.send(message)


def _work(pipe: Any, control: Any, lease: Lease | None) -> None:
    """The main function of the worker: call each function from the pipe and send its answer."""
    if control is not None:
        control.close()
        end_with_parent()
    with SignalHandlers(ignore):
        unblock_signals()
        # Reset the start method, because processes started by a trial would not know loky's.
        multiprocessing.set_start_method(None, force=True)
        with suppress(StorageError), held(lease):  # The guard reports the error.
            _serve(pipe)
        # Before Python 3.13, a forked process does not call the functions of `atexit`.
        atexit._run_exitfuncs()  # noqa: SLF001


def _serve(pipe: Any) -> None:
    owner, lock, asking, process = Owner(), threading.Lock(), threading.Lock(), os.getpid()

    def send(message: Any) -> None:
        with lock:
            _send(pipe, message)

    def report(step: int, value: float) -> bool:
        if os.getpid() != process:  # A child that a step has forked shares the pipe: not its turn.
            return False
        with asking:
            send(worker.Point(step, value))
            return bool(pipe.recv())

    while True:
        try:
            function, arguments, first = pipe.recv()
        except (EOFError, OSError):
            return
        began = Began.now()
        try:
            with owner:
                if function is worker.run_loaded:
                    arguments = (*arguments, send, report)
                answer = function(*arguments)
        except BaseException as error:  # noqa: BLE001
            answer = worker.ended_by(first, error, began)
        send(answer)


def how_it_died(code: int | None) -> str:
    """Return a sentence about the exit code of a process."""
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
