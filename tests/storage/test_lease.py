"""A search that takes a run over never runs beside trials of the search before it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crystallize_opt import FrozenContext, Search, Workers
from crystallize_opt.errors import RunLocked, StorageError
from crystallize_opt.storage import lease
from crystallize_opt.storage.journal import RunWriter
from crystallize_opt.storage.lease import held
from crystallize_opt.workers.worker import Answer, run_trial
from crystallize_opt.workers.worker_process import run_limited
from tests.storage.searches import parts
from tests.toy import experiment_of
from tests.workers.pools import grid, spawn_pool

HOLD = """
import sys
from crystallize_opt.storage.lease import Lease, held

with held(Lease(sys.argv[1], int(sys.argv[2]))):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(given: lease.Lease) -> subprocess.Popen[str]:
    """Start a process that runs a trial until its stdin ends."""
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", HOLD, given.path, str(given.number)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_run_is_locked_while_workers_of_an_earlier_search_run_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = RunWriter(tmp_path / "r.db", "run")
    with hold(first.lease) as one, hold(first.lease) as other:
        first.close()
        monkeypatch.setattr(lease, "_WORKERS_SECONDS", 0.0)
        for left, end in (([one, other], other.kill), ([one], one.communicate)):
            with pytest.raises(RunLocked, match="earlier search of the run 'run'") as caught:
                RunWriter(tmp_path / "r.db", "run")
            assert all(f"{each.pid} (" in str(caught.value) for each in left)
            end()
            left[-1].wait()
        RunWriter(tmp_path / "r.db", "run").close()

    assert parts(tmp_path / "r.db") == ["r.db"]


def test_a_trial_of_an_earlier_search_does_not_begin(tmp_path: Path) -> None:
    """It was in the queue of an executor when the search was killed."""
    first = RunWriter(tmp_path / "r.db", "run")
    ghost = first.lease
    with held(ghost), held(ghost):  # Two threads of one worker.
        pass
    first.close()
    with (
        pytest.raises(StorageError, match=r"no longer writes its run: .* cannot be read"),
        held(ghost),
    ):
        pass
    second = RunWriter(tmp_path / "r.db", "run")
    with held(second.lease):
        pass
    with pytest.raises(StorageError, match="another search has taken the run over"), held(ghost):
        pass
    second.close()


@pytest.mark.parametrize(("function", "limits"), [(run_trial, ()), (run_limited, (60.0, None))])
def test_a_worker_of_a_pool_does_not_run_it(
    function: Callable[..., Answer], limits: tuple[Any, ...], tmp_path: Path
) -> None:
    experiment = tmp_path / "experiment"
    experiment.touch()
    first = RunWriter(tmp_path / "r.db", "run")
    ghost = first.lease
    first.close()
    answer = function(str(tmp_path), str(experiment), b"", 0, 1, ghost, *limits)

    assert (answer.refusal or "").startswith("This trial was not run")
    assert not answer.rows


def test_another_file_in_the_place_of_the_workers_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("more than 100 bytes " * 30)
    first = RunWriter(tmp_path / "r.db", "run")
    path = Path(first.lease.path)
    first.close()
    path.symlink_to(precious)
    with pytest.raises(StorageError, match="is a link, which is not followed"):
        RunWriter(tmp_path / "r.db", "run")
    path.unlink()
    path.write_bytes(precious.read_bytes())
    with pytest.raises(
        StorageError, match=r"cannot be locked: .*\. If no such worker lives, delete"
    ):
        RunWriter(tmp_path / "r.db", "run")

    assert path.read_bytes() == precious.read_bytes()


# Searches


def measure(data: Any, ctx: FrozenContext, *, x: float) -> Any:
    return data, {"loss": x}


@pytest.mark.parametrize("workers", [None, "threads", "processes"])
def test_a_search_leaves_no_file(workers: Any, tmp_path: Path) -> None:
    experiment_of(measure).optimize(
        grid([1.0, 2.0]), 2, workers=workers and Workers(workers, 1), storage=tmp_path / "r.db"
    )

    assert parts(tmp_path / "r.db") == ["r.db"]


def wait_for_go(data: Any, ctx: FrozenContext, *, x: float) -> Any:
    """The trial of 2 runs until it may go, and that of 1 until the trial of 2 runs."""
    begun, go = (Path(ctx["folder"], name) for name in ("begun", "go"))
    if x == 2.0:
        begun.touch()
    while not (begun if x == 1.0 else go).exists():
        if os.getppid() != ctx["parent"]:  # The tests were ended.
            os._exit(1)
        time.sleep(0.01)
    return data, {"loss": x}


def test_a_trial_that_a_search_gave_up_locks_the_run_until_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool is the user's, so the search does not end its processes."""
    context = {"folder": str(tmp_path), "parent": os.getpid()}
    experiment = experiment_of(wait_for_go, initial_ctx=context)
    with spawn_pool() as pool:

        def search() -> Search:
            return Search(
                experiment, grid([1.0, 2.0]), 2, workers=Workers(pool, 2), storage=tmp_path / "r.db"
            )

        try:
            for _ in search():
                break
            monkeypatch.setattr(lease, "_WORKERS_SECONDS", 0.0)
            with pytest.raises(RunLocked, match=r"gave these trials up\. The processes are \d+ "):
                search().run()
        finally:
            (tmp_path / "go").touch()
        monkeypatch.setattr(lease, "_WORKERS_SECONDS", 60.0)
        search().run()

    assert parts(tmp_path / "r.db") == ["begun", "go", "r.db"]
