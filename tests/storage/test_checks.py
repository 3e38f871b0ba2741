"""Hand-made files whose checksums are right: each is refused, by reading and by resuming."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from crystallize_opt import Categorical, Failures, Float, History, Integer, Objective
from crystallize_opt.adapters import OptunaOptimizer, RandomOptimizer
from crystallize_opt.errors import StorageError
from tests.recording import resuming
from tests.recording.resuming import tpe
from tests.storage.searches import search
from tests.toy import toy_experiment

Change = Callable[[dict[str, Any]], object]

CONDITIONAL = {
    "delta": Float(0.0, 1.0),
    "kind": Categorical(["a", None]),
    "depth": Integer(1, 9, step=2).when(kind="a"),
    "always": Categorical([7]),
}


def rewritten(path: Path, kind: str, change: Change, number: int = 0) -> None:
    """Change one event of a kind, and make every checksum right."""
    with contextlib.closing(sqlite3.connect(path)) as file:
        rows = file.execute("SELECT seq, kind, trial, data FROM events ORDER BY seq").fetchall()
        seq = [row[0] for row in rows if row[1] == kind][number]
        checksum = 0
        for each, name, trial, text in rows:
            if each == seq:
                event = {"kind": name, "trial": trial, "data": json.loads(text), "text": None}
                change(event)
                name, trial = event["kind"], event["trial"]
                text = event["text"] or json.dumps(event["data"])
            checksum = zlib.crc32(f"{name} {trial} {text}\n".encode(), checksum)
            file.execute(
                "UPDATE events SET kind = ?, trial = ?, data = ?, checksum = ? WHERE seq = ?",
                (name, trial, text, checksum, each),
            )
        file.commit()


@pytest.fixture(scope="module")
def file_of_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("file") / "runs.db"
    search(path, 6, replicates_per_trial=2)
    return path


def data(**changes: Any) -> Change:
    """Return a change of fields of an event."""
    return lambda event: event["data"].update(changes)


def text(content: str) -> Change:
    return lambda event: event.update(text=content)


def within(*keys: str | int, value: Any) -> Change:
    """Return a change of one value within an event."""

    def change(event: dict[str, Any]) -> None:
        place = event["data"]
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value

    return change


HOSTILE: list[tuple[str, Change]] = [
    ("ask", data(name=5)),
    ("ask", data(name="trial_0", params={"delta": 1.5})),
    ("ask", data(params={"delta": "0.5"})),
    ("ask", data(params={"delta": True})),
    ("ask", data(params={})),
    ("ask", data(params={"delta": 0.5, "other": 1})),
    ("ask", data(params=[0.5])),
    ("ask", data(more=1)),
    ("ask", text('{"name":"trial_0","params":{"delta":NaN}}')),
    ("ask", text('{"name":"trial_0","params":{"delta":1e999}}')),
    ("ask", text("{} {}")),
    ("ask", text('{"name":"trial_0","params":{"delta":0.5}} true')),
    ("ask", text("[" * 100_000)),
    ("ask", text('{"name":' * 500)),
    ("ask", text("[]")),
    ("ask", text('{"name":"trial_0","params":{"delta":' + "9" * 5000 + "}}")),
    ("ask", lambda event: event.update(kind="batch")),
    ("ask", lambda event: event.update(kind="suggest")),
    ("ask", lambda event: event.update(trial=3)),
    ("ask", lambda event: event.update(trial=None)),
    ("ask", lambda event: event.update(trial=-1)),
    ("observation", lambda event: event.update(trial=5)),
    ("observation", lambda event: event.update(trial=2**40)),
    ("observation", data(name="trial_1")),
    ("observation", data(status="fine")),
    ("observation", data(status=["completed"])),
    ("observation", data(metrics={"sum": "nan"})),
    ("observation", data(metrics={})),
    ("observation", data(metrics={"sum": 1.0, "other": "high"})),
    ("observation", data(metrics={"sum": 1.0, "other": True})),
    ("observation", data(metrics={"sum": 10**400})),
    ("observation", data(metrics=[1.0])),
    ("observation", data(sem={"sum": "low"})),
    ("observation", data(error=5)),
    ("observation", data(duration="long")),
    ("observation", data(started_at=True)),
    ("observation", data(replicates=5)),
    ("observation", within("replicates", 0, "index", value=-1)),
    ("observation", within("replicates", 0, "seed", value="x")),
    ("observation", within("replicates", 0, "metrics", value={"sum": []})),
    ("observation", within("replicates", 0, "status", value="fine")),
    ("observation", within("replicates", 0, "other", value=1)),
    ("begin", data(description=5)),
    ("begin", data(versions={"python": 3})),
    ("begin", data(asked_before="0")),
    ("begin", within("description", "space", "parameters", 0, "low", value=2.0)),
    ("begin", within("description", "space", "parameters", 0, "type", value="Path")),
    ("begin", within("description", "space", value=[])),
    ("begin", within("description", "objectives", value=[["sum", "up"]])),
    ("begin", within("description", "objectives", value=[5])),
    ("begin", within("description", "constraints", value=[["sum", "<", 1]])),
    ("begin", within("description", "optimizer", value=None)),
    ("begin", within("description", "optimizer", "settings", value=1)),
    ("begin", within("description", "experiment", value=1)),
    ("begin", within("description", "experiment", "seed", value="x")),
    ("begin", within("description", "experiment", "deep", value=json.loads("[" * 400 + "]" * 400))),
    ("begin", lambda event: event.update(kind="resume")),
    ("begin", lambda event: event.update(kind="enqueue", text='{"params":{}}')),
]


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_an_event_that_this_package_does_not_write_is_refused(
    number: int, file_of_runs: Path, tmp_path: Path
) -> None:
    kind, change = HOSTILE[number]
    path = tmp_path / "runs.db"
    path.write_bytes(file_of_runs.read_bytes())
    rewritten(path, kind, change)

    with pytest.raises(StorageError, match=r"is damaged|space of this run cannot be read"):
        History.load(path)
    with pytest.raises(StorageError, match=r"is damaged|space of this run cannot be read"):
        search(path, 8, replicates_per_trial=2)


@pytest.fixture(scope="module")
def file_with_all_kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a baseline, an enqueued point, and reports of a pruner."""
    path = tmp_path_factory.mktemp("all") / "runs.db"
    all_kinds(path, 6)
    return path


