"""Runs in a SQLite file: an append-only journal, one transaction for each event.

docs/storage.md documents the schema. Events are ordered by their `seq`, not by the clock. Every row
holds a checksum of itself and the rows before it, which exposes a file that was cut short or
overwritten.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import time
import zlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from crystallize_opt.errors import StorageError
from crystallize_opt.runtime.owner import Owner
from crystallize_opt.storage.files import checked_path, checkpoint_folder, sqlite_uri
from crystallize_opt.storage.lease import Lease, grant
from crystallize_opt.storage.lock import OpenFiles, RunLock, is_written
from crystallize_opt.storage.schema import (
    APPLICATION_ID,
    SCHEMA,
    SCHEMA_VERSION,
    check_file,
    damaged,
    distrust,
)
from crystallize_opt.storage.served import what_it_lacks
from crystallize_opt.storage.snapshot import reading, storage_errors

_TEXT = "%s %s %s\n"  # the text of the checksum: kind, trial, data
_WAIT_SECONDS = 30.0  # for another run's transaction, which takes microseconds

Row = tuple[str, int | None, str]
"""One event of a run: its kind, the number of its trial, and its data as JSON."""


class RunWriter:
    """One run of a file, open for writing. Only one writer at a time can write the run.

    Args:
        path: The file, created if it does not exist.
        run: The run's name.

    Attributes:
        rows: Every event of the run so far, in order.
        state: The optimizer's state before one of its asks, as JSON, or None if none is stored.
        identity: Identifies the run, also after its file was moved or copied.

    Raises:
        StorageError: The file is damaged, is not a file of runs, or has a newer version.
        RunLocked: Another writer is writing the run.
    """

    def __init__(self, path: str | os.PathLike[str], run: str) -> None:
        self.path, self.name = Path(path), run
        self._broken: str | None = None
        self._overwritten = False
        self._owner = Owner()
        self._real = real = checked_path(path, to_write=True)
        shown = os.fspath(path)
        with contextlib.ExitStack() as undo, storage_errors(shown, "opened"):
            lock = RunLock(real, run)
            undo.callback(lock.release)
            create(real)
            # Read and check a copy, so that a damaged file stays as it is.
            with reading(real) as copy:
                numbers = dict(copy.execute("SELECT name, run FROM runs"))
                stored = _run_of(shown, copy, run, numbers.get(run))
            self.rows, self._checksum, self.state = stored[1:]
            self._connection = connect(real)
            undo.callback(self._connection.close)
            self._run: int = numbers.get(run) or self._added(run)
            self.identity = self._identity()
            files = OpenFiles(real, lock.path)
            undo.callback(files.close)
            self._lock, self._files = lock, files
            undo.pop_all()

    @cached_property
    def lease(self) -> Lease:
        """By which workers know that this object still writes the run; see `Lease`."""
        return grant(self._lock.path)

    def _added(self, run: str) -> int:
        """Add a new run to the file, and return its number."""
        added = self._connection.execute(
            "INSERT INTO runs (name, created_at) VALUES (?, ?)", (run, time.time())
        )
        return added.lastrowid or 0

    def _identity(self) -> str:
        """Return a digest of what stays the same as long as the run exists."""
        (created_at,) = self._connection.execute(
            "SELECT created_at FROM runs WHERE run = ?", (self._run,)
        ).fetchone()
        text = f"{self.name}\n{created_at!r}"
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]

    @property
    def checkpoint_folder(self) -> str:
        """The folder of the run's checkpoints, which may not exist."""
        return checkpoint_folder(self._real, self.name)

    def append(self, rows: Sequence[Row], state: str | None = None) -> None:
        """Write events, all or none of them.

        Args:
            rows: The events.
            state: Replaces the stored state; None keeps it.

        Raises:
            StorageError: The events could not be written; all earlier events are intact. Or this
                process is a fork of the process that writes the run.
        """
        if not self._owner.is_here:
            raise StorageError(
                f"The run {self.name!r} in {str(self.path)!r} is written by another process, of "
                "which this one is a fork. Write from that process only."
            )
        with self._files.turn:
            self._append(rows, state)

    def _append(self, rows: Sequence[Row], state: str | None) -> None:
        self._refuse_other_files()
        execute, checksum, now = self._connection.execute, self._checksum, time.time()
        try:
            # A single statement is a transaction by itself, faster than with BEGIN and COMMIT.
            several = len(rows) > 1 or state is not None
            if several:
                execute("BEGIN IMMEDIATE")
            for kind, trial, data in rows:
                checksum = _chained(checksum, kind, trial, data)
                execute(
                    "INSERT INTO events (run, kind, trial, at, data, checksum)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    (self._run, kind, trial, now, data, checksum),
                )
            if state is not None:
                execute(
                    "INSERT OR REPLACE INTO states VALUES (?, ?, ?)",
                    (self._run, state, _checksum_of(state)),
                )
            if several:
                execute("COMMIT")
        except BaseException as error:
            if self._connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    execute("ROLLBACK")
            if not isinstance(error, sqlite3.Error):
                raise
            self._broken = (
                f"The run {self.name!r} cannot be written to {str(self.path)!r}: {error}. "
                "Everything before is stored. Once the cause is gone (is the disk full?), call "
                "optimize() again in the same way: the run continues from there."
            )
            raise StorageError(self._broken) from error
        self._checksum = checksum
        self._files.note_written()

    def _refuse_other_files(self) -> None:
        """Check that the file is still the one that this writer opened, with all that it wrote.

        Raises:
            StorageError: It is not, or an earlier event could not be written.
        """
        if self._broken is None and (what := self._what_happened()) is not None:
            self._broken = (
                f"The run {self.name!r} cannot be written to {str(self.path)!r}: {what} while the "
                "run was open (by hand, by a restored copy, a sync tool, git clean?). The last "
                "trials may be missing in the file that is there now. Restore the file, or give "
                "another path, and call optimize() again."
            )
        if self._broken is not None:
            raise StorageError(self._broken)

    def _what_happened(self) -> str | None:
        """Return what somebody else did to the files of this run, in words; None if nothing."""
        found = self._files.look()
        if isinstance(found, str):
            return f"{found!r} was removed or replaced"
        if not found:
            return None
        # A new connection, because an open one remembers what it has read.
        real = self._real
        try:
            with contextlib.closing(sqlite3.connect(real)) as connection:
                distrust(connection)
                check_file(real, connection)
                stored = _run_of(real, connection, self.name, self._run).checksum
        except (StorageError, sqlite3.Error, UnicodeError):
            stored = None
        self._overwritten = stored != self._checksum
        if self._overwritten:
            return f"{real!r} was overwritten"
        self._files.note_written()
        return None

    def close(self) -> None:
        """Let other writers open the run. In a fork of the process that writes it, do nothing.

        Raises:
            StorageError: Since the last event, the file was removed, replaced or overwritten.
        """
        if not self._owner.is_here:  # SQLite's connections must not be used after a fork.
            return
        known = self._broken
        try:
            self._refuse_other_files()
        except StorageError:
            if known is None:
                raise
        finally:
            self._close()

    def _close(self) -> None:
        try:
            # Now SQLite may write the log back to the database and delete it. It does neither if
            # another file took the place of the database, or another process has it open; nor if
            # it cannot get the locks, because the file was overwritten.
            if not self._overwritten:
                self._files.release()
            with contextlib.suppress(sqlite3.Error):  # All events have been committed.
                self._connection.close()
        finally:
            self._files.close()
            self._lock.release()


