"""Settings of the whole suite, and executors."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor
from importlib.util import find_spec
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# The models in the tests are small: more threads cost more than they save, above all on a busy
# machine. Set before numpy or torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("CRYSTALLIZE_OPT_FULL_TRACEBACKS", "1")

# A busy machine is no failure. What else is set (as on CI) stays. Other runs draw other examples:
# 40 a run find what 100 find, some runs later. `--hypothesis-profile=thorough` draws more at once.
settings.register_profile(
    "quick",
    settings(),
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", settings.get_profile("quick"), max_examples=300)
settings.load_profile("quick")


# Tests of a library that is not installed are left out, so that the rest can be run with one extra
# only, or with a Python for which some library has no wheels.
LIBRARIES = (
    *("ax", "baybe", "nevergrad", "optuna", "smac", "torch", "ConfigSpace"),
    *("crystallize", "mlflow", "nbclient", "sigopt", "starlette"),
)
MISSING = {library for library in LIBRARIES if find_spec(library) is None}
NEEDED = {
    "adapters/ax": "ax",
    "adapters/baybe": "baybe",
    "adapters/nevergrad": "nevergrad",
    "adapters/optuna": "optuna",
    "adapters/smac": "smac",
    "service": "sigopt",
    "test_notebook.py": "nbclient",
    "test_original_framework.py": "crystallize",
}
collect_ignore = [path for path, library in NEEDED.items() if library in MISSING]


def pytest_report_header() -> list[str]:
    return [f"not installed: {', '.join(sorted(MISSING))}"] if MISSING else []


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Skip a module that imports what is missing."""
    report = yield
    if report.outcome == "failed":
        for library in MISSING:
            if f"No module named '{library}" in str(report.longrepr):
                report.outcome = "skipped"
                report.longrepr = (report.nodeid, 0, f"Skipped: needs {library}")
    return report


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Spare the garbage collector what stays until the end: a million objects of libraries."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Generator[None, object, object]:
    return (yield from skipped_where_a_library_is_missing())


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup() -> Generator[None, object, object]:
    return (yield from skipped_where_a_library_is_missing())


def skipped_where_a_library_is_missing() -> Generator[None, object, object]:
    try:
        return (yield)
    except ImportError as error:
        if error.name in MISSING:
            pytest.skip(f"needs {error.name}")
        raise


@pytest.fixture(scope="module")
def dask_pool() -> Iterator[Callable[[], Executor]]:
    from tests.workers.pools import dask_cluster

    with dask_cluster(processes=True) as pool:
        yield pool


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
