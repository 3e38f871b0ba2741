"""The group `Workers`: its short forms, and what it refuses."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from crystallize_opt import FrozenContext, TrialLimits
from crystallize_opt.errors import UsageError
from crystallize_opt.workers.workers import Workers
from tests.toy import PlainOptimizer, experiment_of, toy_experiment
from tests.workers.pools import dask_cluster, loky_pool, spawn_pool

cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


class Submitting:
    """An executor by its methods only; its number of workers is unknown."""

    def submit(self, function: Any, /, *arguments: Any) -> Future[Any]:
        raise NotImplementedError


def threads() -> Executor:
    return ThreadPoolExecutor(3)


@pytest.fixture(scope="module")
def dask_pool() -> Iterator[Callable[[], Executor]]:
    with dask_cluster(processes=False) as pool:  # No trial runs on it here.
        yield pool


# Short forms ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("short", "kind", "count"),
    [
        (None, None, 1),
        (1, "processes", 1),
        (4, "processes", 4),
        (np.int64(3), "processes", 3),
        ("threads", "threads", cores),
        ("processes", "processes", cores),
    ],
)
def test_a_short_form_stands_for_a_kind_and_a_count(short: Any, kind: Any, count: int) -> None:
    workers = Workers.of(short)

    assert (workers.kind, workers.count, type(workers.count)) == (kind, count, int)
    assert (workers.batch, workers.limits) == (False, TrialLimits())


def test_workers_stand_for_themselves() -> None:
    workers = Workers("processes", 4, batch=True, limits=TrialLimits(seconds=60))

    assert Workers.of(workers) is workers


@pytest.mark.parametrize(("make", "count"), [(threads, 3), (spawn_pool, 2), (loky_pool, 2)])
def test_a_pool_tells_how_many_workers_it_has(make: Callable[[], Executor], count: int) -> None:
    with make() as pool:
        assert (Workers.of(pool).kind, Workers.of(pool).count) == (pool, count)
        assert Workers(pool, 1).count == 1


def test_dask_tells_how_many_threads_its_workers_have(dask_pool: Any) -> None:
    with dask_pool() as executor:
        assert Workers.of(executor).count == 2
    assert Workers.of(dask_pool).count == 2


@pytest.mark.parametrize(
    ("kind", "here"),
    [
        (None, True),
        ("threads", True),
        (threads, True),
        ("processes", False),
        (spawn_pool, False),
        (Submitting(), False),
    ],
)
def test_the_steps_are_set_up_where_the_trials_run(kind: Any, here: bool) -> None:
    assert Workers(kind, 1).in_this_process is here


def test_a_function_is_called_once_for_a_search() -> None:
    made: list[Executor] = []

    def make() -> Executor:
        made.append(ThreadPoolExecutor(1))
        return made[-1]

    workers = Workers(make, 1)
    for _ in range(2):
        toy_experiment().optimize(PlainOptimizer([1.0]), 1, workers=workers)

    assert len(made) == 2
    assert made[0] is not made[1]


def test_workers_are_compared_and_shown_by_what_was_given() -> None:
    assert Workers("threads", 2) == Workers("threads", 2) != Workers("threads", 3)
    assert repr(Workers("threads", 2)) == (
        "Workers(kind='threads', count=2, batch=False, "
        "limits=TrialLimits(seconds=None, memory=None), ask_ahead=False)"
    )
    with pytest.raises(AttributeError):
        Workers("threads", 2).count = 3  # type: ignore[misc]


def test_workers_alone_import_no_library() -> None:
    code = (
        "import sys; from crystallize_opt.workers.workers import Workers\n"
        "Workers.of(None), Workers.of(4), Workers('threads', 2)\n"
        "print({'cloudpickle', 'loky', 'psutil', 'asyncio'} & sys.modules.keys())"
    )
    shown = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert shown.stdout.strip() == "set()"


# Refusals: what was given, what is allowed, what to do ------------------------------------------


@pytest.mark.parametrize("short", ["cluster", "", b"threads", 1.5, object(), ["threads"]])
def test_a_short_form_of_nothing_is_refused(short: Any) -> None:
    with pytest.raises(UsageError) as error:
        Workers.of(short)

    assert f", not {short!r}." in str(error.value)
    assert "takes None, a number of processes (4), 'threads', 'processes'" in str(error.value)
    assert "Workers('threads', 8)" in str(error.value)


@pytest.mark.parametrize("short", [0, -1, True, False])
def test_a_number_of_processes_is_at_least_one(short: Any) -> None:
    with pytest.raises(UsageError, match=rf"workers= is a whole number, at least 1, not {short}"):
        Workers.of(short)


@pytest.mark.parametrize("kind", ["cluster", 4, b"threads", 1.5])
def test_a_kind_that_does_not_exist_is_refused(kind: Any) -> None:
    with pytest.raises(UsageError) as error:
        Workers(kind, 2)

    assert f"not {kind!r}. For four processes, write Workers('processes', 4)." in str(error.value)
    assert "kind is None, 'threads', 'processes', a concurrent.futures.Executor" in str(error.value)


@pytest.mark.parametrize("count", [0, -1, 1.5, "4", True])
def test_a_count_is_a_whole_number(count: Any) -> None:
    with pytest.raises(
        UsageError, match=f"Workers: count is a whole number, at least 1, not {count!r}"
    ):
        Workers("threads", count)


def test_an_executor_that_does_not_tell_needs_a_count() -> None:
    with pytest.raises(UsageError) as error:
        Workers.of(Submitting())

    assert "Submitting needs a count, because its number of workers is unknown" in str(error.value)
    assert "workers=Workers(Submitting, 8)" in str(error.value)
    assert Workers(Submitting(), 8).count == 8


@pytest.mark.parametrize(
    ("make", "name"),
    [(threads, "threads"), (lambda: ThreadPoolExecutor(3), "function"), (Submitting, "Submitting")],
)
def test_a_function_needs_a_count(make: Any, name: str) -> None:
    with pytest.raises(UsageError, match=rf"{name} needs a count.*workers=Workers\({name}, 8\)"):
        Workers.of(make)

    assert Workers(make, 8).count == 8


def test_a_dask_client_is_no_executor(dask_pool: Any) -> None:
    with pytest.raises(UsageError, match=r"is a Dask client.*workers=client\.get_executor"):
        Workers.of(dask_pool.__self__)


def test_batch_is_true_or_false() -> None:
    with pytest.raises(UsageError, match="batch is True or False, not 2"):
        Workers("threads", 2, batch=2)  # type: ignore[arg-type]


@pytest.mark.parametrize("limits", [60, {"seconds": 60}, TrialLimits])
def test_limits_are_trial_limits(limits: Any) -> None:
    message = (
        "limits takes TrialLimits(...), as in TrialLimits(seconds=60, memory='2GB'), "
        f"not {limits!r}"
    )
    with pytest.raises(UsageError, match=re.escape(message)):
        Workers("processes", 2, limits=limits)


@pytest.mark.parametrize("limits", [TrialLimits(seconds=1), TrialLimits(memory="1GB")], ids=repr)
@pytest.mark.parametrize(
    ("kind", "where"),
    [(None, "this process"), ("threads", "threads"), (ThreadPoolExecutor(1), "threads")],
)
def test_limits_need_processes(kind: Any, where: str, limits: TrialLimits) -> None:
    with pytest.raises(UsageError) as error:
        Workers(kind, 1, limits=limits)

    assert f"{limits!r} cannot be enforced in {where}" in str(error.value)
    assert 'Use Workers("processes", limits=...)' in str(error.value)


def test_several_trials_in_this_process_need_asynchronous_steps() -> None:
    def waits(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        return data, {"loss": x}

    async def goes_on(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        return data, {"loss": x}

    with pytest.raises(UsageError) as error:
        Workers(None, 3).check(experiment_of(waits))

    assert "Workers(None, 3) runs trials side by side" in str(error.value)
    assert 'workers=3 (processes) or workers=Workers("threads", 3)' in str(error.value)
    Workers(None, 3).check(experiment_of(goes_on))
    Workers(None, 1).check(experiment_of(waits))
    Workers("threads", 3).check(experiment_of(waits))


def test_the_class_is_no_function_that_makes_an_executor() -> None:
    for build in (Workers.of, Workers, lambda kind: Workers(kind, 8)):
        with pytest.raises(UsageError, match=r"or a function that makes one.* not <class"):
            build(Workers)
