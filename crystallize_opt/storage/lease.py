"""Keeps a resumed search from running beside trials of a search that was killed.

The lock of a run ends with the process that writes the run, but workers may outlive that process.
So a search with workers draws a number, and writes it to a small SQLite file beside the lock. A
worker reads the number in a transaction that it keeps open while it runs a trial: a shared lock,
which the operating system ends with the worker. The next search of the run changes the number,
which SQLite allows when nobody has a transaction open, and removes the file. A worker that gets a
trial of the killed search only then finds another number, or no file, and does not run the trial.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from crystallize_opt.errors import RunLocked, StorageError
from crystallize_opt.storage.files import sqlite_uri

if TYPE_CHECKING:
    import sqlite3

_WORKERS_SECONDS = 10.0  # for the workers of a killed search, which end within a second or two
_LOOK_SECONDS = 0.1  # so that Ctrl-C is heard meanwhile
_CHANGE_SECONDS = 30.0  # for a search that changes the number, which takes microseconds
_NOBODY = 0


class Lease(NamedTuple):
    """By which the workers of a search know that it still writes the run.

    Attributes:
        path: The file.
        number: The search's number.
    """

    path: str
    number: int


def grant(lock: str) -> Lease:
    """Return a new lease for the workers of the search that has just locked the run.

    Args:
        lock: The path of the run's lock.

    Raises:
        StorageError: The file cannot be written.
    """
    lease = Lease(_path(lock), int.from_bytes(os.urandom(4), "big") >> 1 or 1)
    if not _change(lease, _LOOK_SECONDS):
        raise StorageError(f"{lease.path!r} is in use by another program. End that program.")
    return lease


def take_back(lock: str, run: str) -> None:
    """Wait until no worker runs a trial of an earlier search, and let none begin one.

    Args:
        lock: The path of the run's lock, which this process holds.
        run: The run's name.

    Raises:
        RunLocked: Such trials do not end.
        StorageError: The file cannot be locked.
    """
    path = _path(lock)
    if os.path.lexists(path) and not _end(path, _WORKERS_SECONDS):
        raise RunLocked(
            f"Workers of an earlier search of the run {run!r} still run its trials. That search "
            f"was killed, or gave these trials up. {_holders(path)} Wait for them, or end them."
        )


def give_back(lock: str) -> None:
    """End the lease of a search that ends. Trials that it gave up keep the file; see `take_back`.

    Args:
        lock: The path of the run's lock, which this process holds.
    """
    path = _path(lock)
    if os.path.lexists(path):
        with contextlib.suppress(StorageError):  # The next search says so.
            _end(path, _LOOK_SECONDS)


@contextlib.contextmanager
def held(lease: Lease | None) -> Iterator[None]:
    """Keep other searches from the run while this process runs a trial.

    Args:
        lease: The lease of the search that sent the trial; None to do nothing.

    Raises:
        StorageError: That search no longer writes the run.
    """
    if lease is None:
        yield
        return
    with contextlib.closing(_transaction(lease)):
        yield


def _transaction(lease: Lease) -> sqlite3.Connection:
    import sqlite3  # Here, because `Workers` imports this module.

    connection = None
    try:
        connection = sqlite3.connect(
            f"{sqlite_uri(lease.path)}?mode=ro",
            uri=True,
            timeout=_CHANGE_SECONDS,
            isolation_level=None,
        )
        connection.execute("BEGIN")
        (number,) = connection.execute("PRAGMA user_version").fetchone()
        if number == lease.number:
            return connection
        why = "another search has taken the run over"
    except sqlite3.Error as error:
        why = f"{lease.path!r} cannot be read: {error}"
    if connection is not None:
        connection.close()
    raise StorageError(
        f"This trial was not run, because the search that sent it no longer writes its run: {why}."
    )


def _path(lock: str) -> str:
    return f"{lock}-workers"


def _end(path: str, seconds: float) -> bool:
    """Take the number from the workers, and remove the file; return whether that worked in time."""
    if not _change(Lease(path, _NOBODY), seconds):
        return False
    with contextlib.suppress(OSError):  # Windows removes no file that somebody has open.
        Path(path).unlink(missing_ok=True)
    return True


def _change(lease: Lease, seconds: float) -> bool:
    """Write the number when no worker has a transaction open; return whether that was in time."""
    import sqlite3

    deadline = time.monotonic() + seconds
    try:
        if Path(lease.path).is_symlink():
            raise StorageError(f"{lease.path!r} is a link, which is not followed. Remove it.")
        with contextlib.closing(
            sqlite3.connect(
                sqlite_uri(lease.path), uri=True, timeout=_LOOK_SECONDS, isolation_level=None
            )
        ) as connection:
            # The number is in the file's only page, which is written at once: no journal is needed,
            # nor has it to last longer than the workers.
            connection.execute("PRAGMA journal_mode = MEMORY").fetchone()
            connection.execute("PRAGMA synchronous = OFF")
            while not _begun(connection):
                if time.monotonic() >= deadline:
                    return False
            connection.execute(f"PRAGMA user_version = {lease.number}")
            connection.execute("COMMIT")
        return True
    except sqlite3.Error as error:
        raise StorageError(
            f"{lease.path!r} cannot be locked: {error}. It keeps searches from running beside "
            "workers of an earlier search of the run. If no such worker lives, delete it."
        ) from error


def _begun(connection: sqlite3.Connection) -> bool:
    import sqlite3

    try:
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        return False
    return True


def _holders(path: str) -> str:
    """Return a sentence that names the processes that have a file open."""
    try:
        import psutil
    except ImportError:
        return f"(With psutil installed, this message names the processes that use {path!r}.)"
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):  # It has ended, or is another user's.
            if any(file.path == path for file in process.open_files()):
                found.append(f"{process.pid} ({process.name()})")
    return f"The processes are {', '.join(found) or 'those of another user'}."
