"""What runs in a worker process: one trial, from bytes to plain data.

Nothing but plain data leaves it, whatever the trial does: no exception (its class might not
unpickle, and break a whole pool), no result (which might not pickle), no `SystemExit`.
"""

from __future__ import annotations

import multiprocessing
import pickle
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, wait
from contextlib import suppress
from multiprocessing.util import Finalize
from typing import Any

from crystallize_opt.errors import MissingExtraError
from crystallize_opt.event_loop import run_sync
from crystallize_opt.execution import Done, ended, run_replicates
from crystallize_opt.experiment import Experiment
from crystallize_opt.observation import Replicate, Status
from crystallize_opt.session import ReplicateRun, open_session
from crystallize_opt.treatment import Treatment

Row = tuple[Any, ...]
"""A replicate as plain data: the fields of `Replicate`, and the metrics with all their values."""

_PLAIN = (float, int, str, bool, type(None))
_POLL_SECONDS = 0.05

_loaded: tuple[str, Any] | None = None


def run_trial(key: str, blob: bytes, treatment: bytes, first: int, last: int) -> list[Row]:
    """Run some replicates of a treatment. Never raises.

    Args:
        key: What the experiment is remembered by, for the next trial in this process.
        blob: The experiment.
        treatment: The treatment.
        first: The first replicate.
        last: The replicate to end before.
    """
    started_at = time.time()
    try:
        load(key, blob)
        return _run_loaded(treatment, first, last)
    except BaseException as error:  # noqa: BLE001
        return [_row(*_ended_by(first, error, started_at))]


def run_limited(
    key: str,
    blob: bytes,
    treatment: bytes,
    first: int,
    last: int,
    seconds: float | None,
    memory: int | None,
) -> list[Row]:
    """Run some replicates in a process of their own, which is killed at a limit. Never raises."""
    started_at = time.time()
    try:
        if not hasattr(_of_thread, "keeper"):
            _of_thread.keeper = Keeper()
            # A process waits for its children when it ends, unless they have ended before.
            Finalize(None, _of_thread.keeper.close, exitpriority=100)
        keeper: Keeper = _of_thread.keeper
        return keeper.run(key, blob, treatment, first, last, seconds, memory)
    except BaseException as error:  # noqa: BLE001
        if "daemonic processes" in str(error):
            error.add_note(
                "Dask's workers may start no processes, so no limits hold there. Call dask.config."
                'set({"distributed.worker.daemon": False}) before the cluster is made.'
            )
        return [_row(*_ended_by(first, error, started_at))]


_of_thread = threading.local()


class Keeper:
    """Keeps one process that runs one trial after the other, and kills it at a limit.

    When the process dies, the trial has the status WORKER_DIED and the next one gets a new process.
    """

    def __init__(self) -> None:
        self._pool: Any = None
        self._pid: int | None = None
        self._key: str | None = None
        self._current: Future[Any] | None = None
        self._given_up = False

    def run(
        self,
        key: str,
        blob: bytes,
        treatment: bytes,
        first: int,
        last: int,
        seconds: float | None = None,
        memory: int | None = None,
    ) -> list[Row]:
        """Run some replicates of a treatment. What happens to the process is in the result."""
        started_at = time.time()
        if self._pool is None:
            # Not fork: threads are running, here and in numerical libraries. Nor spawn: it would
            # run the main script again, which for one without a guard begins this search anew.
            self._pool = pebble().ProcessPool(
                max_workers=1, initializer=_begin_process, context=_loky_context()
            )
        while True:
            if key != self._key:
                status, result = self._call(load, (key, blob), None, None)
                if status is not None or isinstance(result, list):
                    break
                self._key, self._pid = key, result
            status, result = self._call(
                run_if_loaded, (key, treatment, first, last), seconds, memory
            )
            if status is None and result is None:  # The process died while it had nothing to do.
                self._key = None
                continue
            break
        if status is None:
            return result  # type: ignore[no-any-return]
        self._key = None
        return [_row(*ended(first, status, str(result), started_at=started_at))]

    def _call(
        self, function: Any, args: tuple[Any, ...], seconds: float | None, memory: int | None
    ) -> tuple[Status | None, Any]:
        """Return (None, result), or the status of a process that is no more, and why."""
        future = self._current = self._pool.schedule(_plainly, args=[function, *args])
        if self._given_up:
            future.cancel()
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            poll = left if memory is None else min(_POLL_SECONDS, left or _POLL_SECONDS)
            wait([future], poll)
            if future.done():
                break
            if deadline is not None and time.monotonic() >= deadline:
                self._kill(future)
                return Status.TIMED_OUT, f"The trial was ended at its limit of {seconds:g} seconds."
            if memory is not None and (used := _resident_bytes(self._pid)) > memory:
                self._kill(future)
                return Status.OUT_OF_MEMORY, (
                    f"The trial was ended at its memory limit: {used / 1e6:,.0f} MB resident, "
                    f"{memory / 1e6:,.0f} MB allowed."
                )
        if future.cancelled():
            return Status.ABANDONED, "The search was ended."
        error = future.exception()
        if error is None:
            return None, future.result()
        if self._given_up:
            return Status.ABANDONED, "The search was ended."
        return Status.WORKER_DIED, _how_it_died(error)

    def _kill(self, future: Future[Any]) -> None:
        # At once, and its children too: pebble would give it three seconds, and leave those.
        for process in _family_of(self._pid):
            with suppress(Exception):
                process.kill()
        future.cancel()

    def give_up(self) -> None:
        """End the running trial, and every later one at once. May be called from any thread."""
        self._given_up = True
        if self._current is not None and not self._current.done():
            self._kill(self._current)

    def close(self) -> None:
        """End the process."""
        if self._pool is not None:
            self._pool.stop()
            self._pool.join()
            self._pool = None


