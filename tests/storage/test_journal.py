"""The file: what is written is what is read, and what is wrong with it is found out."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crystallize_opt import History, Status
from crystallize_opt.errors import RunLocked, StorageError
from crystallize_opt.storage.journal import RunWriter, read_run, rename_run, run_names
from crystallize_opt.storage.schema import SCHEMA_VERSION
from crystallize_opt.storage.settings import Storage
from tests.recording.killed_runs import exactly
from tests.storage.searches import optimizer, parts, search
from tests.toy import toy_experiment

# The file ---------------------------------------------------------------------------------------


def test_a_search_leaves_one_file(tmp_path: Path) -> None:
    search(tmp_path / "runs.db")

    assert parts(tmp_path / "runs.db") == ["runs.db"]


def test_nothing_is_written_unless_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    toy_experiment(seed=0).optimize(optimizer(), 3)

    assert list(tmp_path.iterdir()) == []


def test_several_runs_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "run #1 100%?.db"
    search(Storage(path, "one"))
    search(Storage(path, "two"), trials=7)
    search(path, experiment=toy_experiment(seed=0, name="three"))

    assert History.runs(path) == ["one", "two", "three"]
    assert len(History.load(path, "two")) == 7
    with pytest.raises(StorageError, match=r"has several runs; give run=.*'one', 'two', 'three'"):
        History.load(path)
    with pytest.raises(StorageError, match=r"has no run 'four'.*'one', 'two', 'three'"):
        History.load(path, "four")


def test_any_sqlite_tool_reads_the_trials(tmp_path: Path) -> None:
    found = search(tmp_path / "runs.db", 3)

    with contextlib.closing(sqlite3.connect(tmp_path / "runs.db")) as connection:
        trials = connection.execute("SELECT name, status FROM trials ORDER BY trial").fetchall()
        metrics = connection.execute("SELECT metric, value FROM metrics ORDER BY trial").fetchall()
    assert trials == [(f"trial_{i}", "completed") for i in range(3)]
    assert metrics == [("sum", o["sum"]) for o in found.observations]


# Damage -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def refused(path: Path, match: str) -> Iterator[None]:
    """Expect an error of reading and of writing; and that it changes nothing."""
    yield
    before = path.read_bytes()
    with pytest.raises(StorageError, match=match):
        len(History.load(path))
    with pytest.raises(StorageError, match=match):
        search(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.3, 0.5, 0.9, 0.99])
def test_a_file_cut_short_is_refused(kept: float, tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    search(path, 100)
    with refused(path, "restore|Restore"):
        os.truncate(path, int(path.stat().st_size * kept))


@pytest.mark.parametrize("place", [0.0, 0.2, 0.5, 0.8, 0.95])
def test_a_file_overwritten_in_part_is_refused(place: float, tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    search(path, 100)
    with refused(path, "restore|Restore"), path.open("r+b") as file:
        file.seek(int(path.stat().st_size * place))
        file.write(b"All work and no play makes Jack a dull boy. " * 40)


def test_one_changed_digit_is_found(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    search(path)
    digits = repr(History.load(path)[2]["sum"]).encode()
    changed = digits[:-1] + (b"1" if digits[-1:] != b"1" else b"2")
    with refused(path, "are not as they were written"):
        content = path.read_bytes()
        assert content.count(digits)
        path.write_bytes(content.replace(digits, changed))


def test_a_missing_event_is_found(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    search(path)
    with (
        refused(path, "are not as they were written"),
        contextlib.closing(sqlite3.connect(path)) as connection,
    ):
        connection.execute("DELETE FROM events WHERE trial = 2 AND kind = 'observation'")
        connection.commit()


@pytest.mark.parametrize("content", [b"not a database at all, but a text\n" * 100, b"x"])
def test_a_file_of_something_else_is_refused(content: bytes, tmp_path: Path) -> None:
    with refused(tmp_path / "runs.db", "not a database|of another program"):
        (tmp_path / "runs.db").write_bytes(content)


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    with (
        refused(tmp_path / "runs.db", "of another program"),
        contextlib.closing(sqlite3.connect(tmp_path / "runs.db")) as connection,
    ):
        connection.execute("CREATE TABLE studies (name TEXT)")


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    search(path)
    with (
        refused(path, rf"version {SCHEMA_VERSION + 1} of the schema"),
        contextlib.closing(sqlite3.connect(path)) as connection,
    ):
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")


def test_the_rest_of_a_deleted_file_is_no_new_run(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    Path(f"{path}-wal").write_bytes(b"what was not yet in the file")

    with pytest.raises(StorageError, match="holds a part of it"):
        search(path)
    assert not path.exists()


def test_no_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="there is no folder"):
        search(tmp_path / "missing" / "runs.db")
    with pytest.raises(StorageError, match="There is no file"):
        History.load(tmp_path / "runs.db")


# Full -------------------------------------------------------------------------------------------


def test_a_full_disk_ends_the_search_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "runs.db"
    init = RunWriter.__init__

    def with_few_pages(self: RunWriter, *arguments: Any) -> None:
        init(self, *arguments)
        self._connection.execute("PRAGMA max_page_count = 16")

    found = optimizer()
    with monkeypatch.context() as patch:
        patch.setattr(RunWriter, "__init__", with_few_pages)
        with pytest.raises(StorageError, match=r"database or disk is full.*Everything before"):
            toy_experiment(seed=0).optimize(found, 1000, storage=path)
    stored = History.load(path)
    assert 5 < len(stored) < 1000
    # The optimizer has heard of nothing that is not stored, but that trials were given up.
    told = [o for o in found.observations if o.status is Status.COMPLETED]
    assert [exactly(o) for o in told] == [exactly(o) for o in stored]

    trials = len(stored) + 10
    resumed = search(path, trials)

    assert [exactly(o) for o in resumed.observations] == [
        exactly(o) for o in search(tmp_path / "other.db", trials).observations
    ]


FULL = """
import resource, signal, sys
from crystallize_opt.errors import RunLocked, StorageError
from tests.storage.searches import optimizer, toy_experiment

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
try:
    toy_experiment(seed=0).optimize(optimizer(), 1000, storage="runs.db")
