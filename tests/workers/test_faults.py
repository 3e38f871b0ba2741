"""Trials that fail, hang, eat memory or kill their process: each costs one trial."""

from __future__ import annotations

import asyncio
import multiprocessing.connection
import os
import re
import signal
import struct
import sys
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from crystallize_opt import (
    Failures,
    FrozenContext,
    Status,
    TrialLimits,
)
from crystallize_opt.adapters import OptunaOptimizer, RandomOptimizer
from crystallize_opt.errors import ExecutorBrokenError, TrialsFailedError, UsageError
from crystallize_opt.search.callbacks import TrialTold
from crystallize_opt.workers.workers import Workers
from tests.toy import PlainOptimizer, experiment_of, toy_experiment
from tests.workers.jobs import Meeting, die_or_meet, dying
from tests.workers.pools import LOSS, PROCESSES, grid, loky_pool, spawn_pool, statuses

# What a dying trial costs ---------------------------------------------------------------------

# How a trial dies -> its status, and what its error says.
CAUSES: dict[str, tuple[Status, str]] = {
    "exception": (Status.FAILED, "ValueError: boom"),
    "unpicklable exception": (Status.FAILED, "CannotUnpickleError: cannot be unpickled"),
    "exit": (Status.FAILED, "SystemExit: 3"),
    "nan": (Status.INVALID, "is nan"),
    "inf": (Status.INVALID, "is inf"),
    "none": (Status.INVALID, "was not recorded as a number"),
    "missing": (Status.INVALID, "was not recorded as a number"),
    "wrong type": (Status.INVALID, "was not recorded as a number"),
    "unpicklable result": (Status.INVALID, "was not recorded as a number"),
    "memory error": (Status.OUT_OF_MEMORY, "MemoryError: too much"),
    "killed": (Status.WORKER_DIED, "died|SIGKILL"),
    "hang": (Status.TIMED_OUT, "its limit of 1 seconds"),
    "memory": (Status.OUT_OF_MEMORY, "memory limit: .* resident, 400 MB allowed"),
}
# What comes back from a process as numbers or text comes back alike: an exception and a result that
# cannot be pickled stand for the rest there.
ALIKE = ("nan", "inf", "none", "missing", "wrong type", "memory error")
OTHERS = {
    "spawn": ("unpicklable exception", "killed", "hang"),
    "loky": ("killed",),
    "dask": ("unpicklable exception", "killed", "hang"),
}
LIMITS = {"hang": TrialLimits(seconds=1), "memory": TrialLimits(memory="400MB")}
NEED_PROCESSES = ("killed", "hang", "memory")
IN_PROCESS = [death for death in CAUSES if death not in NEED_PROCESSES]


def ax() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Importing Ax gives deprecation warnings.
        from crystallize_opt.adapters import AxOptimizer
    return AxOptimizer({"x": (0.0, 1.0)}, LOSS, seed=1)


def smac() -> Any:
    from crystallize_opt.adapters import SMACOptimizer

    return SMACOptimizer({"x": (0.0, 1.0)}, LOSS, seed=1)


OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "random": lambda: RandomOptimizer({"x": (0.0, 1.0)}, LOSS, seed=1),
    "optuna": lambda: OptunaOptimizer({"x": (0.0, 1.0)}, LOSS, seed=1),
    "ax": ax,
    "smac": smac,
}


def slowly(*values: str) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


def each_death(
    deaths: Iterable[str], fast: Iterable[str], without: str = "", slow: Iterable[str] = ()
) -> pytest.MarkDecorator:
    """Every death on every optimizer; on Ax and SMAC, what is not fast is slow."""
    return pytest.mark.parametrize(
        ("death", "optimizer"),
        [
            slowly(death, name)
            if death in slow or (name in SLOW and death not in fast)
            else (death, name)
            for death in deaths
            for name in OPTIMIZERS
            if name != without
        ],
    )


SLOW = ("ax", "smac")


