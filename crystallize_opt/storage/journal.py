"""Runs in a SQLite file: an append-only journal, one transaction for each event.

docs/storage.md documents the schema. Events are ordered by their `seq`, not by the clock. Every row
holds a checksum of itself and the rows before it, which exposes a file that was cut short or
overwritten.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from crystallize_opt.errors import RunLocked, StorageError

SCHEMA_VERSION = 1
_APPLICATION_ID = 0x6372_6F70  # "crop"; distinguishes our files from other SQLite files
_TEXT = "%s %s %s\n"  # the text of the checksum: kind, trial, data
_WAIT_SECONDS = 30.0  # for another run's transaction, which takes microseconds
_LOCK_SECONDS = 0.2  # for a writer of the same run that is about to end

_SCHEMA = """
CREATE TABLE runs (
  run INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  created_at REAL NOT NULL
);
CREATE TABLE events (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  run INTEGER NOT NULL REFERENCES runs (run),
  kind TEXT NOT NULL,
  trial INTEGER,
  at REAL NOT NULL,
  data TEXT NOT NULL,
  checksum INTEGER NOT NULL
);
CREATE INDEX events_of_run ON events (run);
CREATE TABLE states (
  run INTEGER PRIMARY KEY REFERENCES runs (run),
  data TEXT NOT NULL
);
CREATE VIEW trials AS
  SELECT runs.name AS run, asked.trial AS trial,
    json_extract(asked.data, '$.name') AS name,
    json_extract(asked.data, '$.params') AS params,
    coalesce(json_extract(observed.data, '$.status'), 'pending') AS status,
    json_extract(observed.data, '$.metrics') AS metrics,
    json_extract(observed.data, '$.error') AS error,
    json_extract(observed.data, '$.started_at') AS started_at,
    json_extract(observed.data, '$.duration') AS duration
  FROM events AS asked JOIN runs ON runs.run = asked.run
    LEFT JOIN events AS observed ON observed.run = asked.run AND observed.trial = asked.trial
      AND observed.kind IN ('observation', 'attach')
  WHERE asked.kind IN ('ask', 'batch', 'attach');
CREATE VIEW metrics AS
  SELECT trials.run, trials.trial, trials.name, each.key AS metric, each.value AS value
  FROM trials, json_each(trials.metrics) AS each;
"""


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

    Raises:
        StorageError: The file is damaged, is not a file of runs, or has a newer version.
        RunLocked: Another writer is writing the run.
    """

    def __init__(self, path: str | os.PathLike[str], run: str) -> None:
        self.path, self.name = Path(path), run
        self._broken: str | None = None
        with contextlib.ExitStack() as undo:
            with _storage_errors(self.path, "opened"):
                if not self.path.exists():
                    _create(self.path)
                self._connection = _connect(self.path, "rw")
                undo.callback(self._connection.close)
                _check_schema(self.path, self._connection)
                # A commit reaches the file system before it returns, and so survives this process.
                # It is not flushed to the disk, which is slow: if the machine loses power, the last
                # trials may be missing, and run again.
                self._connection.execute("PRAGMA journal_mode = WAL").fetchone()
                self._connection.execute("PRAGMA synchronous = NORMAL")
                self._connection.execute(
                    "INSERT OR IGNORE INTO runs (name, created_at) VALUES (?, ?)",
                    (run, time.time()),
                )
                (self._run,) = self._connection.execute(
                    "SELECT run FROM runs WHERE name = ?", (run,)
                ).fetchone()
            self._lock = _Lock(self.path, self._run, run)
            undo.callback(self._lock.release)
            with _storage_errors(self.path, "read"):
                self.rows, self._checksum = _rows(self.path, self._connection, self._run)
                found = self._connection.execute(
                    "SELECT data FROM states WHERE run = ?", (self._run,)
                ).fetchone()
                self.state: str | None = found and found[0]
            undo.pop_all()

    def append(self, rows: Sequence[Row], state: str | None = None) -> None:
        """Write events, all or none of them.

        Args:
            rows: The events.
            state: Replaces the stored state; None keeps it.

        Raises:
            StorageError: The events could not be written; all earlier events are intact.
        """
        if self._broken is not None:
            raise StorageError(self._broken)
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
                execute("INSERT OR REPLACE INTO states VALUES (?, ?)", (self._run, state))
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

    def close(self) -> None:
        """Let other writers open the run."""
        try:
            with contextlib.suppress(sqlite3.Error):  # All events have been committed.
                self._connection.close()
        finally:
            self._lock.release()


def read_run(path: str | os.PathLike[str], run: str | None = None) -> tuple[str, Sequence[Row]]:
    """Return the name of a run and its events, also while the run is being written.

    Args:
        path: The file.
        run: The run's name; None if the file holds one run.

    Raises:
        StorageError: There is no such file or run, or the file is damaged.
    """
    with _reading(Path(path)) as connection:
        names = dict(connection.execute("SELECT name, run FROM runs ORDER BY run"))
        if run is None and len(names) == 1:
            (run,) = names
        if run not in names:
            what = "has several runs; give run=" if run is None else f"has no run {run!r}"
            raise StorageError(
                f"{str(path)!r} {what}. Its runs: {', '.join(map(repr, names)) or 'none'}."
            )
        rows, _ = _rows(Path(path), connection, names[run])
    return str(run), rows


def run_names(path: str | os.PathLike[str]) -> list[str]:
    """Return the names of the runs in a file, the oldest first."""
    with _reading(Path(path)) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM runs ORDER BY run")]


