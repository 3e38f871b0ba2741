"""A worker and all it has started end with the search or with the trial, and by no signal."""

from __future__ import annotations

import multiprocessing.connection
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from crystallize_opt import FrozenContext, Status, TrialLimits, Workers
from crystallize_opt.errors import RunLocked
from crystallize_opt.storage import lease
from crystallize_opt.storage.journal import RunWriter
from crystallize_opt.workers import guard, worker_process
from crystallize_opt.workers.family import Memory
from tests.toy import experiment_of
from tests.workers.pools import grid, statuses

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals and sessions")

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 60  # A busy machine is no failure.

# The search

SEARCH = """
import concurrent.futures, ctypes, multiprocessing, os, subprocess, sys
from crystallize_opt import *
from crystallize_opt.adapters import GridOptimizer
from crystallize_opt.search.callbacks import TrialStarted
from crystallize_opt.workers import guard

kind, how, method = sys.argv[1:]
guard._START_METHOD = method

@data_source
def nothing(ctx):
    return None

@pipeline_step()
def work(data, ctx, *, x):
    if x == 1:
        return data, {"loss": x}
    subprocess.Popen(["sleep", "600"])
    if how != "pool":
        # A background job of a shell that has ended, and a job in a session of its own.
        subprocess.run("sleep 600 & setsid sleep 600 &", shell=True, check=True)
    print("ready", flush=True)
    if how == "busy":
        ctypes.PyDLL(None).sleep(600)  # C code that holds the interpreter's lock
    ctypes.CDLL(None).sleep(600)

def fork(event):
    # Before the second trial, when the worker and the trackers of resources are there: a thread
    # starts them. Whoever forks amid that has pipes that nobody knows of.
    if how == "forked" and isinstance(event, TrialStarted) and event.treatment.params["x"] == 2:
        if os.fork() == 0:
            os.close(1)
            os.close(2)
            # A tracker lives, and has the output, as long as its pipe is open.
            for name in ("multiprocessing.resource_tracker", "loky.backend.resource_tracker"):
                os.close(sys.modules[name]._resource_tracker._fd)
            sys.stdin.read()  # until the test ends

def spawn():
    return concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))

def loky():
    from loky import get_reusable_executor
    return get_reusable_executor(max_workers=1)

if __name__ == "__main__":
    kinds = {"processes": "processes", "spawn": spawn, "loky": loky}
    limits = TrialLimits(seconds=600) if how == "limits" else None
    experiment = Experiment(nothing(), Pipeline([work()]), seed=0)
    optimizer = GridOptimizer({"x": [1, 2]}, Objective("loss", "minimize"))
    experiment.optimize(
        optimizer, 2, workers=Workers(kinds[kind], 1, limits=limits), callbacks=[fork]
    )
"""


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("processes", "busy"),
        ("processes", "forked"),
        ("spawn", "pool"),
        pytest.param("spawn", "limits", marks=pytest.mark.slow),
        pytest.param("loky", "pool", marks=pytest.mark.slow),
    ],
)
def test_a_killed_search_leaves_no_process_and_no_file_behind(
    kind: str, how: str, tmp_path: Path
) -> None:
    kill_a_search(kind, how, guard._START_METHOD, tmp_path)


