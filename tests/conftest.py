"""Settings of the whole suite, and executors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# The models in the tests are small: more threads cost more than they save, above all on a busy
# machine. Set before numpy or torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("CRYSTALLIZE_OPT_FULL_TRACEBACKS", "1")

# A busy machine is no failure. What else is set (as on CI) stays.
settings.register_profile(
    "no time limit", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("no time limit")


@pytest.fixture(scope="module")
def dask_pool() -> Iterator[Callable[[], Executor]]:
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
            n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=60
        ) as cluster,
        make_client(cluster) as client,
    ):
        yield client.get_executor


@pytest.fixture
def executor_named(request: pytest.FixtureRequest) -> Callable[[str], Any]:
    from tests.workers.pools import loky_pool, spawn_pool

    def make(name: str) -> Any:
        if name == "dask":
            return request.getfixturevalue("dask_pool")
        return {"spawn": spawn_pool, "loky": loky_pool}.get(name, name)

    return make


@pytest.fixture
def executor(request: pytest.FixtureRequest, executor_named: Callable[[str], Any]) -> Any:
    return executor_named(request.param)
