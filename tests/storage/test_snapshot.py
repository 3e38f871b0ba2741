"""Reading a file: what another process does meanwhile is no damage, and is not disturbed."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from crystallize_opt import History
from crystallize_opt.errors import StorageError
from crystallize_opt.storage import snapshot
from crystallize_opt.storage.journal import RunWriter, read_run
from tests.storage.searches import search
from tests.storage.test_lock import ROW, start


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A run that is being written, as another process sees it, and the log's next beginnings."""
    monkeypatch.setattr(snapshot, "is_written_here", lambda _: False)
    writer = RunWriter(tmp_path / "runs.db", "run")
    writer.append([ROW] * 20)
    yield writer
    writer.close()


@pytest.mark.parametrize("when", ["before the database", "before the log", "after the log"])
@pytest.mark.parametrize("log", ["continues", "begins anew", "begins anew each time"])
def test_a_run_is_read_as_it_is_at_one_moment(
    when: str, log: str, written: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    copyfile, writes = shutil.copyfile, 0

    def write() -> None:
        nonlocal writes
        writes += 1
        if log == "begins anew each time" or (log == "begins anew" and writes == 1):
            written._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        for _ in range(100):
            written.append([ROW])

    def copy(source: Any, target: Any) -> None:
        place = "before the log" if str(source).endswith("-wal") else "before the database"
        if when == place:
            write()
        copyfile(source, target)
        if when == "after the log" and place == "before the log":
            write()

    monkeypatch.setattr(shutil, "copyfile", copy)
    if log == "begins anew each time":
        monkeypatch.setattr(snapshot, "_TRIES", 5)
        with pytest.raises(StorageError, match="being written so fast"):
            read_run(written.path)
        return
    rows = read_run(written.path)[1]

    assert len(rows) % 100 == 20
    assert writes == (2 if log == "begins anew" else 1)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_reading_leaves_the_files_of_a_killed_search_as_they_are(tmp_path: Path) -> None:
    """Its log is the owner's: a reader neither writes it back nor makes an index of its own."""
    code = f"writer = write(path); writer.append([{ROW}]); os.kill(os.getpid(), signal.SIGKILL)"
    with start(code, tmp_path) as killed:
        killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    (tmp_path / "runs.db-shm").unlink()  # As in a copy.

    def files() -> dict[str, tuple[bytes, os.stat_result]]:
        found = {}
        for each in tmp_path.iterdir():
            state = each.stat()
            found[each.name] = each.read_bytes(), (state.st_ino, state.st_mtime_ns)
        return found  # type: ignore[return-value]

    before = files()
    assert len(read_run(tmp_path / "runs.db")[1]) == 1
    assert files() == before


def test_a_folder_that_cannot_be_written_can_be_read(tmp_path: Path) -> None:
    search(tmp_path / "runs.db")
    tmp_path.chmod(0o555)
    try:
        assert len(History.load(tmp_path / "runs.db")) == 5
    finally:
        tmp_path.chmod(0o755)


def test_a_file_with_other_tables_is_refused_before_they_are_used(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    search(path)
    for change in (
        "CREATE TABLE notes (text)",
        "CREATE TRIGGER late AFTER INSERT ON events BEGIN DELETE FROM events; END",
        "DROP VIEW metrics; CREATE VIEW metrics AS SELECT load_extension('x')",
    ):
        shutil.copy(path, tmp_path / "other.db")
        with sqlite3.connect(tmp_path / "other.db") as connection:
            connection.executescript(change)
        connection.close()
        for use in (History.load, search):
            with pytest.raises(StorageError, match="other tables, views or triggers"):
                use(tmp_path / "other.db")
