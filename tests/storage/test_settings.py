"""`Storage` and its short forms check their arguments."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from crystallize_opt import History, Storage
from crystallize_opt.errors import StorageError, UsageError
from crystallize_opt.storage.files import sqlite_uri
from tests.recording.resuming import rand
from tests.toy import toy_experiment


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((5,), "storage= takes the path of a file, not 5"),
        ((":memory:",), "storage=':memory:' keeps nothing"),
        (("",), "storage='' keeps nothing"),
        ((b"runs.db",), "storage= takes the path of a file, not b'runs.db'"),
        (("runs\0.db",), "storage= takes the path of a file, not 'runs.x00.db'"),
        (("sqlite:///runs.db",), "storage='sqlite:///runs.db' is a URL. Give the path of a file"),
        (("file:runs.db?mode=ro",), "is a URL"),
        (("x.db", ""), "run= is the name of a run, not ''"),
        (("x.db", None, "maybe"), "resume= is 'exact' or 'attach', not 'maybe'"),
    ],
)
def test_a_storage_is_checked(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Storage(*arguments)


def test_a_short_form_of_a_storage_is_checked() -> None:
    wrong: Any = 5
    with pytest.raises(UsageError, match="storage= takes the path of a file, not 5"):
        toy_experiment().optimize(rand(), 1, storage=wrong)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows allows few links")
def test_a_path_that_is_no_file_with_one_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs.db").touch()
    (tmp_path / "other.db").hardlink_to(tmp_path / "runs.db")
    (tmp_path / "dangling.db").symlink_to(tmp_path / "gone.db")
    (tmp_path / "circle.db").symlink_to(tmp_path / "circle.db")
    for name, message in {
        "": "this is a folder. Give the path of a file, such as .*/runs.db'",
        "other.db": r"this is a file with 2 names \(hard links\)",
        "dangling.db": "this is a link to '.*gone.db', which cannot be opened",
        "circle.db": "this is a link to",
        "missing/runs.db": "there is no folder",
    }.items():
        with pytest.raises(StorageError, match=message):
            Storage(tmp_path / name)
    with pytest.raises(StorageError, match="this is a folder"):
        History.load(tmp_path)
    with pytest.raises(StorageError, match="which cannot be opened"):
        History.load(tmp_path / "dangling.db")
    with pytest.raises(UsageError, match="is a URL"):
        History.load("https://example.org/runs.db")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")
def test_a_pipe_is_refused_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StorageError, match="this is a device, pipe or socket"):
        Storage(tmp_path / "pipe")
    with pytest.raises(StorageError, match="this is a device, pipe or socket"):
        History.load(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        (r"C:\my runs\a#b?.db", "file:///C:/my%20runs/a%23b%3F.db"),
        (r"\\server\share\runs.db", "file:////server/share/runs.db"),
    ],
)
def test_a_path_of_windows_becomes_a_uri_that_names_no_computer(
    path: str, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as windows:
        windows.setattr("os.name", "nt")
        assert sqlite_uri(path) == uri


@pytest.mark.parametrize("slashes", ["file://", "file:///"])
def test_sqlite_takes_a_path_with_two_slashes_as_a_path(slashes: str, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "a #b?.db")) as connection:
        connection.execute("CREATE TABLE t (x)")
    uri = sqlite_uri(os.fspath(tmp_path / "a #b?.db")).replace("file://", slashes)
    with contextlib.closing(sqlite3.connect(f"{uri}?mode=rw", uri=True)) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)