def _create(path: Path) -> None:
    """Create an empty file of runs: complete or not at all, even if this process dies."""
    wal = Path(f"{path}-wal")
    if wal.exists() and wal.stat().st_size:
        raise StorageError(
            f"{str(path)!r} does not exist, but {str(wal)!r}, which holds a part of it, does. Was "
            "the file moved or deleted? Restore it, or remove the other part, too."
        )
    new = path.with_name(f"{path.name}.new-{os.getpid()}-{time.monotonic_ns()}")
    try:
        with contextlib.closing(sqlite3.connect(new)) as connection:
            connection.executescript(_SCHEMA)
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        with contextlib.suppress(FileExistsError):  # Another process was faster.
            try:
                os.link(new, path)
            except FileExistsError:
                raise
            except OSError:  # A file system without hard links.
                with path.open("xb") as file:
                    file.write(new.read_bytes())
    finally:
        new.unlink(missing_ok=True)


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    # One thread at a time uses the connection, but not always the thread that opened it: a search
    # in a running event loop moves to another thread when it has to await.
    return sqlite3.connect(
        uri, uri=True, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False
    )


def _check_schema(path: Path, connection: sqlite3.Connection) -> None:
    if path.stat().st_size == 0:
        raise StorageError(
            f"{str(path)!r} is empty: it was cut short, or it never held runs. Restore it from a "
            "copy; or delete it, to begin anew."
        )
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != _APPLICATION_ID:
        raise StorageError(
            f"{str(path)!r} is a SQLite file of something else, not of crystallize-opt's runs. "
            "Give another path."
        )
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != SCHEMA_VERSION:
        raise StorageError(
            f"{str(path)!r} has version {version} of the schema; this crystallize-opt knows "
            f"version {SCHEMA_VERSION}. Use the newer crystallize-opt that wrote it."
        )


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    with _storage_errors(path, "read"):
        if not path.exists():
            raise StorageError(f"There is no file {str(path)!r}.")
        # In a read-only folder without a -wal file, SQLite can read only an immutable file.
        complete = not os.access(path.parent, os.W_OK) and not Path(f"{path}-wal").exists()
        with contextlib.closing(_connect(path, "ro&immutable=1" if complete else "rw")) as reader:
            reader.execute("PRAGMA query_only = 1")
            _check_schema(path, reader)
            yield reader


def _rows(path: Path, connection: sqlite3.Connection, run: int) -> tuple[Sequence[Row], int]:
    """Return all events of a run, and the last checksum."""
    found = connection.execute(
        "SELECT kind, trial, data FROM events WHERE run = ? ORDER BY seq", (run,)
    ).fetchall()
    if not found:
        return [], 0
    seq, stored = connection.execute(
        "SELECT seq, checksum FROM events WHERE run = ? ORDER BY seq DESC LIMIT 1", (run,)
    ).fetchone()
    # The last checksum covers all rows together; one computation is much faster than one per row.
    checksum = zlib.crc32("".join([_TEXT % row for row in found]).encode())
    if checksum != stored:
        raise StorageError(
            f"{str(path)!r} is damaged: the events up to {seq} are not as they were written. "
            "Restore the file from a copy, or begin a new run in another one."
        )
    return found, checksum


def _chained(checksum: int, kind: str, trial: int | None, data: str) -> int:
    return zlib.crc32((_TEXT % (kind, trial, data)).encode(), checksum)


@contextmanager
def _storage_errors(path: Path, done: str) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise StorageError(
            f"{str(path)!r} cannot be {done}: {error}. If it was cut short or overwritten, "
            "restore it from a copy (with the files -wal and -shm beside it); to begin anew, give "
            "another path."
        ) from error


class _Lock:
    """Restricts a run to one writer, by a lock that the operating system ends with the process.

    The lock is on an empty file beside the database. A lock on the database would end as soon as
    this process closes another descriptor of the database, for example after copying it. The lock
    affects neither readers nor writers of other runs. A forked process does not hold the lock.
    """

    def __init__(self, path: Path, run: int, name: str) -> None:
        # Imported when needed, because this import takes as long as importing this package.
        from filelock import FileLock, Timeout

        # Use the real path, so that every path to the file leads to the same lock, even after a
        # trial has changed the working directory.
        self._path = Path(f"{os.path.realpath(path)}.lock-{run}")
        # No lock per thread, because a search may continue in another thread. No soft lock,
        # because its file would outlive a killed process.
        self._lock = FileLock(self._path, thread_local=False, fallback_to_soft=False)
        try:
            # A writer removes the file before it releases the lock. filelock then tries again with
            # a new file, which takes some time.
            self._lock.acquire(timeout=_LOCK_SECONDS, poll_interval=_LOCK_SECONDS / 10)
        except Timeout as error:
            raise RunLocked(
                f"The run {name!r} in {str(path)!r} is being written by another process, or by "
                "another search of this one. Wait for it to end, or store this search as another "
                "run of the file. (To read the run meanwhile: History.load.)"
            ) from error
        except OSError as error:
            raise StorageError(
                f"{str(self._path)!r} cannot be locked: {error}. A run that is written needs this "
                "file beside the database, in a folder that can be written and on a file system "
                "with locks: most network file systems have none. Give a path on a local disk."
            ) from error

    def release(self) -> None:
        """Let other writers open the run. In a process that was forked meanwhile, do nothing."""
        if self._lock.is_locked:
            with contextlib.suppress(OSError):  # On Windows filelock removes the file afterwards.
                self._path.unlink()
            self._lock.release()