def rename_run(path: str | os.PathLike[str], run: str, name: str) -> None:
    """Rename a run that nobody has open, unless there is none; its checkpoints stay behind.

    Raises:
        StorageError: Another run has the name, or the file cannot be written.
        RunLocked: A writer has the run open.
    """
    real, shown = checked_path(path, to_write=True), os.fspath(path)
    with contextlib.ExitStack() as undo, storage_errors(shown, "written"):
        for each in (run, name):
            undo.callback(RunLock(real, each).release)
        connection = connect(real)
        undo.callback(connection.close)
        connection.execute("UPDATE runs SET name = ? WHERE name = ?", (name, run))


class _StoredRows(NamedTuple):
    name: str
    rows: Sequence[Row]
    checksum: int
    state: str | None


def read_run(path: str | os.PathLike[str], run: str | None = None) -> tuple[str, Sequence[Row]]:
    """Return the name of a run and its events, also while the run is being written.

    Args:
        path: The file.
        run: The run's name; None if the file holds one run.

    Raises:
        StorageError: There is no such file or run, or the file is damaged.
    """
    with opened_run(path, run) as (name, rows, _):
        return name, rows


@contextlib.contextmanager
def opened_run(
    path: str | os.PathLike[str], run: str | None = None
) -> Iterator[tuple[str, Sequence[Row], sqlite3.Connection]]:
    """Open a copy of a file, and read a run: its name, its events, and the copy of that moment.

    Args:
        path: As for `read_run`.
        run: As for `read_run`.

    Raises:
        StorageError: As for `read_run`.
    """
    shown = os.fspath(path)
    with reading(path) as connection, storage_errors(shown, "read"):
        numbers = _numbers(connection)
        if run is None and len(numbers) == 1:
            (run,) = numbers
        if run not in numbers:
            what = "has several runs; give run=" if run is None else f"has no run {run!r}"
            lacks = None if run is None else what_it_lacks(shown, connection, run, {}, None, set)
            raise StorageError(
                f"{shown!r} {what}. Its runs: {', '.join(map(repr, numbers)) or 'none'}."
                + ("" if lacks is None else f" {lacks.text}")
            )
        stored = _run_of(shown, connection, run, numbers[run])
        yield stored.name, stored.rows, connection