except StorageError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_write_that_the_system_refuses_ends_the_search(tmp_path: Path) -> None:
    ran = subprocess.run(  # noqa: S603
        [sys.executable, "-c", FULL],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    stored = len(History.load(tmp_path / "runs.db"))

    assert "Everything before is stored" in ran.stdout
    assert stored > 5
    assert len(search(tmp_path / "runs.db", stored + 5).observations) == stored + 5


# Two at once ------------------------------------------------------------------------------------


def test_readers_see_what_is_written(tmp_path: Path) -> None:
    seen = []
    search(
        tmp_path / "runs.db",
        callbacks=[lambda _: seen.append(len(History.load(tmp_path / "runs.db")))],
    )

    assert seen == sorted(seen)
    assert set(seen) == {0, 1, 2, 3, 4, 5}


def test_reading_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    search(path)
    before = path.read_bytes()

    History.load(path)
    History.runs(path)

    assert path.read_bytes() == before
    assert parts(path) == ["runs.db"]


# Time -------------------------------------------------------------------------------------------


def test_a_clock_that_goes_backwards_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    now = 2e9

    def backwards() -> float:
        nonlocal now
        now -= 3600.0
        return now

    monkeypatch.setattr(time, "time", backwards)
    path = tmp_path / "runs.db"
    search(path, 4)
    found = search(path, 8)

    assert [o.treatment.name for o in found.observations] == [f"trial_{i}" for i in range(8)]
    assert [exactly(o) for o in History.load(path)] == [exactly(o) for o in found.observations]
    starts = [o.started_at for o in found.observations if o.started_at is not None]
    assert starts == sorted(starts, reverse=True)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.text(), min_size=1, max_size=3), max_size=5))
def test_rows_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[str]]
) -> None:
    import json

    path = tmp_path_factory.mktemp("rows") / "runs.db"
    written = []
    for batch in batches:
        writer = RunWriter(path, "run")
        rows = [("resume", None, json.dumps(text)) for text in batch]
        writer.append(rows)
        written += rows
        writer.close()

    if batches:
        assert list(read_run(path)[1]) == written


def test_a_run_is_renamed_with_all_that_it_has(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    writer = RunWriter(path, "night")
    writer.append([("told", 0, "{}")])
    with pytest.raises(RunLocked):
        rename_run(path, "night", "earlier")
    writer.close()

    rename_run(path, "night", "earlier")
    rename_run(path, "nobody", "else")

    assert run_names(path) == ["earlier"]
    assert read_run(path, "earlier")[1] == [("told", 0, "{}")]
    RunWriter(path, "night").close()
    with pytest.raises(StorageError, match="UNIQUE"):
        rename_run(path, "night", "earlier")
