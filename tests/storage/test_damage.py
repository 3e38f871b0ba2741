"""Damaged files: what is read or resumed is right, or it is a `StorageError`.

The quick test damages some files. The slow one damages 10,000, and prints how each case ended:
`python -m pytest -m slow -s tests/storage/test_damage.py`.
"""

from __future__ import annotations

import contextlib
import functools
import random
import signal
import sqlite3
import sys
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from crystallize_opt import History, Storage
from crystallize_opt.errors import ReplayDiverged, StorageError
from crystallize_opt.search.callbacks import RunStarted
from tests.recording import resuming
from tests.recording.killed_runs import exactly
from tests.storage.searches import search
from tests.storage.test_lock import start
from tests.toy import experiment_of

PAGE = 4096
Files = dict[str, bytes]

KILLED = """
from tests.storage.searches import search
from crystallize_opt import Storage
from crystallize_opt.search.callbacks import TrialTold
told = []
def kill(event):
    told.append(isinstance(event, TrialTold))
    if sum(told) == 20:
        os.kill(os.getpid(), signal.SIGKILL)
search(Storage(path, "other"))
search(Storage(path, "night"), 20, callbacks=[kill])
"""


def whole_file(folder: Path) -> Path:
    path = folder / "runs.db"
    search(Storage(path, "other"))
    search(Storage(path, "night"), 20)
    tpe = experiment_of(resuming.loss, seed=3)
    tpe.optimize(resuming.tpe(), 20, storage=Storage(path, "tpe"), progress=False)
    return path


