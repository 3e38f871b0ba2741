"""The processes in which optimizers run: how they start, answer, end, and are used again.

A process ends with this one, even if this one is killed:

- Linux kills it when the thread that started it ends. That thread, the keeper, ends with this
  process only.
- On other systems, it looks for its parent once a second.
- Everywhere, its input ends, unless a fork of this process keeps the other end open.

The keeper also ends a process whose answer takes too long. An optimizer that is garbage leaves its
process to the next one, which then need not import the library again.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from crystallize_opt.runtime.owner import Owner

_MOST_IDLE = 2
"""How many idle processes of one Python wait for the next optimizer."""
_LOOK_SECONDS = 0.25
"""How often the keeper looks for calls that take too long."""
_PATIENCE_SECONDS = 3.0
"""How long an idle process may take to exit before it is killed."""
_SHOWN = 2000
"""How many bytes of what a process has written to stderr an error shows."""

# The process runs this copy of the package, whatever is installed there: the package's folder is
# named, not put on the path, because the libraries beside it belong to this Python.
_BOOT = """
import importlib.util, sys
file = sys.argv[1]
spec = importlib.util.spec_from_file_location("crystallize_opt", file)
package = importlib.util.module_from_spec(spec)
sys.modules["crystallize_opt"] = package
spec.loader.exec_module(package)
from crystallize_opt.adapters.remote.child import main
main(int(sys.argv[2]))
"""
_PACKAGE = Path(__file__).parents[2] / "__init__.py"


class ProcessEnded(Exception):  # noqa: N818  (what happened)
    """The process has ended, or was ended because its answer took too long."""


class Process:
    """A process that answers messages, one at a time.

    Args:
        python: The interpreter.

    Attributes:
        owner: Knows whether this process, or a fork of it, has started the process.
        is_reusable: Whether another optimizer may use the process afterwards.
    """

    def __init__(self, python: str) -> None:
        self.owner = Owner()
        self.is_reusable = False
        self.deadline: float | None = None
        self._python = python
        self._seconds: float | None = None
        self._is_late = False
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `_close`)
        command = [python, "-P", "-c", _BOOT, str(_PACKAGE), str(os.getpid())]

        def start() -> subprocess.Popen[bytes]:
            # A session of its own: Ctrl-C in a terminal does not reach the process.
            return subprocess.Popen(  # noqa: S603  (the interpreter that the user named)
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )

        try:
            self._popen = _keeper().start_process(start)
        except BaseException:
            self._stderr.close()
            raise
        _keeper().watch(self)

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._popen.pid

    def call(self, message: Any, seconds: float | None) -> dict[str, Any]:
        """Send a message, and return the answer.

        Args:
            message: Plain data.
            seconds: How long the answer may take; None: any time.

        Raises:
            ProcessEnded: There is no answer, and the process has ended.
        """
        self._seconds = seconds
        self.deadline = None if seconds is None else time.monotonic() + seconds
        try:
            line = self._exchange(json.dumps(message).encode())
        except BaseException:  # Ctrl-C, for example: the answer would be taken for a later one's.
            self.end()
            raise
        finally:
            self.deadline = None
        if not line.endswith(b"\n"):
            raise ProcessEnded(self._how_it_ended())
        answer: dict[str, Any] = json.loads(line)
        for name, level, text in answer.get("log", ()):
            logging.getLogger(name).log(level, "%s", text)
        return answer

    def _exchange(self, message: bytes) -> bytes:
        into, out = self._popen.stdin, self._popen.stdout
        if into is None or out is None or into.closed:
            return b""
        try:
            into.write(message + b"\n")
            into.flush()
            return out.readline()
        except OSError:  # The process has ended.
            return b""

    def _how_it_ended(self) -> str:
        """Return how the process has ended, and what it has written to stderr last."""
        self._kill()
        code = self._popen.returncode
        how = f"ended with exit code {code}"
        if self._is_late:
            how = f"did not answer within {self._seconds:g} s, and was killed"
        elif code < 0:
            with suppress(ValueError):
                how = f"was killed by {signal.Signals(-code).name}"
        said = self.said()
        self._close()
        return how + (f". It had written to stderr:\n{said}" if said else "")

    def said(self) -> str:
        """Return what the process has written to stderr last."""
        if self._stderr.closed:
            return ""
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - _SHOWN))
        return self._stderr.read().decode("utf-8", "replace").strip()

    def expire(self, now: float) -> None:
        """Kill the process if its answer takes too long."""
        deadline = self.deadline
        if deadline is not None and now > deadline:
            self._is_late = True
            self._signal()

    def release(self) -> None:
        """Leave the process, which answers no call now, to another optimizer; or end it."""
        if not self.owner.is_here:
            self._forget()
            return
        idle = _idle.setdefault(self._python, [])
        if self.is_reusable and self._popen.poll() is None and len(idle) < _MOST_IDLE:
            into = self._popen.stdin
            with suppress(OSError, ValueError):
                if into is not None:
                    into.write(b'["drop"]\n')  # This has no answer.
                    into.flush()
                idle.append(self)
                return
        self.end()

    def end(self) -> None:
        """Kill the process."""
        if self.owner.is_here:
            self._kill()
            self._close()
        else:
            self._forget()

    def _forget(self) -> None:
        """Close what a fork of this process has of it."""
        self._popen.returncode = 0
        self._close()

    def end_in_order(self) -> None:
        """Let the idle process exit, and clean up after itself."""
        if self.owner.is_here:
            self._hang_up()
            with suppress(subprocess.TimeoutExpired):
                self._popen.wait(_PATIENCE_SECONDS)
            self.end()

    def _kill(self) -> None:
        self._signal()
        self._popen.wait()

    def _signal(self) -> None:
        if self._popen.poll() is not None:
            return
        with suppress(OSError):
            if os.name == "posix":
                os.killpg(self._popen.pid, signal.SIGKILL)  # Also what it has started.
            else:
                self._popen.kill()

    def _hang_up(self) -> None:
        if self._popen.stdin is not None:
            with suppress(OSError):  # What could not be written is lost with the process.
                self._popen.stdin.close()

    def _close(self) -> None:
        self._hang_up()
        if self._popen.stdout is not None:
            self._popen.stdout.close()
        self._stderr.close()


class _Keeper(threading.Thread):
    """The thread that starts all processes, and ends those whose answer takes too long."""

    def __init__(self) -> None:
        super().__init__(name="crystallize_opt", daemon=True)
        self.owner = Owner()
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        # References only: a process may become garbage while this thread waits.
        self._watched: dict[int, weakref.ref[Process]] = {}
        self.start()

    def start_process(
        self, start: Callable[[], subprocess.Popen[bytes]]
    ) -> subprocess.Popen[bytes]:
        """Start a process in this thread, and return it."""
        done: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def job() -> None:
            try:
                done.put(start())
            except BaseException as error:  # noqa: BLE001  (raised in the other thread)
                done.put(error)

        self._jobs.put(job)
        started = done.get()
        if isinstance(started, subprocess.Popen):
            return started
        raise started

    def watch(self, process: Process) -> None:
        """End the process if an answer takes too long."""
        self._watched[id(process)] = weakref.ref(process)
        self._jobs.put(lambda: None)

    def run(self) -> None:
        """Start processes, and look for late answers."""
        while True:
            with suppress(queue.Empty):
                self._jobs.get(timeout=_LOOK_SECONDS if self._watched else None)()
            now = time.monotonic()
            for key, reference in list(self._watched.items()):
                process = reference()
                if process is None:
                    self._watched.pop(key, None)
                else:
                    process.expire(now)
                del process


_idle: dict[str, list[Process]] = {}  # By interpreter.
_the_keeper: _Keeper | None = None
_lock = threading.Lock()


def _keeper() -> _Keeper:
    global _the_keeper
    with _lock:
        if _the_keeper is None or not _the_keeper.owner.is_here:
            _the_keeper = _Keeper()
        return _the_keeper


def idle_or_new(python: str, *, fresh: bool = False) -> Process:
    """Return a process of an interpreter that no optimizer uses.

    Args:
        python: The path of the interpreter.
        fresh: Whether it must be a new one.
    """
    waiting = [] if fresh else _idle.get(python, [])
    while waiting:
        with suppress(IndexError):  # Another thread was faster.
            process = waiting.pop()
            if process.owner.is_here and process._popen.poll() is None:  # noqa: SLF001
                return process
            process.end()
    return Process(python)


@atexit.register
def end_idle_processes() -> None:
    """End the processes that no optimizer uses."""
    for processes in list(_idle.values()):
        while processes:
            processes.pop().end_in_order()


def interpreter(python: str | os.PathLike[str] | None) -> str | None:
    """Return the path of an interpreter, or None if there is none.

    Args:
        python: The interpreter, a command, or the folder of a virtual environment; None for this
            Python.
    """
    if python is None:
        return sys.executable or None
    import shutil

    path = Path(python)
    if path.is_dir():
        found = [path / "bin" / "python", path / "Scripts" / "python.exe"]
        path = next((each for each in found if each.exists()), path)
    command = shutil.which(path if path.parent.name or path.is_absolute() else str(python))
    # Not resolved: in a virtual environment, the interpreter is a link, and its place matters.
    return None if command is None else os.path.abspath(command)  # noqa: PTH100