def running_in_backend(optimizer: Any) -> list[Any]:
    """The trials that the backend does not know the end of."""
    if hasattr(optimizer, "study"):
        return [trial for trial in optimizer.study.trials if not trial.state.is_finished()]
    if hasattr(optimizer, "client"):
        trials = optimizer.client._experiment.trials.values()
        return [trial for trial in trials if not trial.status.is_terminal]
    if hasattr(optimizer, "facade"):
        runs = optimizer.facade.runhistory.items()
        return [key for key, run in runs if run.status.name == "RUNNING"]
    return []


def limits_for(death: str, executor: Any) -> TrialLimits | None:
    """Limits that make the death what it is.

    A Dask worker that dies just after it has started is not always started again, so that trials
    would wait for ever. With any limit, the trial has a process of its own there.
    """
    if death == "killed" and getattr(executor, "__self__", None) is not None:
        return TrialLimits(seconds=300)
    return LIMITS.get(death)


def check_deaths(
    death: str,
    optimizer: Any,
    executor: Any,
    count: int = 2,
    limits: TrialLimits | None = None,
) -> None:
    status, error = CAUSES[death]
    dying(death, below=0.4).optimize(
        optimizer,
        8,
        2,
        workers=Workers(executor, count, limits=limits or LIMITS.get(death)),
        failures=Failures(give_up_after=None),
    )

    observations = optimizer.observations
    assert len(observations) == 8
    assert optimizer.pending == []
    assert running_in_backend(optimizer) == []
    dead = [o for o in observations if o.treatment.params["x"] < 0.4]
    assert dead
    assert {o.status for o in dead} == {status}
    for each in dead:
        assert re.search(error, str(each.error))
        if status is Status.FAILED or death == "memory error":
            assert "Traceback" in str(each.traceback)
            assert "raise_error" in str(each.traceback)
    assert {o.status for o in observations if o not in dead} == {Status.COMPLETED}


@each_death(IN_PROCESS, fast=("exception", "missing", "exit"))
def test_a_dying_trial_costs_one_trial_in_process(death: str, optimizer: str) -> None:
    check_deaths(death, OPTIMIZERS[optimizer](), None, count=1)


@each_death(CAUSES, fast=(), without="random", slow=ALIKE)
def test_a_dying_trial_costs_one_trial(death: str, optimizer: str) -> None:
    check_deaths(death, OPTIMIZERS[optimizer](), "processes")


@pytest.mark.parametrize("death", IN_PROCESS)
def test_a_dying_trial_costs_one_trial_in_threads(death: str) -> None:
    check_deaths(death, OPTIMIZERS["optuna"](), "threads")


@pytest.mark.parametrize(
    ("executor", "death"),
    [
        (executor, death) if death in fast else slowly(executor, death)
        for executor, fast in OTHERS.items()
        for death in CAUSES
    ],
    indirect=["executor"],
)
def test_a_dying_trial_costs_one_trial_on_other_executors(death: str, executor: Any) -> None:
    """A broken pool is rebuilt, and the trials that were in flight with the dead one run again."""
    check_deaths(death, OPTIMIZERS["random"](), executor, limits=limits_for(death, executor))


@pytest.mark.parametrize("death", ["killed", *(slowly(each) for each in ("hang", "memory"))])
@pytest.mark.parametrize(
    "executor", [slowly(name) if name == "loky" else name for name in PROCESSES], indirect=True
)
def test_the_pool_is_as_good_as_before(death: str, executor: Any) -> None:
    """The last two trials wait for each other: there are two workers, as there were before."""
    optimizer = grid([0.0, -1.0, 1.0, 2.0])
    with Meeting(2) as meeting:
        start = {"death": death, "meeting": meeting.address}
        experiment_of(die_or_meet, initial_ctx=start).optimize(
            optimizer, 4, workers=Workers(executor, 2, limits=limits_for(death, executor))
        )

    dead = CAUSES[death][0]
    assert statuses(optimizer) == {
        -1.0: dead, 0.0: dead, 1.0: Status.COMPLETED, 2.0: Status.COMPLETED,
    }  # fmt: skip


