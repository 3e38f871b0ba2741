"""Executors that the tests run trials on, and the optimizer that gives them known trials."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

from loky import get_reusable_executor

from crystallize_opt import Categorical, Objective, Status
from crystallize_opt.adapters import GridOptimizer

LOSS = Objective("loss", "minimize")

EXECUTORS = ["threads", "processes", "spawn", "loky", "dask"]
PROCESSES = EXECUTORS[1:]


def grid(values: list[Any], objective: Objective = LOSS) -> GridOptimizer:
    return GridOptimizer({"x": Categorical(values)}, objective)


def statuses(optimizer: Any) -> dict[float, Status]:
    """The status of each trial, by its parameter."""
    return {o.treatment.params["x"]: o.status for o in optimizer.observations}


def spawn_pool() -> Executor:
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))


def loky_pool() -> Executor:
    pool: Executor = get_reusable_executor(max_workers=2)
    return pool


@contextmanager
def dask_cluster(*, processes: bool) -> Iterator[Callable[[], Executor]]:
    """Start a cluster of two workers; those of processes take ten times as long."""
    import dask
    from distributed import Client, LocalCluster

    options = {
        "distributed.scheduler.allowed-failures": 0,
        "distributed.worker.daemon": False,
        "distributed.admin.log-length": 0,
    }
    make_cluster: Any = LocalCluster
    make_client: Any = Client
    with (
        dask.config.set(options),
        make_cluster(
            n_workers=2,
            threads_per_worker=1,
            processes=processes,
            dashboard_address=":0",
            silence_logs=60,
        ) as cluster,
        make_client(cluster) as client,
    ):
        yield client.get_executor
