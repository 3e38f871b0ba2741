"""The file: what is written is what is read, and what is wrong with it is found out."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crystallize_opt import (
    Experiment,
    History,
    Objective,
    Observation,
    Replicate,
    Status,
    Treatment,
)
from crystallize_opt.adapters import RandomOptimizer
from crystallize_opt.errors import RunLocked, StorageError
from crystallize_opt.plain_data import StoredObject
from crystallize_opt.storage.journal import SCHEMA_VERSION, RunWriter, read_run
from crystallize_opt.storage.records import read_observation, to_text, write_observation
from crystallize_opt.storage.settings import Storage
from tests.recording.killed_runs import exactly
from tests.toy import toy_experiment

SUM = Objective("sum", "minimize")


def optimizer(seed: int = 0) -> RandomOptimizer:
    return RandomOptimizer({"delta": (0.0, 1.0)}, SUM, seed=seed)


def search(
    path: Path | Storage,
    trials: int = 5,
    experiment: Experiment | None = None,
    **options: Any,
) -> Any:
    found = optimizer()
    (experiment or toy_experiment(seed=0)).optimize(found, trials, storage=path, **options)
    return found


def parts(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.iterdir())


# Exact ------------------------------------------------------------------------------------------

numbers = st.floats() | st.sampled_from([math.nan, -0.0, 5e-324, 1.7976931348623157e308])
names = st.text(st.characters(codec=None, exclude_categories=()), min_size=1)  # surrogates, too
metrics = st.dictionaries(names, numbers, max_size=4)
texts = st.none() | st.text()
times = st.none() | st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def observations(draw: st.DrawFn) -> Observation:
    treatment = Treatment(draw(names), {})
    statuses = st.sampled_from(Status)
    several: list[Replicate] = []
    for index in range(draw(st.integers(0, 3))):
        seed = draw(st.none() | st.integers(0, 2**32 - 1))
        several.append(Replicate(index, seed, draw(metrics), draw(statuses)))
    averaged: bool = draw(st.booleans())
    if several and averaged:
        return Observation.of_replicates(treatment, several)
    return Observation(
        treatment,
        draw(metrics),
        draw(statuses),
        draw(st.dictionaries(names, st.none() | numbers, max_size=2)),
        tuple(several),
        draw(texts),
        draw(texts),
        draw(times),
        draw(times),
    )


@given(observations())
def test_an_observation_is_read_as_it_was_written(observation: Observation) -> None:
    import json

    text = to_text(write_observation(observation))
    read = read_observation(json.loads(text), observation.treatment)

    assert text.isascii()
    assert repr(read) == repr(observation)  # repr, because nan is not equal to itself


class Kernel:
    """A choice that is no plain data."""


def test_choices_that_are_objects_come_back_by_their_index(tmp_path: Path) -> None:
    kernels = [Kernel(), len, "x", 1, True]
    space = RandomOptimizer({"kernel": kernels}, SUM, seed=0).space
    found = RandomOptimizer(space, SUM, seed=0)
    toy_experiment(seed=0).optimize(found, 5, storage=tmp_path / "runs.db")

    read = History.load(tmp_path / "runs.db", space=space)
    described = History.load(tmp_path / "runs.db")

    expected = [o.treatment.params["kernel"] for o in found.observations]
    assert [o.treatment.params["kernel"] for o in read] == expected
    assert {type(o.treatment.params["kernel"]) for o in described} == {StoredObject, str, int, bool}


def test_the_history_of_a_run_is_that_of_the_optimizer(tmp_path: Path) -> None:
    found = search(tmp_path / "runs.db", replicates_per_trial=2)

    history = History.load(tmp_path / "runs.db")

    assert [repr(o) for o in history] == [repr(o) for o in found.observations]
    assert history.best is not None
    assert history.best.treatment.params == found.get_best_treatment().params
    assert (history.name, history.space, history.pending) == ("run", found.space, [])


def test_strange_metrics_are_stored(tmp_path: Path) -> None:
    name = "naïve 損失 \x00 \ud800"

    class Odd(RandomOptimizer):
        def ask(self, n: int = 1) -> list[Treatment]:
            asked = super().ask(n)
            point = {"delta": 0.5}
            odd = {"sum": 1.0, name: math.inf, "huge": 1e308, "nan": math.nan}
            self.attach(Observation(Treatment(f"odd {asked[0].name}", point), odd))
            return asked

    found = Odd({"delta": (0.0, 1.0)}, SUM, seed=0)
    toy_experiment(seed=0).optimize(found, 2, storage=tmp_path / "runs.db")

    read = History.load(tmp_path / "runs.db")

    assert [repr(o) for o in read] == [repr(o) for o in found.observations]
    assert read[0][name] == math.inf


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
    with refused(tmp_path / "runs.db", "not a database|of something else"):
        (tmp_path / "runs.db").write_bytes(content)


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    with (
        refused(tmp_path / "runs.db", "of something else"),
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
from crystallize_opt.errors import StorageError
from tests.storage.test_journal import optimizer, toy_experiment

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

SECOND = """
import sys
from crystallize_opt.errors import RunLocked
from crystallize_opt import History, Storage
from tests.storage.test_journal import search
from pathlib import Path

try:
    search(Path("runs.db"))
except RunLocked as error:
    print(error)
print(len(History.load("runs.db", "run").pending))
search(Storage("runs.db", run="other"))
"""


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
        "from crystallize_opt.storage.journal import RunWriter\n"
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

    assert (killed.returncode, left) == (-signal.SIGKILL, ["runs.db.lock-1"])
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
    (tmp_path / "runs.db.lock-1").mkdir()

    with pytest.raises(StorageError, match=r"runs\.db\.lock-1' cannot be locked: .*local disk"):
        search(tmp_path / "runs.db")


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
