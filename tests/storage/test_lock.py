"""Only one process at a time can write a run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from crystallize_opt import History
from crystallize_opt.errors import RunLocked, StorageError
from crystallize_opt.search.callbacks import TrialTold
from crystallize_opt.storage import lock
from crystallize_opt.storage.journal import Row, RunWriter, read_run
from tests.storage.searches import parts, search

ROW: Row = ("resume", None, '{"versions":{}}')
LARGE: Row = ("resume", None, f'{{"versions":{{"x":"{"1" * 2500}"}}}}')

SECOND = """
import sys
from crystallize_opt.errors import RunLocked
from crystallize_opt import History, Storage
from tests.storage.searches import search
from pathlib import Path

try:
    search(Path("runs.db"))
except RunLocked as error:
    print(error)
print(len(History.load("runs.db", "run").pending))
search(Storage("runs.db", run="other"))
"""


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_who_may_only_read_sees_whether_a_run_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = str(tmp_path / "runs.db")
    path = Path(lock.lock_path(real, "run"))
    writer = lock.RunLock(real, "run")
    opened = os.open

    def open_to_read(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise PermissionError(13, "Permission denied", path)
        return opened(path, flags, *rest, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", open_to_read)
        assert lock.is_written(real, "run")
    writer.release()
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", open_to_read)
        assert not lock.is_written(real, "run")
        assert not path.exists()
    path.touch()  # As a writer that was killed leaves it.
    with monkeypatch.context() as patched:
        patched.setattr(os, "open", open_to_read)
        assert not lock.is_written(real, "run")
    lock.RunLock(real, "run").release()


def test_a_second_process_may_read_a_run_but_not_write_it(tmp_path: Path) -> None:
    said: list[str] = []

    def second(_: object) -> None:
        if not said:
            ran = subprocess.run(  # noqa: S603
                [sys.executable, "-c", SECOND],
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
                capture_output=True,
                text=True,
                check=True,
            )
            said.extend(ran.stdout.splitlines())

    found = search(tmp_path / "runs.db", callbacks=[second])

    assert "is being written by another process" in said[0]
    assert said[1] == "0"
    assert len(History.load(tmp_path / "runs.db", "run")) == len(found.observations) == 5
    assert len(History.load(tmp_path / "runs.db", "other")) == 5


def test_a_second_search_of_this_process_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    first = RunWriter(path, "run")

    with pytest.raises(RunLocked, match="another search of this one"):
        search(path)
    first.close()

    assert len(search(path).observations) == 5


def start(code: str, folder: Path) -> subprocess.Popen[str]:
    """Start a process that knows the file as `path`, and opens the run by `write(path)`."""
    prelude = (
        "import os, signal, sys\n"
        "from crystallize_opt.storage.journal import RunWriter, read_run\n"
        "from crystallize_opt.errors import RunLocked\n"
        "path = 'runs.db'\n"
        "def write(path):\n"
        "    try:\n"
        "        writer = RunWriter(path, 'run')\n"
        "        print('open', flush=True)\n"
        "        return writer\n"
        "    except RunLocked:\n"
        "        print('locked', flush=True)\n"
    )
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", prelude + code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_copy_of_the_file_in_this_process_leaves_it_locked(tmp_path: Path) -> None:
    """A lock on the database would be gone: the system drops it with any descriptor of the file."""
    (tmp_path / "runs").mkdir()
    writer = RunWriter(tmp_path / "runs" / "runs.db", "run")
    shutil.copytree(tmp_path / "runs", tmp_path / "copy")
    with start("write(path)", tmp_path / "runs") as second:
        assert second.communicate()[0] == "locked\n"
    writer.close()

    with start("write(path)", tmp_path / "runs") as third:
        assert third.communicate()[0] == "open\n"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows allows few links")
def test_every_way_to_the_file_leads_to_one_lock(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.db").symlink_to("runs.db")
    writer = RunWriter(tmp_path / "runs.db", "run")

    for path in ("link.db", "folder/../runs.db"):
        with pytest.raises(RunLocked):
            RunWriter(tmp_path / path, "run")
    writer.close()


def test_a_change_of_the_working_directory_leaves_other_locks_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    here.mkdir()
    elsewhere.mkdir()
    other = RunWriter(elsewhere / "runs.db", "run")
    monkeypatch.chdir(here)
    writer = RunWriter("runs.db", "run")
    monkeypatch.chdir(elsewhere)
    writer.close()

    assert parts(here / "runs.db") == ["runs.db"]
    with pytest.raises(RunLocked):
        RunWriter("runs.db", "run")
    other.close()


@pytest.mark.skipif(sys.platform != "linux", reason="Other systems have no such locks")
def test_a_copy_of_the_file_in_this_process_loses_no_event(tmp_path: Path) -> None:
    """Copying drops SQLite's locks: another program would delete the log to which we write."""
    path = tmp_path / "runs" / "runs.db"
    path.parent.mkdir()
    writer = RunWriter(path, "run")
    writer.append([ROW])
    shutil.copytree(path.parent, tmp_path / "copy")
    code = "import sqlite3; list(sqlite3.connect('runs.db').execute('SELECT * FROM events'))"
    subprocess.run([sys.executable, "-c", code], cwd=path.parent, check=True)  # noqa: S603
    writer.append([ROW])

    with start("print(len(read_run(path)[1]))", path.parent) as reader:
        assert reader.communicate()[0] == "2\n"
    writer.close()
    assert parts(path) == ["runs.db"]


