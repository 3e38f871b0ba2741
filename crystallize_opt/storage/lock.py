"""One writer for one run, and the files a writer relies on."""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import sys
import threading
import zlib
from pathlib import Path

from crystallize_opt.errors import RunLocked, StorageError
from crystallize_opt.storage import lease

if sys.platform != "win32":
    import fcntl  # Not later: a search that Python ends at its exit can import nothing.

_LOCK_SECONDS = 0.2  # for a writer of the same run that is about to end


class RunLock:
    """Restricts a run to one writer, by a lock that the operating system ends with the process.

    The lock is on an empty file beside the database. A lock on the database would end as soon as
    this process closes another descriptor of the database, for example after copying it. The lock
    affects neither readers nor writers of other runs. A forked process does not hold the lock.

    Args:
        real: The real path of the database, so that every path to the file leads to the same lock,
            even after a trial has changed the working directory.
        run: The run's name.

    Attributes:
        path: The path of the lock's file.

    Raises:
        RunLocked: Another writer is writing the run, or workers of an earlier one still run trials.
        StorageError: The file system has no locks, or the folder cannot be written.
    """

    def __init__(self, real: str, run: str) -> None:
        # Imported when needed, because this import takes as long as importing this package.
        from filelock import FileLock, Timeout

        self.path = lock_path(real, run)
        # No lock per thread, because a search may continue in another thread. No soft lock,
        # because its file would outlive a killed process.
        self._lock = FileLock(self.path, thread_local=False, fallback_to_soft=False)
        try:
            # A writer removes the file before it releases the lock. filelock then tries again with
            # a new file, which takes some time. It follows no symbolic link.
            self._lock.acquire(timeout=_LOCK_SECONDS, poll_interval=_LOCK_SECONDS / 10)
        except Timeout as error:
            raise RunLocked(
                f"The run {run!r} in {real!r} is being written by another process, or by "
                "another search of this one. Wait for it to end, or store this search as another "
                "run of the file. History.load can read the run meanwhile."
            ) from error
        except OSError as error:
            raise StorageError(
                f"{self.path!r} cannot be locked: {error}. A run that is written needs this "
                "file beside the database, in a folder that can be written and on a file system "
                "with locks: most network file systems have none. Give a path on a local disk."
            ) from error
        self._identity = identity(self.path)
        try:
            lease.take_back(self.path, run)
        except BaseException:
            self._lock.release()
            raise

    def release(self) -> None:
        """Let other writers open the run. In a process that was forked meanwhile, do nothing."""
        if self._lock.is_locked:
            lease.give_back(self.path)
            # Another file of that name, made after this one was removed, is another writer's lock.
            if identity(self.path) == self._identity:
                with contextlib.suppress(OSError):  # On Windows filelock removes the file itself.
                    Path(self.path).unlink()
            self._lock.release()


def is_written(real: str, run: str) -> bool:
    """Whether a writer has a run open at this moment.

    Args:
        real: The real path of the database.
        run: The run's name.
    """
    path = lock_path(real, run)
    if sys.platform == "win32":
        return _is_locked_on_windows(path)
    try:
        # Neither make the file nor ask to write it: a reader may have no right to, and a file that
        # is made when a writer has just removed its own would stay.
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except PermissionError:  # A writer removes the file when it ends.
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _is_locked_on_windows(path: str) -> bool:
    from filelock import FileLock, Timeout

    if not os.path.exists(path):  # noqa: PTH110  (and make no such file)
        return False
    try:
        with FileLock(path, timeout=0, thread_local=False, fallback_to_soft=False):
            return False
    except Timeout:
        return True


def lock_path(real: str, run: str) -> str:
    """Return the path of the lock's file."""
    # The number of the run is in the file, which is read under the lock; so use the name.
    return f"{real}.lock-{zlib.crc32(run.encode('utf-8', 'surrogatepass')):08x}"


def identity(path: str) -> tuple[int, int] | None:
    """Return which file a path leads to: equal as long as the path leads to the same file."""
    return _identity(_status(path))


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116  (called for every trial)
    except OSError:
        return None


def _identity(found: os.stat_result | None) -> tuple[int, int] | None:
    return None if found is None else (found.st_dev, found.st_ino)