def check_ten_failures(death: str, optimizer: Any, executor: Any, count: int) -> None:
    failures = Failures(give_up_after_same=None)
    with pytest.raises(TrialsFailedError, match="Every one of the first 10 trials"):
        dying(death, below=2.0).optimize(
            optimizer, 30, workers=Workers(executor, count), failures=failures
        )

    assert {o.status for o in optimizer.observations} <= {CAUSES[death][0], Status.ABANDONED}
    assert len(optimizer.observations) >= 10
    assert optimizer.pending == []
    assert running_in_backend(optimizer) == []
    assert len(optimizer.ask(3)) == 3


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_after_ten_failures_it_still_suggests(optimizer: str) -> None:
    check_ten_failures("exception", OPTIMIZERS[optimizer](), None, 1)


@pytest.mark.slow  # Ten failures, and a dead worker, are each looked at above.
@pytest.mark.parametrize("optimizer", ["optuna", *SLOW])
def test_after_ten_dead_workers_it_still_suggests(optimizer: str) -> None:
    check_ten_failures("killed", OPTIMIZERS[optimizer](), "processes", 2)


@pytest.mark.parametrize("optimizer", ["optuna", *(slowly(name) for name in SLOW)])
def test_a_region_that_always_fails_is_no_trap(optimizer: str) -> None:
    """It is half of the space, and has the value that would be the best."""
    search = OPTIMIZERS[optimizer]()
    dying("exception", below=0.5).optimize(search, 60, failures=Failures(give_up_after=None))

    assert len(search.observations) == 60
    last = [o.treatment.params["x"] for o in search.observations[-30:]]
    assert sum(x >= 0.5 for x in last) >= 15


