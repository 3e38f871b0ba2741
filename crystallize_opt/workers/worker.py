"""The code of a worker process: it receives a trial as bytes, runs it, and returns plain data.

Only plain data leaves the process. An exception might not unpickle, which breaks a whole pool; a
metric's value might not pickle; a `SystemExit` would end the process.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from crystallize_opt.errors import StorageError
from crystallize_opt.pipeline.fault import Fault
from crystallize_opt.pipeline.recipe import Recipe
from crystallize_opt.pipeline.replicate import ReplicateRun
from crystallize_opt.pipeline.session import open_session
from crystallize_opt.runtime.owner import Owner
from crystallize_opt.runtime.signals import FROM_TERMINAL, SignalHandlers, ignore
from crystallize_opt.runtime.sync import run_sync
from crystallize_opt.storage.lease import Lease, held
from crystallize_opt.trials.curves import Listener
from crystallize_opt.trials.replicate import Replicate
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import Treatment
from crystallize_opt.workers.family import end_descendants
from crystallize_opt.workers.logs import Record, Send, forget_handlers, forwarded
from crystallize_opt.workers.portable import portable, unpacked
from crystallize_opt.workers.sending import Package, home, unpickled
from crystallize_opt.workers.trial import Began, Done, ended, run_replicates

Row = tuple[Any, ...]
"""A replicate as plain data: the fields of `Replicate`, the metrics with all their values, the keys
that were asked for, the fault, and the curves."""

Source = bytes | str
"""A pickled experiment, or the path of a file that holds it."""


class Answer(NamedTuple):
    """What a worker returns for a trial: plain data.

    Attributes:
        rows: The replicates.
        teardown: The errors of the steps' `teardown` after them, each with its traceback.
        records: The log records of the trial that have not been sent before.
        lacks_experiment: Whether the worker could not read the experiment, so nothing has run.
        refusal: Why no trial can run there; or None.
    """

    rows: list[Row]
    teardown: Sequence[tuple[str, str]] = ()
    records: Sequence[Record] = ()
    lacks_experiment: bool = False
    refusal: str | None = None


class Point(NamedTuple):
    """A point of a running trial's curve; the worker waits for the answer, True or False."""

    step: int
    value: float


_LOOK_SECONDS = 1.0
"""How often a worker of a pool checks that its parent lives."""

_loaded: tuple[str, Package] | None = None
_lock = threading.Lock()
_watches = False
_place: tuple[str | None, bool] = (None, False)


def run_trial(
    key: str, source: Source, treatment: bytes, first: int, last: int, lease: Lease | None
) -> Answer:
    """Run some replicates of a treatment. This function never raises.

    Args:
        key: The experiment's identity. The experiment stays loaded for the next trial.
        source: The experiment.
        treatment: The treatment, pickled.
        first: The first replicate.
        last: The replicate before which to stop.
        lease: The lease of the stored run, if there is one.
    """
    began = Began.now()
    try:
        end_with_owner()
        with held(lease_here(key, source, lease)), Owner(), deaf_to_interrupts():
            return _run_in_pool(key, source, treatment, first, last)
    except StorageError as error:
        return Answer([], refusal=str(error))
    except BaseException as error:  # noqa: BLE001
        return ended_by(first, error, began)


def lease_here(key: str, source: Source, lease: Lease | None) -> Lease | None:
    """Return the lease if this process is on the search's machine: the experiment's file is there.

    Other machines cannot hold the lease.
    """
    global _place
    if _place[0] != key:
        # Once for each search, because a search removes its file of the experiment when it ends.
        _place = key, isinstance(source, str) and Path(source).exists()
    return lease if _place[1] else None


def _run_in_pool(key: str, source: Source, treatment: bytes, first: int, last: int) -> Answer:
    package = _package(key, source)
    if package is None:
        return Answer([], lacks_experiment=True)
    if package.home == home():  # A thread of a local Dask cluster, say.
        return _run_package(package, treatment, first, last)
    records: list[Record] = []
    with forwarded(package.levels, records.append):
        answer = _run_package(package, treatment, first, last)
    return answer._replace(records=records)


def deaf_to_interrupts() -> SignalHandlers:
    """Return a context manager for a trial in a pool's worker, in which Ctrl-C does nothing.

    Ctrl-C reaches every process of a terminal, but the search decides how its trials end.
    """
    return SignalHandlers(ignore, FROM_TERMINAL)