def _contents(
    database: os.stat_result | None, log: os.stat_result | None
) -> tuple[tuple[int, int] | None, int]:
    if database is None or log is None:
        return None, 0
    return (database.st_size, database.st_mtime_ns), log.st_size


class OpenFiles:
    """The files of a database that is open for writing: notes if another file takes their place.

    SQLite holds POSIX locks on the database and on its index (`-shm`). The system drops these locks
    as soon as this process closes any other descriptor of the file, for example after copying the
    folder. Another process would then take the database for closed, and delete the log (`-wal`) to
    which this process still writes. This object holds the same locks once more, in the form that
    belongs to its own descriptors (Linux only).

    Args:
        database: The real path of the database, which SQLite has open in WAL mode.
        lock: The path of the run's lock.

    Attributes:
        process: The number of the process that opened the files.
        database: The identity of the database.
        turn: Whose turn it is to write, for all that write to the database in this process. SQLite
            has one writer at a time; the others would sleep for milliseconds between their tries.
    """

    def __init__(self, database: str, lock: str) -> None:
        self.process = os.getpid()
        paths = (database, f"{database}-wal", lock)
        self._files = [(path, identity(path)) for path in paths]
        self.database = self._files[0][1]
        known = (each for each in _OPEN if each.is_same(self.database))
        self.turn: threading.RLock = next((each.turn for each in known), None) or threading.RLock()
        self.note_written()
        self._held: list[tuple[int, int, int]] = []
        try:
            if sys.platform == "linux":
                self._hold(database, *_SHARED)
                self._hold(f"{database}-shm", *_IN_USE)
        except BaseException:
            self.close()
            raise
        _OPEN.append(self)

    def is_same(self, database: object) -> bool:
        """Whether these are the files of a database, by its identity, opened by this process."""
        return self.database == database and self.process == os.getpid()

    def look(self) -> str | bool:
        """Look for what somebody else did, with as few calls of the system as that takes.

        Returns:
            The path that no longer leads to its file; or whether somebody has written to the
            database itself, or has cut the log short. That need not be damage: the writer of
            another run moves the log to the database, too.
        """
        database, log, lock = (_status(path) for path, _ in self._files)
        for (path, known), found in zip(self._files, (database, log, lock), strict=True):
            if _identity(found) != known:
                return path
        content, log_bytes = _contents(database, log)
        return content != self._content or log_bytes < self._log_bytes

    def note_written(self) -> None:
        """Note that this process has just written, and so may have changed the database itself."""
        (database, _), (log, _), _ = self._files
        self._content, self._log_bytes = _contents(_status(database), _status(log))

    def release(self) -> None:
        """Release the locks, so that SQLite can write the log back and delete it."""
        if os.getpid() == self.process:  # A forked process shares the locks.
            for descriptor, start, length in self._held:
                _set_lock(descriptor, "F_UNLCK", start, length)

    def close(self) -> None:
        """Close the descriptors. Call this after SQLite has closed the database."""
        with contextlib.suppress(ValueError):
            _OPEN.remove(self)
        while self._held:
            os.close(self._held.pop()[0])

    def _hold(self, path: str, start: int, length: int) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        self._held.append((descriptor, start, length))
        try:
            _set_lock(descriptor, "F_RDLCK", start, length)
        except OSError as error:
            # Some systems lack these locks. Then `other` finds out that the log was deleted.
            if error.errno not in (errno.EINVAL, errno.ENOSYS):
                raise


_OPEN: list[OpenFiles] = []


def is_written_here(database: str) -> bool:
    """Whether this process has a database open for writing."""
    if not _OPEN:
        return False
    known = identity(database)
    return any(each.is_same(known) for each in [*_OPEN])


# From SQLite's file formats: the bytes that a connection locks while it has the database open.
_SHARED = (0x4000_0002, 510)
_IN_USE = (128, 1)


def _set_lock(descriptor: int, kind: str, start: int, length: int) -> None:
    # `struct flock`: type, whence, start, length, process.
    lock = struct.pack("@hhqqi4x", getattr(fcntl, kind), os.SEEK_SET, start, length, 0)
    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, lock)
