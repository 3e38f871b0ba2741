"""Trials as jobs of a batch system: submitit's, here as local processes, and dask-jobqueue's."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import submitit

from crystallize_opt import Status, TrialLimits
from crystallize_opt.errors import UsageError
from crystallize_opt.workers.batch_jobs import JobFuture, as_future
from crystallize_opt.workers.workers import Workers
from tests.toy import toy_experiment
from tests.workers.jobs import dying
from tests.workers.pools import grid, statuses


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> submitit.LocalExecutor:
    # How long submitit waits for the result of a job that has ended: the files may be far away.
    monkeypatch.setattr(submitit.Job, "_results_timeout_s", 0)
    return submitit.LocalExecutor(tmp_path / "jobs")


def test_a_job_whose_process_dies_costs_its_trial_only(local: submitit.LocalExecutor) -> None:
    optimizer = grid([0.0, 1.0, 2.0])

    best = dying("killed").optimize(optimizer, 3, workers=Workers(local, 3))

    assert best.params["x"] == 1.0
    assert statuses(optimizer) == {
        0.0: Status.WORKER_DIED,
        1.0: Status.COMPLETED,
        2.0: Status.COMPLETED,
    }


@pytest.mark.slow
def test_a_function_may_make_the_executor_of_jobs_and_limits_hold(
    local: submitit.LocalExecutor,
) -> None:
    optimizer = grid([0.0, 1.0])
    limits = TrialLimits(seconds=1)

    dying("hang").optimize(optimizer, 2, workers=Workers(lambda: local, 2, limits=limits))

    assert statuses(optimizer) == {0.0: Status.TIMED_OUT, 1.0: Status.COMPLETED}


class Queued:
    """A job as Slurm has it, which is not here: it waits in a queue until it may start."""

    def __init__(self, state: str) -> None:
        self.state = state
        self.ended = threading.Event()
        self.was_cancelled = False

    def result(self) -> str:
        self.ended.wait()
        return "the result"

    def cancel(self, check: bool = True) -> None:
        self.was_cancelled = True
        self.ended.set()


def test_only_a_job_that_has_not_started_can_be_taken_back() -> None:
    waits, runs = Queued("PENDING"), Queued("RUNNING")
    taken, kept = JobFuture(waits), JobFuture(runs)
    called = list[Future[Any]]()
    taken.add_done_callback(called.append)

    assert taken.cancel()
    assert waits.was_cancelled
    assert called == [taken]
    assert not kept.cancel()
    assert not runs.was_cancelled
    runs.ended.set()
    assert kept.result() == "the result"


def test_an_executor_whose_submit_returns_no_future_is_refused() -> None:
    class Callers:
        def submit(self, function: Any, *arguments: Any) -> Any:
            return function(*arguments)

    with pytest.raises(UsageError, match=r"submit\(\) returned .* not a future"):
        toy_experiment().optimize(grid([1.0]), 1, workers=Workers(Callers(), 1))
    future = Future[Any]()
    assert as_future(future) is future


CLUSTER = """
from dask_jobqueue.local import LocalCluster
from distributed import Client
from crystallize_opt import Experiment, Float, Objective, TrialLimits, Workers
from crystallize_opt.adapters import RandomOptimizer

def loss(x: Float(-5.0, 5.0)):
    return {"loss": (x - 1) ** 2}

if __name__ == "__main__":
    experiment = Experiment.of(loss, seed=0)
    optimizer = RandomOptimizer(experiment.search_space(), Objective("loss", "minimize"), seed=0)
    # Each job is a local process; those of SLURMCluster run the same command.
    cluster = LocalCluster(
        cores=1, processes=1, memory="1GB", n_workers=1,
        scheduler_options={"dashboard_address": ":0"},
    )
    with cluster, Client(cluster) as client:
        workers = Workers(client.get_executor, 1, limits=TrialLimits(seconds=60))
        experiment.optimize(optimizer, 3, workers=workers)
    print([o.status.value for o in optimizer.observations])
"""


@pytest.mark.slow
def test_the_workers_of_dask_jobqueue_run_trials(tmp_path: Path) -> None:
    (tmp_path / "search.py").write_text(CLUSTER)
    daemon = {"DASK_DISTRIBUTED__WORKER__DAEMON": "False"}
    done = subprocess.run(
        [sys.executable, "search.py"],
        cwd=tmp_path,
        env=os.environ | daemon,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.endswith("['completed', 'completed', 'completed']\n")