def run_if_loaded(key: str, treatment: bytes, first: int, last: int) -> list[Row] | None:
    """Run some replicates of the experiment that was loaded; None where it was not."""
    if _loaded is None or _loaded[0] != key:
        return None
    return _run_loaded(treatment, first, last)


def load(key: str, blob: bytes) -> int:
    """Unpickle the experiment, unless it is the one before; return the id of this process."""
    global _loaded
    if _loaded is None or _loaded[0] != key:
        _loaded = (key, pickle.loads(blob))  # noqa: S301  (our own bytes)
    return multiprocessing.current_process().pid or 0


def _plainly(function: Any, *args: Any) -> Any:
    started_at = time.time()
    try:
        return function(*args)
    except BaseException as error:  # noqa: BLE001
        first = args[2] if len(args) > 2 else 0
        return [_row(*_ended_by(first, error, started_at))]


def _run_loaded(treatment: bytes, first: int, last: int) -> list[Row]:
    experiment: Any = _loaded and _loaded[1]
    return run_sync(_run(experiment, pickle.loads(treatment), first, last))  # noqa: S301


async def _run(experiment: Experiment, treatment: Treatment, first: int, last: int) -> list[Row]:
    async with open_session(experiment) as session:
        done = await run_replicates(session, treatment, first, last)
    return [_row(run, replicate) for run, replicate in done]


def _ended_by(
    first: int, error: BaseException, started_at: float
) -> tuple[ReplicateRun, Replicate]:
    status = Status.FAILED
    if isinstance(error, MemoryError):
        status = Status.OUT_OF_MEMORY
    elif isinstance(error, KeyboardInterrupt):  # Ctrl-C reaches every process of a terminal.
        status = Status.ABANDONED
    return ended(first, status, error, started_at=started_at)


def _row(run: ReplicateRun, replicate: Replicate) -> Row:
    return (
        replicate.index,
        replicate.seed,
        {name: tuple(_portable(value) for value in each) for name, each in run.metrics.items()},
        dict(replicate.metrics),
        replicate.status.value,
        replicate.error,
        replicate.traceback,
        replicate.started_at,
        replicate.duration,
    )


def _portable(value: Any) -> Any:
    """Return a metric's value as it is, if plain; or pickled: an array, for example."""
    if type(value) in _PLAIN:
        return value
    try:
        return pickle.dumps(value)
    except Exception:  # noqa: BLE001  (whatever a foreign __reduce__ raises)
        return f"<a {type(value).__name__}, which cannot be pickled>"


def from_rows(rows: list[Row]) -> Done:
    """Make replicates of what a worker returned."""
    done: Done = []
    for index, seed, values, metrics, status, error, trace, started_at, duration in rows:
        exception = None
        if error is not None:
            exception = RuntimeError(error)
            exception.add_note(f"In a worker process:\n{trace or error}")
        replicate = Replicate(
            index, seed, metrics, Status(status), error, trace, started_at, duration
        )
        run = ReplicateRun(
            index, seed, _unpacked(values), None, exception, started_at or 0.0, duration or 0.0
        )
        done.append((run, replicate))
    return done


def _unpacked(values: Mapping[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    return {name: tuple(_value(value) for value in each) for name, each in values.items()}


def _value(value: Any) -> Any:
    if type(value) is not bytes:
        return value
    try:
        return pickle.loads(value)  # noqa: S301  (our own worker's bytes)
    except Exception:  # noqa: BLE001
        return "<a value that cannot be unpickled>"


def pebble() -> Any:
    """Import pebble, and what is needed to look after its processes.

    Raises:
        MissingExtraError: One of them is not installed.
    """
    try:
        import loky  # noqa: F401
        import pebble
        import psutil  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name not in ("loky", "pebble", "psutil"):
            raise
        raise MissingExtraError(
            f"Trials in processes need {error.name}, which is not installed. Run: pip install "
            '"crystallize-opt[processes]"',
            name=error.name,
        ) from error
    return pebble


def _loky_context() -> Any:
    from loky.backend import get_context

    return get_context("loky")


def _begin_process() -> None:
    import signal

    # Ctrl-C in a terminal reaches every process of the group; the search decides what becomes of
    # its trials.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # loky leaves its own name here, which the processes that a trial starts would not know.
    multiprocessing.set_start_method(None, force=True)


def _family_of(pid: int | None) -> list[Any]:
    """Return a process and all that it has started."""
    import psutil

    try:
        process = psutil.Process(pid) if pid else None
        return [process, *process.children(recursive=True)] if process else []
    except psutil.Error:
        return []


def _resident_bytes(pid: int | None) -> int:
    total = 0
    for process in _family_of(pid):
        with suppress(Exception):  # It has just ended.
            total += process.memory_info().rss
    return total


def _how_it_died(error: BaseException) -> str:
    code = getattr(error, "exitcode", None)
    if not isinstance(code, int):
        return f"The worker process died: {error}"
    if code >= 0:
        return f"The worker process ended with exit code {code}."
    import signal

    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = " (the system does that when it runs out of memory)" if name == "SIGKILL" else ""
    return f"The worker process was killed by {name}{hint}."