def run_names(path: str | os.PathLike[str]) -> list[str]:
    """Return the names of the runs in a file, the oldest first."""
    with reading(path) as connection, storage_errors(os.fspath(path), "read"):
        return [*_numbers(connection)]


class Written(NamedTuple):
    """When a run was written, in seconds since the epoch, and whether a search is writing it."""

    first: float
    last: float
    now: bool


def written(path: str | os.PathLike[str], run: str) -> Written:
    """Return when a run was written.

    Raises:
        StorageError: There is no such file, or the file is damaged.
    """
    with reading(path) as connection, storage_errors(os.fspath(path), "read"):
        number = _numbers(connection).get(run)
        first, last = connection.execute(
            "SELECT min(at), max(at) FROM events WHERE run = ?", (number,)
        ).fetchone()
    return Written(first or 0.0, last or 0.0, is_written(os.path.realpath(path), run))


def _numbers(connection: sqlite3.Connection) -> dict[str, int]:
    """Return the number of each run, by its name."""
    return dict(
        connection.execute("SELECT name, run FROM runs WHERE typeof(name) = 'text' ORDER BY run")
    )


def create(real: str) -> None:
    """Create an empty file of runs, if there is none: complete or not at all, even after a kill."""
    if os.path.exists(real):  # noqa: PTH110
        return
    path = Path(real)
    wal = Path(f"{path}-wal")
    if wal.exists() and wal.stat().st_size:
        raise StorageError(
            f"{str(path)!r} does not exist, but {str(wal)!r}, which holds a part of it, does. "
            "If the file was moved, move the second file with it; if it was deleted, delete both."
        )
    # Random, because a clock may give two threads the same time (on Windows for 15 ms).
    new = path.with_name(f"{path.name}.new-{os.urandom(8).hex()}")
    try:
        with contextlib.closing(sqlite3.connect(new)) as connection:
            connection.executescript(SCHEMA)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        with contextlib.suppress(FileExistsError):  # Another process was faster.
            try:
                if os.name == "nt":
                    new.rename(path)  # Elsewhere this would replace a file that exists.
                else:
                    os.link(new, path)
            except FileExistsError:
                raise
            except OSError:  # A file system without hard links.
                with path.open("xb") as file:
                    file.write(new.read_bytes())
    finally:
        new.unlink(missing_ok=True)


def connect(real: str) -> sqlite3.Connection:
    """Open a file of runs for writing."""
    # One thread at a time uses the connection, but not always the thread that opened it: a search
    # in a running event loop moves to another thread when it has to await.
    connection = sqlite3.connect(
        f"{sqlite_uri(real)}?mode=rw",
        uri=True,
        timeout=_WAIT_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        distrust(connection)
        # A commit reaches the file system before it returns, and so survives this process. It is
        # not flushed to the disk, which is slow: if the machine loses power, the last trials may be
        # missing, and run again.
        connection.execute("PRAGMA journal_mode = WAL").fetchone()
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("SELECT max(run) FROM runs").fetchone()  # SQLite opens the files here.
    except BaseException:
        connection.close()
        raise
    return connection


def _run_of(
    path: str, connection: sqlite3.Connection, name: str, number: int | None
) -> _StoredRows:
    """Return all events of a run, their last checksum, and the optimizer's state."""
    rows = connection.execute(
        "SELECT kind, trial, data FROM events WHERE run = ? ORDER BY seq", (number,)
    ).fetchall()
    checksum = 0
    if rows:
        (stored,) = connection.execute(
            "SELECT checksum FROM events WHERE run = ? ORDER BY seq DESC LIMIT 1", (number,)
        ).fetchone()
        # The last checksum covers all rows together, which is much faster than one for each row.
        checksum = zlib.crc32("".join([_TEXT % row for row in rows]).encode())
        if checksum != stored:
            raise damaged(path, f"the events of the run {name!r} are not as they were written")
        for kind, trial, data in rows:
            if type(kind) is not str or type(data) is not str or type(trial) not in _NUMBERS:
                raise damaged(path, f"the run {name!r} has an event of wrong types")
    state = connection.execute(
        "SELECT data, checksum FROM states WHERE run = ?", (number,)
    ).fetchone()
    if state is not None and (type(state[0]) is not str or _checksum_of(state[0]) != state[1]):
        raise damaged(path, f"the optimizer's state in the run {name!r} is not as it was written")
    return _StoredRows(name, rows, checksum, state and state[0])


_NUMBERS = (int, type(None))


def _checksum_of(text: str) -> int:
    return zlib.crc32(text.encode())


def _chained(checksum: int, kind: str, trial: int | None, data: str) -> int:
    return zlib.crc32((_TEXT % (kind, trial, data)).encode(), checksum)