def kill_a_search(kind: str, how: str, method: str, folder: Path) -> None:
    script, temporary = folder / "search.py", folder / "temporary"
    script.write_text(SEARCH, encoding="utf-8")
    temporary.mkdir()
    with subprocess.Popen(  # noqa: S603
        [sys.executable, str(script), kind, how, method],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as search:
        assert search.stdout is not None
        assert search.stdout.readline() == "ready\n"
        sent = [*temporary.glob("crystallize_opt_*/experiment")]
        search.kill()
        # The worker, its jobs and loky's tracker have the same output, which ends with the last.
        ended = multiprocessing.connection.wait([search.stdout.fileno()], PATIENCE_SECONDS)
        assert ended, "a process lives on"
        assert search.stdout.read() == ""
    assert bool(sent) == (kind != "processes"), "this package's own workers get no file"
    assert [*temporary.glob("crystallize_opt_*")] == [], "the experiment is left behind"


STORED = """
import ctypes, os, signal, sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from crystallize_opt import *
from crystallize_opt.adapters import GridOptimizer

@data_source
def nothing(ctx):
    return None

@pipeline_step()
def work(data, ctx, *, x):
    # Now it cannot end: its guard or itself is stopped.
    stopped = os.getppid() if sys.argv[1] == "processes" else os.getpid()
    print(os.getpid(), stopped, flush=True)
    os.kill(stopped, signal.SIGSTOP)
    ctypes.CDLL(None).sleep(600)

def spawn():
    return ProcessPoolExecutor(1, get_context("spawn"))

def loky():
    from loky import get_reusable_executor
    return get_reusable_executor(max_workers=1)

def dask():
    from distributed import Client, LocalCluster
    cluster = LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None)
    return Client(cluster).get_executor()

if __name__ == "__main__":
    kinds = {"processes": "processes", "spawn": spawn, "loky": loky, "dask": dask}
    optimizer = GridOptimizer({"x": [1]}, Objective("loss", "minimize"))
    Experiment(nothing(), Pipeline([work()]), seed=0).optimize(
        optimizer, 1, workers=Workers(kinds[sys.argv[1]], 1), storage="r.db"
    )
"""


@pytest.mark.parametrize(
    "kind",
    [
        "processes",
        "spawn",
        *(pytest.param(each, marks=pytest.mark.slow) for each in ("loky", "dask")),
    ],
)
def test_a_run_is_locked_until_the_workers_of_a_killed_search_have_ended(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "search.py"
    script.write_text(STORED, encoding="utf-8")
    with subprocess.Popen(  # noqa: S603
        [sys.executable, str(script), kind],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    ) as search:
        assert search.stdout is not None
        worker, stopped = map(int, search.stdout.readline().split())
        search.kill()
        search.wait()
        monkeypatch.setattr(lease, "_WORKERS_SECONDS", 0.0)
        with pytest.raises(RunLocked, match=rf"earlier search of the run 'run' .* {stopped} \("):
            RunWriter(tmp_path / "r.db", "run")
        os.kill(stopped, signal.SIGCONT)
        monkeypatch.setattr(lease, "_WORKERS_SECONDS", PATIENCE_SECONDS)
        RunWriter(tmp_path / "r.db", "run").close()
        assert kind != "processes" or not lives(worker)
        assert search.stdout.read() == "", "the worker, which has the same output, has ended"


# The trial


@pytest.mark.parametrize(
    ("end", "status"), [("limit", Status.TIMED_OUT), ("killed", Status.WORKER_DIED)]
)
def test_what_a_trial_has_started_is_killed_with_it(
    end: str, status: Status, tmp_path: Path
) -> None:
    file = str(tmp_path / "pids")
    jobs = ["sleep 600"]
    if sys.platform == "linux":
        jobs.append("setsid sleep 600")

    def step(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        for job in jobs:
            subprocess.run(  # noqa: S602
                f"{job} & echo $! >> {file}", shell=True, check=True
            )
        if end == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        signal.pause()

    optimizer = grid([1.0])
    limits = TrialLimits(seconds=1 if end == "limit" else 600)
    search = experiment_of(step)
    with pytest.raises(Exception, match="none of 1 trials completed"):
        search.optimize(optimizer, 1, workers=Workers("processes", 1, limits=limits))

    assert statuses(optimizer) == {1.0: status}
    assert [lives(int(pid)) for pid in Path(file).read_text().split()] == [False] * len(jobs)


def lives(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_a_killed_guard_takes_its_worker_with_it() -> None:
    def step(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        if x == 2.0:
            os.kill(os.getppid(), signal.SIGKILL)
            signal.pause()
        return data, {"loss": x, "pid": os.getpid()}

    optimizer = grid([1.0, 2.0, 0.0])
    experiment_of(step).optimize(optimizer, 3, workers=1)

    assert statuses(optimizer) == {
        1.0: Status.COMPLETED, 2.0: Status.WORKER_DIED, 0.0: Status.COMPLETED,
    }  # fmt: skip
    assert not lives(int(optimizer.observations[0]["pid"]))


# Signals


def test_signals_do_not_end_a_worker() -> None:
    """The restart button of a notebook sends SIGTERM to all children, before it kills the rest."""

    def step(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        for pid in (os.getppid(), os.getpid()):
            for number in (signal.SIGINT, signal.SIGTERM):
                os.kill(pid, number)
        return data, {"loss": x}

    optimizer = grid([1.0, 2.0])
    experiment_of(step).optimize(optimizer, 2, workers=1)

    assert set(statuses(optimizer).values()) == {Status.COMPLETED}


def test_signals_do_not_end_a_worker_that_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    start = worker_process.WorkerProcess._start

    def interrupted_start(self: Any) -> None:
        start(self)  # Returns long before the new interpreter runs any code.
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(self._process.pid, number)

    def step(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        return data, {"loss": x}

    monkeypatch.setattr(worker_process.WorkerProcess, "_start", interrupted_start)
    optimizer = grid([1.0])
    experiment_of(step).optimize(optimizer, 1, workers=1)

    assert statuses(optimizer) == {1.0: Status.COMPLETED}


# Memory


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not divide shared pages")
def test_shared_pages_count_once() -> None:
    """Four forked children share all of this process, so they use as much as one of them."""
    shared = bytearray(os.urandom(1)) * 100_000_000
    context = multiprocessing.get_context("fork")
    _here, there = context.Pipe()
    children = [context.Process(target=there.recv) for _ in range(4)]
    for child in children:
        child.start()
    try:
        one = psutil.Process().memory_info().rss
        assert Memory().exceeds(2 * one) is None
        assert sum(psutil.Process(c.pid).memory_info().rss for c in children) > 2 * one
        used = Memory().exceeds(one // 4)
        assert used is not None
        assert one // 4 < used < 2 * one
    finally:
        for child in children:
            child.kill()
            child.join()
    assert len(shared) == 100_000_000


@pytest.mark.slow
@pytest.mark.parametrize("how", ["busy", "forked"])
def test_a_guard_that_does_not_fork_its_worker(how: str, tmp_path: Path) -> None:
    """As on macOS and Windows."""
    kill_a_search("processes", how, "loky", tmp_path)
