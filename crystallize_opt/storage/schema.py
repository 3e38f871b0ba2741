"""The tables of a file of runs, and the check that a file has them and is not damaged."""

from __future__ import annotations

import contextlib
import functools
import sqlite3

from crystallize_opt.errors import StorageError

SCHEMA_VERSION = 1
APPLICATION_ID = 0x6372_6F70  # "crop"; distinguishes our files from other SQLite files
LARGEST_ROW = 100_000_000  # bytes; a file with larger rows is not read

SCHEMA = """
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
  data TEXT NOT NULL,
  checksum INTEGER NOT NULL
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
    LEFT JOIN (
      -- With max(), SQLite takes the other columns from the row with the maximum: the last one.
      SELECT run, trial, data, max(seq) FROM events
      WHERE kind IN ('observation', 'attach') GROUP BY run, trial
    ) AS observed ON observed.run = asked.run AND observed.trial = asked.trial
  WHERE asked.kind IN ('ask', 'batch', 'attach');
CREATE VIEW metrics AS
  SELECT trials.run, trials.trial, trials.name, each.key AS metric, each.value AS value
  FROM trials, json_each(trials.metrics) AS each;
"""

SERVICE_SCHEMA = """
CREATE TABLE service (
  kind TEXT NOT NULL,
  id INTEGER NOT NULL,
  parent INTEGER NOT NULL,
  state TEXT NOT NULL,
  data TEXT NOT NULL,
  PRIMARY KEY (kind, id)
) WITHOUT ROWID;
CREATE INDEX service_by_parent ON service (kind, parent, id, state);
"""
"""What the HTTP service knows beyond the runs. Only files that were served have this table."""


def distrust(connection: sqlite3.Connection) -> None:
    """Make a connection run nothing that the file defines, and read no huge values."""
    connection.execute("PRAGMA trusted_schema = 0")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST_ROW)


def check_file(path: str, connection: sqlite3.Connection) -> None:
    """Check that a file is one of runs, has exactly our tables, and is not damaged.

    The checksums of the events do not cover the pages and indexes in which SQLite finds the events:
    one wrong bit there hides events, or whole runs.

    Raises:
        StorageError: It is not so.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION_ID:
        raise StorageError(
            f"{path!r} is a SQLite file of another program, without runs of crystallize-opt. "
            "Give another path."
        )
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != SCHEMA_VERSION:
        raise StorageError(
            f"{path!r} has version {version} of the schema; this crystallize-opt knows "
            f"version {SCHEMA_VERSION}. Use the crystallize-opt that wrote it."
        )
    # Compare the schema first: `integrity_check` evaluates expressions in the schema.
    if _schema_of(connection) not in _our_schemas():
        raise StorageError(
            f"{path!r} has other tables, views or triggers than a file of runs. Another program "
            "changed the file, or it is damaged. Restore it from a copy, or give another path."
        )
    (found,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if found != "ok":
        first = str(found).splitlines()[-1]
        raise damaged(path, f"SQLite finds: {first}")


def damaged(path: str, why: str) -> StorageError:
    """Return the error for a damaged file."""
    return StorageError(
        f"{path!r} is damaged: {why}. Restore the file from a copy, or begin a new run in another "
        "one."
    )


def _schema_of(connection: sqlite3.Connection) -> set[tuple[object, ...]]:
    return set(connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema"))


@functools.cache
def _our_schemas() -> tuple[set[tuple[object, ...]], ...]:
    """Return the schema of a file of runs, and that of a file that was served."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA)
        of_runs = _schema_of(connection)
        connection.executescript(SERVICE_SCHEMA)
        return of_runs, _schema_of(connection)