@pytest.mark.parametrize(
    "executor", [None, "together", "threads", "processes", "spawn", "dask"], indirect=True
)
def test_a_task_that_a_step_cancels_itself_is_a_failure_of_the_trial(executor: Any) -> None:
    async def step(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        if x == 2.0:
            inner = asyncio.create_task(asyncio.sleep(600))
            inner.cancel()
            await inner
        return data, {"loss": x}

    workers = Workers(None, 2) if executor == "together" else Workers(executor, 1)
    optimizer = grid([1.0, 2.0, 0.0])
    experiment_of(step).optimize(optimizer, 3, workers=workers)

    assert statuses(optimizer) == {
        1.0: Status.COMPLETED, 2.0: Status.FAILED, 0.0: Status.COMPLETED,
    }  # fmt: skip
    assert "CancelledError" in str(optimizer.observations[1].error)


def test_a_worker_that_dies_between_two_trials_costs_nothing() -> None:
    def step(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        return data, {"loss": x, "pid": os.getpid()}

    def kill(event: Any) -> None:
        if isinstance(event, TrialTold) and event.observation["loss"] == 2.0:
            process = psutil.Process(int(event.observation["pid"]))
            process.kill()
            # Not `wait`: the search must find its child as it is.
            while process.status() != psutil.STATUS_ZOMBIE:
                pass

    optimizer = grid([3.0, 2.0, 1.0, 0.0])
    experiment_of(step).optimize(optimizer, 4, workers=1, callbacks=[kill])

    assert {o.status for o in optimizer.observations} == {Status.COMPLETED}
    first, second, third, fourth = (o["pid"] for o in optimizer.observations)
    assert first == second != third == fourth


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal and pipes")
def test_a_worker_that_dies_while_it_sends_its_result_costs_one_trial() -> None:
    def step(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        def send_half(self: Any, message: bytes) -> None:
            size = struct.pack("!i", len(message))
            os.write(self.fileno(), size + bytes(message)[: len(message) // 2])
            os.kill(os.getpid(), signal.SIGKILL)

        if x == 2.0:
            connection: Any = multiprocessing.connection.Connection
            connection._send_bytes = send_half
        return data, {"loss": x}

    optimizer = grid([3.0, 2.0, 1.0, 0.0])
    experiment_of(step).optimize(optimizer, 4, workers=1)

    assert statuses(optimizer) == {
        3.0: Status.COMPLETED, 2.0: Status.WORKER_DIED, 1.0: Status.COMPLETED,
        0.0: Status.COMPLETED,
    }  # fmt: skip


@pytest.mark.parametrize("make", [spawn_pool, loky_pool])
def test_an_executor_given_as_an_object_ends_the_search_when_it_breaks(
    make: Callable[[], Executor],
) -> None:
    optimizer = grid([3.0, 2.0, 0.0, 1.0])
    advice = r"workers=Workers\(lambda: "
    with make() as executor, pytest.raises(ExecutorBrokenError, match=advice) as error:
        dying("killed").optimize(optimizer, 4, workers=Workers(executor, 1))

    assert statuses(optimizer) == {
        3.0: Status.COMPLETED, 2.0: Status.COMPLETED, 0.0: Status.WORKER_DIED,
    }  # fmt: skip
    assert optimizer.pending == []
    assert error.value.best is optimizer.get_best_treatment()


def test_a_dask_executor_given_as_an_object_does_not_break(dask_pool: Any) -> None:
    """The one test that kills a worker of Dask's itself; see `limits_for`."""
    optimizer = grid([3.0, 0.0, 1.0, 2.0])
    with dask_pool() as executor:
        dying("killed").optimize(optimizer, 4, workers=Workers(executor, 2))

    assert statuses(optimizer) == {
        3.0: Status.COMPLETED, 0.0: Status.WORKER_DIED, 1.0: Status.COMPLETED,
        2.0: Status.COMPLETED,
    }  # fmt: skip


class Cancelling(ThreadPoolExecutor):
    """Cancels the first time, as Dask does when it loses a worker."""

    def __init__(self) -> None:
        super().__init__(2)
        self.cancelled = 0

    def submit(self, function: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
        if self.cancelled < 2:
            self.cancelled += 1
            future: Future[Any] = Future()
            future.cancel()
            future.set_running_or_notify_cancel()
            return future
        return super().submit(function, *arguments, **named)


def test_trials_that_the_executor_cancels_run_again() -> None:
    optimizer = grid([3.0, 1.0, 2.0])
    with Cancelling() as executor:
        dying("exception").optimize(optimizer, 3, workers=Workers(executor, 2))

    assert set(statuses(optimizer).values()) == {Status.COMPLETED}


class Breaking:
    """Breaks with the trials whose number among all that were submitted is given.

    The future of such a trial waits. The trial before which the executor is found broken is not
    taken, and then every waiting future hears of it, as those of `ProcessPoolExecutor` do.
    """

    submitted = 0

    def __init__(self, break_with: set[int], found_at: int) -> None:
        self._break_with, self._found_at = break_with, found_at
        self._waiting: list[Future[Any]] = []

    def submit(self, function: Any, /, *arguments: Any) -> Future[Any]:
        number = Breaking.submitted
        Breaking.submitted += 1
        assert number < 20, "trials are sent again and again"
        if number in self._break_with:
            self._waiting.append(Future())
        if number >= self._found_at:
            for waiting in self._waiting:
                if not waiting.done():
                    waiting.set_exception(BrokenExecutor())
        if number in self._break_with:
            return self._waiting[-1]
        if self._waiting:
            raise BrokenExecutor
        future: Future[Any] = Future()
        future.set_result(function(*arguments))
        return future

    def shutdown(self, *, wait: bool) -> None:
        pass


def test_an_executor_that_breaks_while_waiting_trials_are_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The trials 1 and 2 are lost together, and run again alone. Then 3 breaks the next executor.

    Three others were waiting to be sent by then: 4 meets the broken executor.
    """
    monkeypatch.setattr(Breaking, "submitted", 0)
    executors = iter([Breaking({1, 2}, 2), Breaking({5}, 6), Breaking(set(), 0)])
    optimizer = grid([float(value) for value in range(1, 8)])

    dying("exception", below=0.0).optimize(
        optimizer, 7, workers=Workers(lambda: next(executors), 3)
    )

    found = {round(x) - 1: status for x, status in statuses(optimizer).items()}
    assert found == {**dict.fromkeys(range(7), Status.COMPLETED), 3: Status.WORKER_DIED}


def test_an_executor_given_as_an_object_is_not_shut_down() -> None:
    with ThreadPoolExecutor(1) as executor:
        toy_experiment().optimize(PlainOptimizer([1.0]), 1, workers=Workers(executor, 1))
        assert executor.submit(int, "7").result() == 7


def test_an_executor_made_for_the_search_is_shut_down() -> None:
    made: list[ThreadPoolExecutor] = []

    def make() -> Executor:
        made.append(ThreadPoolExecutor(1))
        return made[-1]

    toy_experiment().optimize(PlainOptimizer([1.0]), 1, workers=Workers(make, 1))

    with pytest.raises(RuntimeError, match="after shutdown"):
        made[0].submit(int)


class Duck:
    """An executor by its methods only, as those of mpi4py and ipyparallel are."""

    def submit(self, function: Any, /, *arguments: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(*arguments))
        return future


def test_an_executor_is_known_by_its_submit() -> None:
    optimizer = grid([1.0, 0.0])
    check: Any = Duck()

    assert dying("exception").optimize(optimizer, 2, workers=Workers(check, 1)).params == {"x": 1.0}
    assert statuses(optimizer) == {1.0: Status.COMPLETED, 0.0: Status.FAILED}


# Limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", [None, "threads", lambda: ThreadPoolExecutor(1)])
@pytest.mark.parametrize("limits", [TrialLimits(seconds=1), TrialLimits(memory="1GB")], ids=repr)
def test_limits_that_cannot_be_enforced_are_refused(executor: Any, limits: TrialLimits) -> None:
    optimizer = grid([1.0])
    with pytest.raises(UsageError, match=r'cannot be enforced.*Workers\("processes"'):
        dying("nan").optimize(optimizer, 1, workers=Workers(executor, 1, limits=limits))

    assert optimizer.observations == []


@pytest.mark.parametrize("executor", [None, "threads", "processes"])
def test_a_failed_trial_is_retried(executor: Any, tmp_path: Path) -> None:
    marks = str(tmp_path)

    def fail_twice(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        tries = len(list(Path(marks).iterdir()))
        Path(marks, str(tries)).touch()
        if tries < 2:
            raise ValueError("boom")
        return data, {"loss": x}

    optimizer = grid([1.0])
    experiment_of(fail_twice).optimize(
        optimizer, 1, workers=Workers(executor, 1), failures=Failures(retries=2)
    )

    assert statuses(optimizer) == {1.0: Status.COMPLETED}
    assert len(optimizer.observations[0].replicates) == 1


@pytest.mark.parametrize(
    ("memory", "size"),
    [("2GB", 2 * 10**9), ("2 GiB", 2**31), ("0.5kb", 500), ("100", 100), (4096, 4096)],
)
def test_memory_is_a_number_of_bytes_or_a_text(memory: Any, size: int) -> None:
    assert TrialLimits(memory=memory).memory_bytes == size


@pytest.mark.parametrize(
    "arguments",
    [
        {"seconds": 0}, {"seconds": "1"}, {"seconds": float("nan")}, {"seconds": True},
        {"memory": "2 cats"}, {"memory": 0}, {"memory": "GB"}, {"memory": True},
    ],
)  # fmt: skip
def test_limits_that_make_no_sense_are_refused(arguments: Any) -> None:
    (name,) = arguments
    with pytest.raises(UsageError, match=f"TrialLimits: {name} is"):
        TrialLimits(**arguments)