def end_with_owner() -> None:
    """End this process, and all it has started, when the process that started it is gone.

    For the workers of a pool; those of "processes" have a guard. The workers of a cluster, which
    another program has started, are not touched.
    """
    global _watches
    started_by_python = type(multiprocessing.current_process()).__name__ != "_MainProcess"
    if not _watches and started_by_python and os.name == "posix":
        _watches = True
        threading.Thread(
            target=_watch_parent, args=(os.getppid(),), name="crystallize_opt", daemon=True
        ).start()


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    end_descendants()
    os.kill(os.getpid(), signal.SIGKILL)


def load(key: str, source: Source) -> Answer | None:
    """Unpickle the experiment in a process of this package. Returns an answer if that fails."""
    if _package(key, source) is None:
        return Answer([], lacks_experiment=True)
    forget_handlers()
    return None


def run_loaded(
    treatment: bytes,
    first: int,
    last: int,
    heard: tuple[str, int] | None,
    send: Send,
    report: Callable[[int, float], bool],
) -> Answer:
    """Run some replicates with the experiment that was loaded, and send log records at once.

    Args:
        treatment: The treatment, pickled.
        first: The first replicate.
        last: The replicate before which to stop.
        heard: The metric and the replicate whose curve the search hears; None for no curve.
        send: Sends a log record.
        report: Sends a point of the curve, and waits for the answer.
    """
    listener = None if heard is None else Listener(heard[0], report, heard[1])
    if _loaded is None:
        raise RuntimeError("No experiment is loaded.")
    package = _loaded[1]
    with forwarded(package.levels, send):
        return _run_package(package, treatment, first, last, listener)


def _package(key: str, source: Source) -> Package | None:
    """Return the experiment, which is read only once; None if there is no such file here."""
    global _loaded
    with _lock:
        if _loaded is not None and _loaded[0] == key:
            return _loaded[1]
        if isinstance(source, str):
            try:
                source = Path(source).read_bytes()
            except OSError:
                return None
            if hashlib.sha256(source).hexdigest() != key:
                return None  # Another machine's file; do not unpickle it.
        _loaded = None
        package: Package = unpickled(source)
        _loaded = (key, package)
        return package


def _run_package(
    package: Package, treatment: bytes, first: int, last: int, listener: Listener | None = None
) -> Answer:
    return run_sync(_run(package.recipe, unpickled(treatment), first, last, listener))


async def _run(
    experiment: Recipe, treatment: Treatment, first: int, last: int, listener: Listener | None
) -> Answer:
    async with open_session(experiment) as session:
        done = await run_replicates(session, treatment, first, last, listener)
    errors = [
        (
            "".join(traceback.format_exception_only(error)).strip(),
            "".join(traceback.format_exception(error)),
        )
        for error in session.teardown_errors
    ]
    return answer_of(done, errors)


def ended_by(first: int, error: BaseException, began: Began) -> Answer:
    """Return the record of a replicate that ended by an exception outside its steps.

    A `KeyboardInterrupt` is one that the trial itself raised: workers are deaf to Ctrl-C.
    """
    status = Status.OUT_OF_MEMORY if isinstance(error, MemoryError) else Status.FAILED
    return answer_of([ended(first, status, error, began=began)])


def answer_of(done: Done, teardown: Sequence[tuple[str, str]] = ()) -> Answer:
    """Return replicates, and the errors of `teardown`, as plain data."""
    return Answer([_row(run) for run in done], teardown)


def _row(run: ReplicateRun) -> Row:
    replicate = run.record
    return (
        replicate.index,
        replicate.seed,
        {name: tuple(map(portable, each)) for name, each in run.metrics.items()},
        dict(replicate.metrics),
        replicate.status.value,
        replicate.error,
        replicate.traceback,
        replicate.started_at,
        replicate.duration,
        run.returned,
        None
        if run.asked_for is None
        else sorted(key for key in run.asked_for if isinstance(key, str)),
        run.fault and tuple(run.fault),
        replicate.curves,
    )


def from_rows(rows: list[Row]) -> Done:
    """Return the replicates that a worker sent as plain data."""
    done: Done = []
    for index, seed, values, metrics, status, error, trace, *rest in rows:
        started_at, duration, returned, asked_for, fault, curves = rest
        exception = None if error is None else worker_error(error, trace)
        replicate = Replicate(
            index, seed, metrics, Status(status), error, trace, started_at, duration, curves
        )
        run = ReplicateRun(
            replicate,
            {name: tuple(map(unpacked, each)) for name, each in values.items()},
            exception,
            asked_for=asked_for,
            fault=fault and Fault(*fault),
            returned=returned,
        )
        done.append(run)
    return done


def worker_error(text: str, trace: str | None) -> RuntimeError:
    """Return an exception that stands for one of a worker process."""
    error = RuntimeError(text)
    error.add_note(f"In a worker process:\n{trace or text}")
    return error