def all_kinds(path: Path, trials: int) -> None:
    pruner = optuna.pruners.MedianPruner(n_startup_trials=1)
    loss = Objective("sum", "minimize")
    optimizer = OptunaOptimizer({"delta": (0.0, 1.0)}, loss, seed=0, pruner=pruner)
    if not path.exists():
        optimizer.enqueue({"delta": 0.25})
    toy_experiment(seed=0).optimize(
        optimizer, trials, 2, storage=path, baseline=True, progress=False
    )


DEEP = json.loads("[" * 400 + "]" * 400)
MORE_HOSTILE: list[tuple[str, Change]] = [
    ("report", data(prune=1)),
    ("report", data(prune=None)),
    ("baseline", lambda event: event.update(trial=0)),
    ("baseline", data(status="failed", error="boom")),
    ("baseline", data(params={"delta": DEEP})),
    ("enqueue", data(params={"delta": 5.0})),
    ("enqueue", data(params={"other": 0.5})),
]


@pytest.mark.parametrize("number", range(-1, len(MORE_HOSTILE)))
def test_events_of_the_other_kinds_are_checked(
    number: int, file_with_all_kinds: Path, tmp_path: Path
) -> None:
    path = tmp_path / "runs.db"
    path.write_bytes(file_with_all_kinds.read_bytes())
    if number < 0:  # As it was written.
        assert len(History.load(path)) >= 6
        return
    rewritten(path, *MORE_HOSTILE[number])

    with pytest.raises(StorageError, match="is damaged"):
        History.load(path)
    with pytest.raises(StorageError, match="is damaged"):
        all_kinds(path, 8)


def test_a_trial_that_is_told_twice_is_refused(file_of_runs: Path, tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    path.write_bytes(file_of_runs.read_bytes())

    def again(event: dict[str, Any]) -> None:
        event["trial"] = 0
        event["data"]["name"] = "trial_0"

    rewritten(path, "observation", again, number=1)

    with pytest.raises(StorageError, match="is not pending"):
        History.load(path)


def test_what_is_rewritten_as_it_was_is_read(file_of_runs: Path, tmp_path: Path) -> None:
    """So the changes above are what is refused, and not the way they are made."""
    path = tmp_path / "runs.db"
    path.write_bytes(file_of_runs.read_bytes())
    rewritten(path, "ask", data())

    assert len(History.load(path)) == 6
    assert len(search(path, 8, replicates_per_trial=2).observations) == 8


@pytest.mark.parametrize(
    "params",
    [
        {"kind": -1},
        {"kind": 2},
        {"kind": True},
        {"kind": 0, "depth": 2},
        {"kind": 0, "depth": 3.0},
        {"kind": 0},
        {"kind": 1, "depth": 3},
        {"kind": 1, "always": 1},
    ],
)
def test_parameters_outside_of_the_space_are_refused(
    params: dict[str, Any], tmp_path: Path
) -> None:
    path, loss = tmp_path / "runs.db", Objective("sum", "minimize")
    optimizer = RandomOptimizer(CONDITIONAL, loss, seed=0)
    failures = Failures(unread="ignore")  # The steps read only delta.
    toy_experiment(seed=0).optimize(optimizer, 9, storage=path, failures=failures)
    kinds = [each.treatment.params["kind"] for each in History.load(path)]
    assert set(kinds) == {"a", None}
    rewritten(path, "ask", data(params={"delta": 0.5, "always": 0} | params))

    with pytest.raises(StorageError, match="is damaged"):
        History.load(path)


def test_a_changed_state_of_the_optimizer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    resuming.search(path, tpe(), 9)
    with contextlib.closing(sqlite3.connect(path)) as file:
        (state,) = file.execute("SELECT data FROM states").fetchone()
        for written, checksum in (
            (state.replace("1", "2", 1), zlib.crc32(state.encode())),
            (state.replace('"state"', '"other"'), None),
            (state.replace('pos\\": ', 'pos\\": 9'), None),
            (state.replace("MT19937", "PCG64"), None),
            ("[]", None),
        ):
            assert written != state
            file.execute(
                "UPDATE states SET data = ?, checksum = ?",
                (written, zlib.crc32(written.encode()) if checksum is None else checksum),
            )
            file.commit()
            with pytest.raises(StorageError, match=r"state .*(damaged|as it was written)"):
                resuming.search(path, tpe(), 12)


@pytest.mark.parametrize("column", ["kind", "data"])
def test_values_of_other_types_are_refused(column: str, file_of_runs: Path, tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    path.write_bytes(file_of_runs.read_bytes())
    with contextlib.closing(sqlite3.connect(path)) as file:
        for value in ("CAST({} AS BLOB)", "x'ff'", "5"):
            file.execute(f"UPDATE events SET {column} = {value.format(column)}")  # noqa: S608
            rows = file.execute("SELECT kind, trial, data FROM events ORDER BY seq").fetchall()
            checksum = zlib.crc32("".join("{} {} {}\n".format(*row) for row in rows).encode())
            file.execute("UPDATE events SET checksum = ?", (checksum,))
            file.commit()
            with pytest.raises(StorageError, match="is damaged"):
                History.load(path)
