"""The code of a worker process: it receives a trial as bytes, runs it, and returns plain data.

Only plain data leaves the process. An exception might not unpickle, which breaks a whole pool; a
metric's value might not pickle; a `SystemExit` would end the process.
"""

from __future__ import annotations

import pickle
import time
import traceback
from collections.abc import Mapping
from typing import Any, NamedTuple

from crystallize_opt.pipeline.recipe import Recipe
from crystallize_opt.pipeline.replicate import ReplicateRun
from crystallize_opt.pipeline.session import open_session
from crystallize_opt.runtime.sync import run_sync
from crystallize_opt.trials.observation import Replicate, Status
from crystallize_opt.trials.treatment import Treatment
from crystallize_opt.workers.trial import Done, ended, run_replicates

Row = tuple[Any, ...]
"""A replicate as plain data: the fields of `Replicate`, and the metrics with all their values."""


class Answer(NamedTuple):
    """What a worker returns for a trial: plain data.

    Attributes:
        rows: The replicates.
        teardown: The error of a step's `teardown` after them, and its traceback; or None.
    """

    rows: list[Row]
    teardown: tuple[str, str] | None = None


_PLAIN = (float, int, str, bool, type(None))

_loaded: tuple[str, Any] | None = None


def run_trial(key: str, blob: bytes, treatment: bytes, first: int, last: int) -> Answer:
    """Run some replicates of a treatment. This function never raises.

    Args:
        key: The experiment's identity. The experiment stays loaded for the next trial.
        blob: The experiment, pickled.
        treatment: The treatment, pickled.
        first: The first replicate.
        last: The replicate before which to stop.
    """
    started_at = time.time()
    try:
        load(key, blob)
        return run_loaded(treatment, first, last)
    except BaseException as error:  # noqa: BLE001
        return ended_by(first, error, started_at)


def load(key: str, blob: bytes) -> None:
    """Unpickle the experiment, unless it is the one already loaded."""
    global _loaded
    if _loaded is None or _loaded[0] != key:
        _loaded = (key, pickle.loads(blob))  # noqa: S301  (our own bytes)


def run_loaded(treatment: bytes, first: int, last: int) -> Answer:
    """Run some replicates with the experiment that was loaded."""
    experiment: Any = _loaded and _loaded[1]
    return run_sync(_run(experiment, pickle.loads(treatment), first, last))  # noqa: S301


async def _run(experiment: Recipe, treatment: Treatment, first: int, last: int) -> Answer:
    async with open_session(experiment) as session:
        done = await run_replicates(session, treatment, first, last)
    error = session.teardown_error
    if error is None:
        return answer_of(done)
    text = "".join(traceback.format_exception_only(error)).strip()
    return answer_of(done, (text, "".join(traceback.format_exception(error))))


def ended_by(first: int, error: BaseException, started_at: float) -> Answer:
    """Return the record of a replicate that ended by an exception outside its steps."""
    status = Status.FAILED
    if isinstance(error, MemoryError):
        status = Status.OUT_OF_MEMORY
    elif isinstance(error, KeyboardInterrupt):  # Ctrl-C reaches every process of a terminal.
        status = Status.ABANDONED
    return answer_of([ended(first, status, error, started_at=started_at)])


def answer_of(done: Done, teardown: tuple[str, str] | None = None) -> Answer:
    """Return replicates, and the error of a `teardown`, as plain data."""
    return Answer([_row(run, replicate) for run, replicate in done], teardown)


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
        run.returned,
    )


def _portable(value: Any) -> Any:
    """Return a metric's value unchanged if it is plain, or else (an array, for example) pickled."""
    if type(value) in _PLAIN:
        return value
    try:
        return pickle.dumps(value)
    except Exception:  # noqa: BLE001  (the `__reduce__` of any class may raise anything)
        return pickle.dumps(_Placeholder(f"<a {type(value).__name__}, which cannot be pickled>"))


def from_rows(rows: list[Row]) -> Done:
    """Return the replicates that a worker sent as plain data."""
    done: Done = []
    for index, seed, values, metrics, status, error, trace, *rest in rows:
        started_at, duration, returned = rest
        exception = None if error is None else worker_error(error, trace)
        replicate = Replicate(
            index, seed, metrics, Status(status), error, trace, started_at, duration
        )
        run = ReplicateRun(
            index,
            seed,
            _unpacked(values),
            None,
            exception,
            started_at or 0.0,
            duration or 0.0,
            returned,
        )
        done.append((run, replicate))
    return done


def worker_error(text: str, trace: str | None) -> RuntimeError:
    """Return an exception that stands for one of a worker process."""
    error = RuntimeError(text)
    error.add_note(f"In a worker process:\n{trace or text}")
    return error


def _unpacked(values: Mapping[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    return {name: tuple(_value(value) for value in each) for name, each in values.items()}


def _value(value: Any) -> Any:
    if type(value) is not bytes:
        return value
    try:
        return pickle.loads(value)  # noqa: S301  (our own worker's bytes)
    except Exception:  # noqa: BLE001
        return _Placeholder("<a value that cannot be unpickled>")


class _Placeholder(str):
    """Stands for a value that cannot be sent; its `repr` is itself."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)
