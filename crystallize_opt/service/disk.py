"""When a file has reached the disk; many writers share one flush."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from crystallize_opt.service.processors import share_one

Done = Callable[[OSError | None], object]


class Disk:
    """Flushes the log of a database to the disk, in a thread of its own.

    SQLite could flush at each commit (`synchronous = FULL`), but holds its lock meanwhile: one
    change at a time, and none of the runs. Here the writers go on, and each waits for a flush that
    began after its commit.

    After a flush that failed, nobody knows which pages reached the disk, and the next flush would
    report success without them. So every later one fails as well.

    Args:
        database: The real path of the database, which SQLite has open in WAL mode.

    Raises:
        OSError: The log cannot be opened.
    """

    def __init__(self, database: str) -> None:
        # All changes are in the log until SQLite itself has flushed them to the database.
        self._log = os.open(f"{database}-wal", os.O_RDWR | getattr(os, "O_BINARY", 0))
        self._wake = threading.Condition()
        self._waiting: list[Done] = []
        self._failed: OSError | None = None
        self._is_closing = self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="flush", daemon=True)
        try:
            _flush_folder(Path(database).parent)
            self._thread.start()
        except BaseException:
            os.close(self._log)
            raise

    def when_flushed(self, done: Done) -> None:
        """Call a function when all that is written by now is on disk.

        Args:
            done: Called in the thread of this object, with the error if the flush failed.
        """
        with self._wake:
            if is_open := not self._is_closed:
                self._waiting.append(done)
                self._wake.notify()
        if not is_open:  # The last flush was after the last commit.
            done(self._failed)

    def close(self) -> None:
        """Flush, answer those that wait, and release the file. A second call does nothing."""
        with self._wake:
            self._is_closing = True
            self._wake.notify()
        self._thread.join()
        if self._log >= 0:
            os.close(self._log)
            self._log = -1

    def _work(self) -> None:
        share_one()
        while True:
            with self._wake:
                while not (self._waiting or self._is_closing):
                    self._wake.wait()
                some, self._waiting = self._waiting, []
                is_last = self._is_closing
            self._flush()
            for done in some:
                done(self._failed)
            if is_last:
                break
        with self._wake:
            self._is_closed = True
            some, self._waiting = self._waiting, []
        for done in some:
            done(self._failed)

    def _flush(self) -> None:
        if self._failed is None:
            try:
                flush(self._log)
            except OSError as error:
                self._failed = error


def flush(descriptor: int) -> None:
    """Wait until the content of a file is on disk, also after a loss of power.

    Raises:
        OSError: It cannot be written there.
    """
    if sys.platform == "darwin":  # There, fsync leaves the content in the cache of the disk.
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    elif hasattr(os, "fdatasync"):
        os.fdatasync(descriptor)
    else:
        os.fsync(descriptor)


def _flush_folder(folder: Path) -> None:
    """Let the names of new files in a folder last, where the system can."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # Some file systems cannot; SQLite goes on as well.
        pass
    finally:
        os.close(descriptor)