def file_with_log(folder: Path) -> Path:
    with start(KILLED, folder) as killed:
        killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert (folder / "runs.db-wal").stat().st_size
    return folder / "runs.db"


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Return a content that is not as it was written."""
    b = bytearray(content)
    at = rng.randrange(len(b))
    kind = rng.randrange(9)
    if kind < 3:
        b[at] ^= 1 << rng.randrange(8)
    elif kind == 3:
        b[at] = (b[at] + rng.randrange(1, 256)) % 256
    elif kind == 4:
        b[at : at + 64] = rng.randbytes(min(64, len(b) - at))
    elif kind == 5:
        at -= at % 512
        b[at : at + 512] = bytes(512)
    elif kind == 6:
        del b[at:]
    elif kind == 7:
        one, other = (rng.randrange(len(b) // PAGE) * PAGE for _ in range(2))
        b[one : one + PAGE], b[other : other + PAGE] = (
            b[other : other + PAGE],
            b[one : one + PAGE],
        )
    else:
        header = rng.randrange(len(b) // PAGE) * PAGE + rng.randrange(12)  # of a page
        b[header] ^= 1 << rng.randrange(8)
    return bytes(b)


def ending(files: Files, folder: Path, number: int) -> str:
    """Damage files in one way, read and resume them, and return how that ended."""
    rng = random.Random(number)
    with_log = "runs.db-wal" in files
    name = rng.choice(sorted(files))
    content = damaged(files[name], rng)
    path = folder / "runs.db"
    for each in folder.iterdir():
        each.unlink()
    for other, whole in files.items():
        (folder / other).write_bytes(content if other == name else whole)
    what = f"{'killed' if with_log else 'closed'}, {name}: "
    if content == files[name]:
        return what + "unchanged"
    run = "tpe" if not with_log and number % 10 == 0 else "night"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        end = (resumed if number % 3 == 0 else read)(path, run, with_log=with_log)
    warned = any("are lost" in str(each.message) for each in caught)
    cut = len(content) < len(files[name])
    return what + end + (", cut short" if cut else "") + (", warned" if warned else "")


def unnoticed(found: Counter[str]) -> list[str]:
    """Return the endings in which trials are missing without a word.

    A log that is cut short looks like one whose process was killed.
    """
    return [
        each
        for each in found
        if "WRONG" in each
        or ("so far" in each and "warned" not in each and "cut short" not in each)
    ]


def read(path: Path, run: str, *, with_log: bool) -> str:
    try:
        found = [exactly(each) for each in History.load(path, run)]
    except StorageError:
        return "read, refused"
    return "read, " + judged(found, run, 20, with_log=with_log)


def resumed(path: Path, run: str, *, with_log: bool) -> str:
    before: list[int] = []

    def note(event: object) -> None:
        if isinstance(event, RunStarted):
            before.append(len(event.resumed))

    try:
        if run == "tpe":
            optimizer = resuming.tpe()
            experiment = experiment_of(resuming.loss, seed=3)
            storage = Storage(path, run)
            experiment.optimize(optimizer, 22, storage=storage, callbacks=[note], progress=False)
        else:
            optimizer = search(Storage(path, run), 22, callbacks=[note])
    except StorageError:
        return "resumed, refused"
    except ReplayDiverged:
        return "resumed, diverges"
    if before != [20] and not with_log:
        return f"resumed, WRONG: {before} trials found"
    found = [exactly(each) for each in optimizer.observations]
    return "resumed, " + judged(found, run, 22, with_log=False)


def judged(found: list[list[str]], run: str, count: int, *, with_log: bool) -> str:
    """A log that is damaged ends where the damage begins, as after a loss of power."""
    expected = right(run)[:count]
    if found == expected:
        return "right"
    if with_log and found == expected[: len(found)]:
        return "right so far"
    return f"WRONG: {len(found)} trials"


@functools.cache
def right(run: str) -> list[list[str]]:
    if run == "tpe":
        optimizer = resuming.tpe()
        experiment_of(resuming.loss, seed=3).optimize(optimizer, 22, progress=False)
    else:
        from tests.storage.searches import optimizer as make
        from tests.toy import toy_experiment

        optimizer = make()  # type: ignore[assignment]
        toy_experiment(seed=0).optimize(optimizer, 22)
    return [exactly(each) for each in optimizer.observations]


def endings(sources: list[Files], folder: Path, numbers: range) -> Counter[str]:
    folder.mkdir()
    found: Counter[str] = Counter()
    for number in numbers:
        found[ending(sources[number % len(sources)], folder, number)] += 1
    return found


def files_of(path: Path) -> Files:
    names = [path.name, f"{path.name}-wal"]
    return {n: (path.parent / n).read_bytes() for n in names if (path.parent / n).exists()}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Files]:
    found = [files_of(whole_file(tmp_path_factory.mktemp("whole")))]
    if sys.platform != "win32":
        found.append(files_of(file_with_log(tmp_path_factory.mktemp("killed"))))
    return found


def test_what_is_read_from_damaged_files_is_right(sources: list[Files], tmp_path: Path) -> None:
    found = endings(sources, tmp_path / "files", range(60))

    assert not unnoticed(found)
    assert sum(count for each, count in found.items() if "refused" in each) > 10


@pytest.mark.skipif(sys.platform == "win32", reason="the process is killed by a signal")
@pytest.mark.parametrize("page", [0, 3, -1])
def test_events_that_a_damaged_log_loses_are_said(
    page: int, sources: list[Files], tmp_path: Path
) -> None:
    """In its header, in a page in its middle, or in the last one."""
    files = dict(sources[1])
    path = tmp_path / "runs.db"
    for damage in (False, True):
        log = bytearray(files["runs.db-wal"])
        log[32 + 4120 * page + 100 if page >= 0 else -1] ^= damage
        if not page:
            log[17] ^= damage
        (tmp_path / "runs.db-wal").write_bytes(log)
        path.write_bytes(files["runs.db"])
        if not damage:
            assert read(path, "night", with_log=True) == "read, right"
            continue
        with pytest.warns(RuntimeWarning, match="The last events of .* are lost: its log"):
            end = read(path, "night", with_log=True)
        assert end == "read, right so far" or (page == 0 and end == "read, refused")
        with pytest.warns(RuntimeWarning, match="the missing trials again"):
            search(Storage(path, "night"), 22)


@pytest.mark.parametrize("table", ["runs", "sqlite_autoindex_runs_1", "events_of_run"])
def test_one_bit_outside_of_the_checksums_is_found(
    table: str, sources: list[Files], tmp_path: Path
) -> None:
    """The name of the run, the number of the run, or the number of cells of a page."""
    path = tmp_path / "runs.db"
    path.write_bytes(sources[0]["runs.db"])
    with contextlib.closing(sqlite3.connect(path)) as file:
        query = "SELECT rootpage FROM sqlite_schema WHERE name = ?"
        (page,) = file.execute(query, (table,)).fetchone()
    content = bytearray(path.read_bytes())
    at = content.find(b"night", (page - 1) * PAGE)
    if table == "events_of_run":
        at = (page - 1) * PAGE + 4
    content[at] ^= 1
    path.write_bytes(content)

    for use in (read, resumed):
        assert use(path, "night", with_log=False).endswith("refused")


@pytest.mark.slow
def test_ten_thousand_damaged_files(sources: list[Files], tmp_path: Path) -> None:
    found: Counter[str] = Counter()
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        for part in pool.map(
            endings,
            [sources] * 20,
            [tmp_path / str(i) for i in range(20)],
            [range(first, first + 500) for first in range(1000, 11_000, 500)],
        ):
            found += part
    print()
    for each, count in sorted(found.items()):
        print(f"{count:6} {each}")

    assert not unnoticed(found)