def test_a_reader_in_the_same_process_drops_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system has only locks of a process, reading must not close the file."""
    monkeypatch.setattr(lock, "_set_lock", lambda *_: None)
    writer = RunWriter(tmp_path / "runs.db", "run")
    writer.append([ROW])
    assert len(read_run(tmp_path / "runs.db")[1]) == 1
    code = "import sqlite3; list(sqlite3.connect('runs.db').execute('SELECT * FROM events'))"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)  # noqa: S603

    writer.append([ROW])
    writer.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows removes no file that is open")
@pytest.mark.parametrize("removed", ["", "-wal", ".lock-5076a4c0"])
@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_removed_or_replaced_ends_the_search(
    replaced: bool, removed: str, tmp_path: Path
) -> None:
    path = tmp_path / "runs.db"
    file, told = Path(f"{path}{removed}"), []

    def remove(event: object) -> None:
        if isinstance(event, TrialTold):
            told.append(event)
            if len(told) == 3 and replaced:
                shutil.copy(file, tmp_path / "new")
                (tmp_path / "new").rename(file)
            elif len(told) == 3:
                file.unlink()

    with pytest.raises(StorageError, match=f"runs.db{removed}' was removed or replaced"):
        search(path, 9, callbacks=[remove])
    assert len(told) == 3
    if removed:  # SQLite still had the log open, and wrote it back.
        assert len(History.load(path)) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="Other systems have no such locks")
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("how", ["an older copy", "cut short", "the log cut short"])
def test_a_file_overwritten_in_place_is_noticed(how: str, last: bool, tmp_path: Path) -> None:
    """As `cp backup.db runs.db` does: the file is still the same one, with another content."""
    path, old = tmp_path / "runs.db", tmp_path / "old.db"
    writer = RunWriter(path, "run")
    writer.append([LARGE] * 2000)  # So many that SQLite writes them to the database itself.
    shutil.copy(path, old)
    writer.append([LARGE] * 2000)
    writer.append([ROW])  # This one is in the log only.
    if how == "the log cut short":
        os.truncate(f"{path}-wal", 0)
    else:
        path.write_bytes(old.read_bytes() if how == "an older copy" else b"")
    content = path.read_bytes()

    if not last:
        with pytest.raises(StorageError, match="was overwritten while the run was open"):
            writer.append([ROW])
        writer.close()
    else:
        with pytest.raises(StorageError, match="was overwritten"):
            writer.close()
    assert path.read_bytes() == content, "the log is not mixed into the other content"
    RunWriter(tmp_path / "new.db", "run").close()


def test_writers_of_several_runs_share_a_file(tmp_path: Path) -> None:
    """Each one moves the log to the database at times, which is no damage for the others."""
    path = tmp_path / "runs.db"
    writers = [RunWriter(path, str(number)) for number in range(3)]
    for _ in range(4):
        for writer in writers:
            writer.append([LARGE] * 500)
    for writer in writers:
        writer.close()

    assert [len(read_run(path, str(number))[1]) for number in range(3)] == [2000] * 3


@pytest.mark.skipif(sys.platform == "win32", reason="Windows removes no file that is open")
def test_the_files_of_another_writer_are_left_alone(tmp_path: Path) -> None:
    """The file is replaced while it is written, and the new one is written, too."""
    path = tmp_path / "runs.db"
    first = RunWriter(path, "run")
    for name in parts(path):
        (tmp_path / name).unlink()
    second = RunWriter(path, "run")
    second.append([ROW])
    files = parts(path)
    with pytest.raises(StorageError, match="was removed or replaced"):
        first.close()

    assert parts(path) == files
    second.append([ROW])
    second.close()
    assert len(read_run(path)[1]) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows allows few links")
def test_the_lock_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("Dear Jack")
    (tmp_path / "runs.db.lock-5076a4c0").symlink_to("letter")
    with pytest.raises(StorageError, match="cannot be locked"):
        search(tmp_path / "runs.db")
    assert (tmp_path / "letter").read_text() == "Dear Jack"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows removes no file that is open")
def test_a_lock_on_a_file_that_has_just_been_removed_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second writer opens the lock's file, and the first one ends before it is locked."""
    import fcntl

    first = RunWriter(tmp_path / "runs.db", "run")
    flock = fcntl.flock
    ended: list[bool] = []

    def end_first(descriptor: int, operation: int) -> None:
        if not ended:
            ended.append(True)
            first.close()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", end_first)
    second = RunWriter(tmp_path / "runs.db", "run")

    with pytest.raises(RunLocked):
        RunWriter(tmp_path / "runs.db", "run")
    second.close()
    assert ended
    assert parts(tmp_path / "runs.db") == ["runs.db"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_the_lock_of_a_killed_process_is_free_and_leaves_nothing(tmp_path: Path) -> None:
    with start("writer = write(path); os.kill(os.getpid(), signal.SIGKILL)", tmp_path) as killed:
        killed.communicate()
    left = [name for name in parts(tmp_path / "runs.db") if ".lock-" in name]
    search(tmp_path / "runs.db")

    assert (killed.returncode, left) == (-signal.SIGKILL, ["runs.db.lock-5076a4c0"])
    assert parts(tmp_path / "runs.db") == ["runs.db"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_a_forked_process_neither_releases_the_lock_nor_keeps_it(tmp_path: Path) -> None:
    """The child ends its part of the search first; then it outlives the search, which is killed."""
    code = """
writer = write(path)
reads, writes = os.pipe()
if not os.fork():
    writer.close()
    os.write(writes, b"closed")
    sys.stdin.read()
    os._exit(0)
os.read(reads, 6)
write(path)
os.kill(os.getpid(), signal.SIGKILL)
"""
    with start(code, tmp_path) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(2)]
        assert said == ["open\n", "locked\n"]
        assert process.wait() == -signal.SIGKILL
        RunWriter(tmp_path / "runs.db", "run").close()  # The child still runs: it reads its stdin.


def test_a_run_that_cannot_be_locked_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "runs.db.lock-5076a4c0").mkdir()

    with pytest.raises(
        StorageError, match=r"runs\.db\.lock-5076a4c0' cannot be locked: .*local disk"
    ):
        search(tmp_path / "runs.db")


def test_runs_of_one_file_take_turns_instead_of_waiting_for_sqlite(tmp_path: Path) -> None:
    """SQLite would sleep for milliseconds after each try; here it may not wait at all."""
    writers = [RunWriter(tmp_path / "runs.db", name) for name in ("one", "other", "third")]
    for writer in writers:
        writer._connection.execute("PRAGMA busy_timeout = 0")

    def write(writer: RunWriter) -> None:
        for _ in range(300):
            writer.append([ROW, ROW])

    try:
        with ThreadPoolExecutor(len(writers)) as threads:
            assert [*threads.map(write, writers)] == [None] * len(writers)
    finally:
        for writer in writers:
            writer.close()
    for name in ("one", "other", "third"):
        assert len(read_run(tmp_path / "runs.db", name)[1]) == 600


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks this process")
def test_a_forked_child_does_not_wait_for_the_turns_of_its_parent(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path / "runs.db", "parent")
    child = os.fork()
    if child == 0:  # A thread of the parent could have had the turn: it never ends here.
        own = RunWriter(tmp_path / "runs.db", "child")
        os._exit(own._files.turn is writer._files.turn)
    assert os.waitpid(child, 0)[1] == 0
    writer.close()
