"""What the service knows beyond the runs: records in one table of the same SQLite file.

A record is a kind, a number, the number of its parent (an experiment, say), a state and JSON. The
table is the truth about what clients sent; the journals of the runs follow it: see `live.py`.

Records and journals are in one file, whose log is written in the order of the commits. So if the
machine loses power, what is there is what was committed until some moment after the last flush, as
after kill -9 at that moment. A change is flushed before it is answered: whatever is lost is of
requests that nobody heard an answer to, and the last events of journals, which `settle` makes up
for from the records.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from crystallize_opt.errors import RunLocked, StorageError
from crystallize_opt.service.disk import Disk, Done
from crystallize_opt.storage.files import checked_path
from crystallize_opt.storage.journal import connect, create
from crystallize_opt.storage.lock import OpenFiles, RunLock
from crystallize_opt.storage.schema import SERVICE_SCHEMA
from crystallize_opt.storage.served import SERVICE
from crystallize_opt.storage.snapshot import reading, storage_errors

_KEPT = 4096
"""How many records are kept in memory at most."""
ACTIVE, DELETED, OPEN, CLOSED = "active", "deleted", "open", "closed"


class Record(NamedTuple):
    """One record.

    Attributes:
        id: Its number, unique for its kind.
        parent: The number of the record that it belongs to; 0 for none.
        state: `"active"`, `"deleted"`, `"open"` or `"closed"`.
        data: What else is known: plain data, as JSON has it, which nobody changes in place.
    """

    id: int
    parent: int
    state: str
    data: dict[str, Any]


class Store:
    """The records of a service, which any thread may use.

    Args:
        path: The SQLite file, created if it does not exist; None to keep the records in memory.

    Raises:
        StorageError: The file is damaged, is not a file of runs, or cannot be written.
        RunLocked: Another service has the file open.

    Example:
        >>> store = Store(None)
        >>> with store.writing():
        ...     store.add("project", 0, ACTIVE, {"name": "night"})
        1
        >>> store.get("project", 1).data
        {'name': 'night'}
        >>> store.close()
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self.path = None if path is None else os.fspath(path)
        self._turn = threading.RLock()
        self._next: dict[str, int] = {}
        self._kept: OrderedDict[tuple[str, int], Record] = OrderedDict()
        self._changed: set[tuple[str, int]] = set()  # In the transaction that is open.
        self._behind: set[int] = set()
        self._disk: Disk | None = None
        self._undo = contextlib.ExitStack()
        if path is None:
            self._connection = sqlite3.connect(
                ":memory:", isolation_level=None, check_same_thread=False
            )
            self._connection.executescript(SERVICE_SCHEMA)
        else:
            self._connection = self._open(checked_path(path, to_write=True), os.fspath(path))
        self._undo.callback(self._connection.close)

    def _open(self, real: str, shown: str) -> sqlite3.Connection:
        with contextlib.ExitStack() as undo, storage_errors(shown, "opened"):
            try:
                lock = RunLock(real, SERVICE)
            except RunLocked:
                raise RunLocked(
                    f"{shown!r} is being served by another process. End it first, or serve another "
                    "file: two services on one file would not know of each other's suggestions."
                ) from None
            undo.callback(lock.release)
            create(real)
            with reading(real):
                pass  # A damaged file stays as it is.
            connection = connect(real)
            # The writers of runs move the log into the file. They check a file that somebody else
            # has changed as a whole, which takes the longer, the longer the run is.
            connection.execute("PRAGMA wal_autocheckpoint = 20000")
            undo.callback(connection.close)
            if not connection.execute(
                "SELECT 1 FROM sqlite_schema WHERE name = 'service'"
            ).fetchone():
                connection.executescript(f"BEGIN IMMEDIATE; {SERVICE_SCHEMA} COMMIT;")
            # As long as this object is open, the log stays, whichever run is closed.
            files = OpenFiles(real, lock.path)
            undo.callback(files.close)
            self._turn = files.turn
            self._disk = Disk(real)
            self._undo.callback(lock.release)
            self._undo.callback(files.close)
            self._undo.callback(files.release)
            undo.pop_all()
        return connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Write records, all or none: they survive this process when the context ends.

        They are on disk when `when_on_disk` or `flush` says so.
        """
        with self._turn:
            if self._connection.in_transaction:  # A part of another one's changes.
                yield
                return
            self._connection.execute("BEGIN IMMEDIATE")
            self._changed.clear()
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                self._next.clear()
                self._behind.clear()  # It may have been noted in what is undone.
                for key in self._changed:
                    self._kept.pop(key, None)
                raise

    def when_on_disk(self, done: Done) -> None:
        """Call a function when every record that is written by now is on disk.

        Args:
            done: Called in some thread, with the error if the records cannot be brought there.
        """
        if self._disk is None:
            done(None)
        else:
            self._disk.when_flushed(done)

    def flush(self) -> None:
        """Wait until every record that is written by now is on disk.

        Raises:
            StorageError: They cannot be brought there.
        """
        flushed: Future[OSError | None] = Future()
        self.when_on_disk(flushed.set_result)
        if (error := flushed.result()) is not None:
            raise StorageError(f"{self.path!r} cannot be written to the disk: {error}.") from error

    def next_id(self, kind: str) -> int:
        """Return the number that the next record of a kind gets, if none is given."""
        with self._turn:
            if kind not in self._next:
                (last,) = self._connection.execute(
                    "SELECT max(id) FROM service WHERE kind = ?", (kind,)
                ).fetchone()
                self._next[kind] = (last or 0) + 1
            return self._next[kind]

    def add(self, kind: str, parent: int, state: str, data: Any, number: int | None = None) -> int:
        """Add a record within `writing`, and return its number."""
        number = max(self.next_id(kind), number or 0)
        text = json.dumps(data)
        self._connection.execute(
            "INSERT INTO service VALUES (?, ?, ?, ?, ?)", (kind, number, parent, state, text)
        )
        self._next[kind] = number + 1
        self._keep(kind, Record(number, parent, state, data))
        return number

    def put(self, kind: str, record: Record) -> None:
        """Replace the state and the data of a record, within `writing`."""
        text = json.dumps(record.data)
        self._connection.execute(
            "UPDATE service SET state = ?, data = ? WHERE kind = ? AND id = ?",
            (record.state, text, kind, record.id),
        )
        self._keep(kind, record)

    def _keep(self, kind: str, record: Record) -> None:
        """Keep a record that is being written: nobody else writes the table."""
        key = kind, record.id
        self._changed.add(key)
        self._kept[key] = record
        self._kept.move_to_end(key)
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)

    def get(self, kind: str, number: int, parent: int | None = None) -> Record | None:
        """Return a record, or None if there is none, or it has another parent."""
        key = kind, number
        with self._turn:
            record = self._kept.get(key)
            if record is None:
                row = self._connection.execute(
                    "SELECT id, parent, state, data FROM service WHERE kind = ? AND id = ?", key
                ).fetchone()
                if row is None:
                    return None
                record = self._kept[key] = _record(row)
                if len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            else:
                self._kept.move_to_end(key)
        return record if parent in (None, record.parent) else None

    def parent_of(self, kind: str, number: int) -> int | None:
        """Return the number of a record's parent, or None if there is no such record."""
        record = self.get(kind, number)
        return None if record is None else record.parent

    def page(
        self,
        kind: str,
        parent: int | None = None,
        *,
        states: Sequence[str] = (),
        after: int | None = None,
        before: int | None = None,
        limit: int = -1,
        ascending: bool = True,
    ) -> list[Record]:
        """Return records in the order of their numbers, which lie between two others."""
        where, values = _conditions(kind, parent, states, after, before)
        with self._turn:
            rows = self._connection.execute(
                f"SELECT id, parent, state, data FROM service WHERE {where} "  # noqa: S608
                f"ORDER BY id {'ASC' if ascending else 'DESC'} LIMIT ?",
                (*values, limit),
            ).fetchall()
            return [self._kept.get((kind, row[0])) or _record(row) for row in rows]

    def count(self, kind: str, parent: int | None = None, *, states: Sequence[str] = ()) -> int:
        """Return how many records there are."""
        where, values = _conditions(kind, parent, states, None, None)
        with self._turn:
            (found,) = self._connection.execute(
                f"SELECT count(*) FROM service WHERE {where}",  # noqa: S608
                values,
            ).fetchone()
        return int(found)

    def is_behind(self, number: int) -> None:
        """Note, within `writing`, that the run of an experiment lacks what its records say."""
        if number not in self._behind:
            self._connection.execute(
                "INSERT OR IGNORE INTO service VALUES ('behind', ?, 0, ?, '{}')", (number, OPEN)
            )
            self._behind.add(number)

    def is_settled(self, number: int, last: int) -> None:
        """Note that the run of an experiment has all that its records say.

        Args:
            number: The number of the experiment.
            last: The newest observation that the run has.
        """
        with self.writing():
            if self._last("observation", number) <= last:
                self._connection.execute(
                    "DELETE FROM service WHERE kind = 'behind' AND id = ?", (number,)
                )
                self._behind.discard(number)

    def behind(self) -> list[int]:
        """Return the experiments whose runs lack something: a process died before it was told."""
        with self._turn:
            self._behind.update(each.id for each in self.page("behind"))
            return sorted(self._behind)

    def _last(self, kind: str, parent: int) -> int:
        (found,) = self._connection.execute(
            "SELECT max(id) FROM service WHERE kind = ? AND parent = ?", (kind, parent)
        ).fetchone()
        return found or 0

    def runs(self) -> list[str]:
        """Return the names of the runs in the file."""
        if self.path is None:
            return []
        with self._turn:
            return [name for (name,) in self._connection.execute("SELECT name FROM runs")]

    def close(self) -> None:
        """Close the file; every record is on disk. A second call does nothing."""
        with self._turn:  # No change comes after the last flush.
            if self._disk is not None:
                self._disk.close()
            self._undo.close()


def _record(row: Any) -> Record:
    number, parent, state, text = row
    return Record(number, parent, state, json.loads(text))


def _conditions(
    kind: str, parent: int | None, states: Sequence[str], after: int | None, before: int | None
) -> tuple[str, list[Any]]:
    where = ["kind = ?"]
    values: list[Any] = [kind]
    for column, value in (("parent =", parent), ("id >", after), ("id <", before)):
        if value is not None:
            where.append(f"{column} ?")
            values.append(value)
    if states:
        where.append(f"state IN ({', '.join('?' * len(states))})")
        values += states
    return " AND ".join(where), values
