"""Reading a file of runs: from a private copy, so that a reader cannot disturb a writer.

SQLite's own readers lock the file and create files beside it. Those files belong to the reader's
user, and the last reader to leave writes the log back to the database and deletes the log. A copy
needs no rights but to read, and leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crystallize_opt.errors import StorageError
from crystallize_opt.storage.files import checked_path
from crystallize_opt.storage.lock import is_written_here
from crystallize_opt.storage.log import lost_frame
from crystallize_opt.storage.schema import check_file, distrust

_TRIES = 50
_WAL_HEADER = 32  # bytes; it holds two random numbers, which change when the log begins anew


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[sqlite3.Connection]:
    """Open a checked copy of a file, as it is at one moment, also while it is being written.

    Raises:
        StorageError: There is no such file, it is not one of runs, or it is damaged.
    """
    shown, real = os.fspath(path), checked_path(path, to_write=False)
    with storage_errors(shown, "read"):
        if not os.path.exists(real):  # noqa: PTH110
            raise StorageError(f"There is no file {shown!r}.")
        with tempfile.TemporaryDirectory(prefix="crystallize-opt-") as folder:
            copy = Path(folder, "runs.db")
            if is_written_here(real):
                _copy_by_sqlite(real, copy)
            else:
                _copy(real, copy)
            if not copy.stat().st_size:
                raise StorageError(
                    f"{shown!r} is empty: it was cut short, or it never held runs. Restore it from "
                    "a copy; or delete it, to begin anew."
                )
            with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as connection:
                distrust(connection)
                connection.execute("PRAGMA synchronous = OFF")  # The copy need not last.
                check_file(shown, connection)
                _warn_of_lost_events(shown, Path(f"{real}-wal"), Path(f"{copy}-wal"), connection)
                connection.execute("PRAGMA query_only = 1")
                yield connection


def _warn_of_lost_events(
    shown: str, log: Path, copied: Path, connection: sqlite3.Connection
) -> None:
    """Warn if the log has transactions that SQLite does not read, and so nobody ever will."""
    frame = lost_frame(copied, connection)
    if frame is None:
        return
    with contextlib.suppress(FileNotFoundError):
        if log.read_bytes() != copied.read_bytes():
            return  # It is being written, so the copy may have a transaction in part.
    warnings.warn(
        f"The last events of {shown!r} are lost: its log {str(log)!r} is damaged from frame {frame}"
        " on (by a loss of power, a damaged disk, a copy made while it was written). The runs end "
        "before the damage; what they have is right. A search that is resumed runs the missing "
        "trials again. To restore these events, restore both files from one copy.",
        RuntimeWarning,
        stacklevel=2,
    )


def _copy(path: str, copy: Path) -> None:
    """Copy the database, then its log, as they are at one moment.

    Whatever a checkpoint writes to the database meanwhile is in the log, unless the log begins
    anew. Without a log, the database may not change.
    """
    log, copied_log = f"{path}-wal", Path(f"{copy}-wal")
    for _ in range(_TRIES):
        before = _state(path, log)
        shutil.copyfile(path, copy)
        copied_log.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(log, copied_log)
        if _state(path, log) == before:
            return
    raise StorageError(
        f"{path!r} is being written so fast that it cannot be read. Try again in a moment."
    )


def _copy_by_sqlite(path: str, copy: Path) -> None:
    """Copy a database that this process writes; closing the file would drop SQLite's locks."""
    with (
        contextlib.closing(sqlite3.connect(path)) as source,
        contextlib.closing(sqlite3.connect(copy)) as target,
    ):
        distrust(source)
        source.backup(target)


def _state(path: str, log: str) -> tuple[object, ...]:
    """Return a value that is equal as long as a copy made meanwhile is one moment's state."""
    file = os.stat(path)  # noqa: PTH116
    header = b""
    with contextlib.suppress(FileNotFoundError), open(log, "rb") as stream:  # noqa: PTH123
        header = stream.read(_WAL_HEADER)
    if header:
        return file.st_dev, file.st_ino, header
    return file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns


@contextmanager
def storage_errors(path: str, done: str) -> Iterator[None]:
    """Turn errors of SQLite and of the file system into `StorageError`."""
    try:
        yield
    except (sqlite3.Error, OSError, UnicodeError) as error:
        raise StorageError(
            f"{path!r} cannot be {done}: {error}. If it was cut short or overwritten, "
            "restore it from a copy (with the file -wal beside it); to begin anew, give "
            "another path."
        ) from error
