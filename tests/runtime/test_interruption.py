"""Ctrl-C and SIGTERM."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from crystallize_opt import (
    Experiment,
    FrozenContext,
    History,
    Pipeline,
    PipelineStep,
    Search,
    Status,
    Treatment,
    Workers,
)
from crystallize_opt.adapters import GridOptimizer
from tests.toy import PlainOptimizer, experiment_of, numbers
from tests.workers.jobs import DEATHS
from tests.workers.pools import LOSS, grid, statuses

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")

# Ctrl-C and SIGTERM ---------------------------------------------------------------------------


@pytest.fixture
def fresh_handlers() -> Iterator[None]:
    """The signal handlers of a fresh interpreter, which are there again afterwards."""
    fresh: dict[signal.Signals, Any] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
    }
    before = {each: signal.signal(each, handler) for each, handler in fresh.items()}
    yield
    assert {each: signal.getsignal(each) for each in fresh} == fresh
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("executor", [None, "threads", "processes"])
def test_a_signal_ends_the_search_in_good_order(
    executor: Any, number: signal.Signals, fresh_handlers: None
) -> None:
    driver = os.getpid()

    def step(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        if x == 2.0:
            os.kill(driver, number)
        return data, {"loss": x}

    optimizer = grid([1.0, 2.0, 0.0, 3.0, 4.0, 5.0])
    search = Search(experiment_of(step), optimizer, 6, workers=Workers(executor, 1))
    best = search.run()

    assert best.params == {"x": 1.0}
    second = Status.COMPLETED if executor else Status.ABANDONED
    assert statuses(optimizer) == {1.0: Status.COMPLETED, 2.0: second}
    assert optimizer.pending == []
    assert search.stop_reason == f"interrupted by {number.name}"


@pytest.fixture
def signals_reach_another_thread() -> Iterator[None]:
    """Python runs its handlers in the main thread, which the system then lets sleep on."""
    both, end = {signal.SIGINT, signal.SIGTERM}, threading.Event()
    other = threading.Thread(target=end.wait)  # takes the signals; all later threads block them
    other.start()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, both)
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    end.set()
    other.join()


def send_both_signals(to: int) -> None:
    """Interrupt a process twice; one signal, sent twice, might be delivered once."""
    os.kill(to, signal.SIGINT)
    os.kill(to, signal.SIGTERM)


def hang_when_two(driver: int) -> Callable[..., Any]:
    def step(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        if x == 2.0:
            send_both_signals(driver)
            DEATHS["hang"]()
        return data, {"loss": x}

    return step


def check_interrupted_twice(experiment: Experiment, executor: Any) -> None:
    optimizer = grid([1.0, 2.0, 0.0])
    search = Search(experiment, optimizer, 3, workers=Workers(executor, 1))
    best = search.run()

    assert best.params == {"x": 1.0}
    assert statuses(optimizer) == {1.0: Status.COMPLETED, 2.0: Status.ABANDONED}
    assert optimizer.pending == []
    # The handler of the one may be interrupted by the other.
    assert search.stop_reason in ("interrupted by SIGINT", "interrupted by SIGTERM")


@pytest.mark.parametrize("executor", ["processes", "spawn"], indirect=True)
def test_a_second_signal_ends_what_runs(executor: Any, fresh_handlers: None) -> None:
    """The trial ignores SIGTERM, and would hang for ever."""
    check_interrupted_twice(experiment_of(hang_when_two(os.getpid())), executor)


def test_signals_are_seen_that_interrupt_another_thread(
    fresh_handlers: None, signals_reach_another_thread: None
) -> None:
    check_interrupted_twice(experiment_of(hang_when_two(os.getpid())), "processes")


def test_a_second_signal_does_not_wait_for_threads(fresh_handlers: None) -> None:
    """They cannot be ended: what they return later is not looked at."""
    driver, end = os.getpid(), threading.Event()

    def step(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        if x == 2.0:
            send_both_signals(driver)
            assert end.wait(60)
        return data, {"loss": x}

    try:
        check_interrupted_twice(experiment_of(step), "threads")
    finally:
        end.set()


def test_a_second_signal_ends_an_ask(fresh_handlers: None) -> None:
    class Endless(GridOptimizer):
        def ask(self, n: int = 1, *, ttl: float | None = None) -> list[Treatment]:
            if self.observations:
                send_both_signals(os.getpid())
                threading.Event().wait()
            return super().ask(n, ttl=ttl)

    def step(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        return data, {"loss": x}

    optimizer = Endless({"x": [1, 2]}, LOSS)
    search = Search(experiment_of(step), optimizer, 2)

    assert search.run().params == {"x": 1.0}
    assert optimizer.pending == []
    assert "interrupted by SIG" in str(search.stop_reason)


class Interrupted(PlainOptimizer):
    """A signal comes while it is asked, or told; it suggests as many trials at once as wanted."""

    def __init__(self, where: str, at_once: int) -> None:
        super().__init__([1.0, 2.0, 3.0, 4.0], LOSS, "x")
        self.where, self.at_once, self.asked = where, at_once, 0

    def ask(self) -> list[Treatment]:
        first, self.asked = self.asked, self.asked + self.at_once
        if self.where == "ask" and first:
            os.kill(os.getpid(), signal.SIGINT)
        return self.treatments[first : self.asked]

    def tell(self, objective_values: Any) -> None:
        super().tell(objective_values)
        if self.where == "tell" and len(self.told) == 1:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(("where", "at_once"), [("ask", 1), ("tell", 1), ("tell", 4)])
@pytest.mark.parametrize("workers", [None, Workers("threads", 1)])
def test_after_a_signal_between_two_trials_no_trial_starts(
    where: str, at_once: int, workers: Any, fresh_handlers: None, tmp_path: Path
) -> None:
    ran: list[float] = []

    def step(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        ran.append(x)
        return data, {"loss": x}

    search = Search(
        experiment_of(step),
        Interrupted(where, at_once),
        4,
        workers=workers,
        storage=tmp_path / "runs.db",
    )
    assert search.run().params == {"x": 1.0}

    assert ran == [1.0]
    assert search.stop_reason == "interrupted by SIGINT"
    pending = [each.params["x"] for each in History.load(tmp_path / "runs.db").pending]
    assert pending == [2.0, 3.0, 4.0][: at_once - (where == "tell")]


def test_after_a_signal_in_the_set_up_no_baseline_starts(fresh_handlers: None) -> None:
    calls: list[str] = []

    class Step(PipelineStep):
        def setup(self, ctx: FrozenContext) -> None:
            os.kill(os.getpid(), signal.SIGINT)

        def __call__(self, data: Any, ctx: FrozenContext) -> Any:
            calls.append(ctx["condition"])
            return data, {"loss": ctx["x"]}

    search = Search(
        Experiment(numbers(), Pipeline([Step()])),
        grid([1.0, 2.0]),
        2,
        baseline=Treatment("default", {"x": 0.0}),
    )
    with pytest.raises(KeyboardInterrupt):
        search.run()

    assert calls == []
    assert search.stop_reason == "interrupted by SIGINT"


@pytest.mark.parametrize("signals", [1, 2])
def test_a_signal_in_a_replay_ends_the_search(
    signals: int, fresh_handlers: None, tmp_path: Path
) -> None:
    """After the first one, the optimizer is told all that is known; the second ends that, too."""
    calls: list[Any] = []

    class Slow(GridOptimizer):
        def ask(self, n: int = 1, *, ttl: float | None = None) -> list[Treatment]:
            if calls == ["resumed"]:
                calls.append("replay")
                for number in (signal.SIGINT, signal.SIGTERM)[:signals]:
                    os.kill(os.getpid(), number)
            return super().ask(n, ttl=ttl)

    def step(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        calls.append(x)
        if x == 2.0 and "resumed" not in calls:
            raise KeyboardInterrupt  # The trial stays pending.
        return data, {"loss": x}

    def search() -> Treatment:
        optimizer = Slow({"x": [1.0, 2.0, 3.0]}, LOSS)
        storage = tmp_path / "runs.db"
        return Search(experiment_of(step), optimizer, 3, storage=storage).run()

    assert search().params == {"x": 1.0}
    calls[:] = ["resumed"]
    if signals == 1:
        assert search().params == {"x": 1.0}
    else:
        with pytest.raises(KeyboardInterrupt):
            search()
    assert calls == ["resumed", "replay"]
    calls[:] = ["resumed", "replay"]
    assert search().params == {"x": 1.0}
    assert calls == ["resumed", "replay", 2.0, 3.0]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("in_a_running_loop", [False, True])
def test_a_signal_ends_asynchronous_trials(
    count: int, in_a_running_loop: bool, fresh_handlers: None
) -> None:
    driver = os.getpid()

    async def step(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        if x == 1.0:
            return data, {"loss": x}
        os.kill(driver, signal.SIGTERM)
        return await asyncio.Event().wait()

    optimizer = grid([1.0, 2.0, 0.0])
    search = Search(experiment_of(step), optimizer, 3, workers=Workers(None, count))

    async def main() -> Treatment:
        return search.run()

    best = asyncio.run(main()) if in_a_running_loop else search.run()

    assert best.params == {"x": 1.0}
    assert {o.status for o in optimizer.observations[1:]} == {Status.ABANDONED}
    assert optimizer.pending == []
    assert search.stop_reason == "interrupted by SIGTERM"


# A step that swallows the interruption ---------------------------------------------------------


def swallow(data: Any, ctx: FrozenContext, *, x: float) -> Any:
    """As a trainer does that ends at Ctrl-C with what it has."""
    try:
        if x == 2.0 and ctx["replicate"] == 0:
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait()
    except KeyboardInterrupt:
        pass
    return data, {"loss": x}


def convert(data: Any, ctx: FrozenContext, *, x: float) -> Any:
    try:
        if x == 2.0 and ctx["replicate"] == 0:
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait()
    except KeyboardInterrupt as error:
        raise RuntimeError("stopped by the user") from error
    return data, {"loss": x}


def nested(data: Any, ctx: FrozenContext, *, x: float) -> Any:
    """A search within the step returns its best so far when it is interrupted."""
    if x == 2.0 and ctx["replicate"] == 0:
        experiment_of(swallow).optimize(grid([1.0, 2.0, 3.0]), 3, progress=False)
    return data, {"loss": x}


async def swallow_cancellation(data: Any, ctx: FrozenContext, *, x: float) -> Any:
    try:
        if x == 2.0 and ctx["replicate"] == 0:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.Event().wait()
    except asyncio.CancelledError:
        pass
    return data, {"loss": x}


@pytest.mark.parametrize("step", [swallow, convert, nested, swallow_cancellation])
def test_a_step_that_swallows_the_signal_has_not_completed(
    step: Any, fresh_handlers: None, tmp_path: Path
) -> None:
    """It is abandoned: pending in the run, so that it runs again when the run is resumed."""
    optimizer = grid([1.0, 2.0, 0.0])
    search = Search(experiment_of(step), optimizer, 3, 2, storage=tmp_path / "runs.db")
    assert search.run().params == {"x": 1.0}
    assert statuses(optimizer) == {1.0: Status.COMPLETED, 2.0: Status.ABANDONED}

    history = History.load(tmp_path / "runs.db")
    assert [o.treatment.name for o in history] == ["trial_0"]
    assert [t.name for t in history.pending] == ["trial_1"]


@pytest.mark.parametrize("count", [1, 2])
def test_a_step_that_swallows_its_cancellation_has_not_completed(count: int) -> None:
    """`aoptimize` is cancelled: by a time limit, or by Ctrl-C within `asyncio.run`."""
    waits = asyncio.Event()

    async def step(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        try:
            if x == 2.0:
                waits.set()
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
        return data, {"loss": x}

    optimizer = grid([1.0, 2.0])

    async def main() -> None:
        workers = Workers(None, count)
        search = asyncio.create_task(experiment_of(step).aoptimize(optimizer, 2, workers=workers))
        await waits.wait()
        search.cancel()
        with pytest.raises(asyncio.CancelledError):
            await search

    asyncio.run(main())

    assert statuses(optimizer)[2.0] is Status.ABANDONED
    assert optimizer.pending == []


async def fail_in_a_group(data: Any, ctx: FrozenContext, *, x: float) -> Any:
    async def child() -> None:
        await asyncio.sleep(0)
        if x != 1.0:
            raise ValueError("boom")

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(child())
    except* ValueError:
        if x == 2.0:
            raise
    return data, {"loss": x}


async def cancel_itself(data: Any, ctx: FrozenContext, *, x: float) -> Any:
    task = asyncio.current_task()
    if x == 2.0 and task is not None:
        task.cancel()
    await asyncio.sleep(0)
    return data, {"loss": x}


async def exit_at_once(data: Any, ctx: FrozenContext, *, x: float) -> Any:
    if x == 2.0:
        raise SystemExit(3)
    return data, {"loss": x}


class PanicException(BaseException):
    """As `pyo3_runtime.PanicException`, the error of a library in Rust."""


async def panic(data: Any, ctx: FrozenContext, *, x: float) -> Any:
    if x == 2.0:
        raise PanicException("index out of bounds")
    return data, {"loss": x}


async def panic_in_a_group(data: Any, ctx: FrozenContext, *, x: float) -> Any:
    if x == 2.0:
        raise BaseExceptionGroup("a nursery", [PanicException(), SystemExit(3)])
    return data, {"loss": x}


@pytest.mark.parametrize(
    "step", [fail_in_a_group, cancel_itself, exit_at_once, panic, panic_in_a_group]
)
@pytest.mark.parametrize("door", [None, "threads", Workers(None, 2), "aoptimize"])
def test_what_a_step_cancels_itself_is_no_interruption(step: Any, door: Any) -> None:
    """Before Python 3.13, a task group that fails leaves a cancellation in the task around it."""
    optimizer = grid([1.0, 2.0, 3.0])
    experiment = experiment_of(step)
    if door == "aoptimize":
        asyncio.run(experiment.aoptimize(optimizer, 3))
    else:
        experiment.optimize(optimizer, 3, workers=door)

    assert statuses(optimizer) == {
        1.0: Status.COMPLETED, 2.0: Status.FAILED, 3.0: Status.COMPLETED,
    }  # fmt: skip


def raise_an_interruption(data: Any, ctx: FrozenContext, *, x: float) -> Any:
    """As a library that gives up what it does in this way."""
    if x == 2.0:
        raise KeyboardInterrupt
    return data, {"loss": x}


async def raise_an_interruption_in_a_group(data: Any, ctx: FrozenContext, *, x: float) -> Any:
    if x == 2.0:
        raise BaseExceptionGroup("a nursery", [KeyboardInterrupt()])
    return data, {"loss": x}


async def raise_an_interruption_later(data: Any, ctx: FrozenContext, *, x: float) -> Any:
    await asyncio.sleep(0)
    return raise_an_interruption(data, ctx, x=x)


@pytest.mark.parametrize("executor", ["threads", "processes", "spawn"], indirect=True)
def test_an_interruption_that_a_trial_raises_elsewhere_is_its_failure(
    executor: Any, tmp_path: Path
) -> None:
    """No signal reaches the trials there."""
    optimizer = grid([1.0, 2.0, 0.0])
    search = Search(
        experiment_of(raise_an_interruption),
        optimizer,
        3,
        workers=Workers(executor, 1),
        storage=tmp_path / "runs.db",
    )
    assert search.run().params == {"x": 0.0}
    assert statuses(optimizer) == {
        1.0: Status.COMPLETED, 2.0: Status.FAILED, 0.0: Status.COMPLETED,
    }  # fmt: skip
    assert search.stop_reason == "3 trials have been run"


@pytest.mark.parametrize(
    ("step", "workers"),
    [
        (raise_an_interruption, None),
        (raise_an_interruption_later, None),
        (raise_an_interruption_later, Workers(None, 2)),
    ],
)
def test_an_interruption_that_a_trial_raises_here_ends_the_search(
    step: Any, workers: Any, tmp_path: Path
) -> None:
    """Python raises it in the same way for Ctrl-C, where the program handles signals itself."""
    optimizer = grid([1.0, 2.0, 0.0, 3.0, 4.0])
    storage = tmp_path / "runs.db"
    search = Search(experiment_of(step), optimizer, 5, workers=workers, storage=storage)
    assert search.run().params == {"x": 1.0}

    assert statuses(optimizer) == {1.0: Status.COMPLETED, 2.0: Status.ABANDONED}
    assert search.stop_reason == "interrupted by SIGINT"
    assert [t.name for t in History.load(storage).pending] == ["trial_1"]


def test_an_interruption_in_a_group_ends_the_run() -> None:
    with pytest.raises(BaseExceptionGroup, match="a nursery"):
        experiment_of(raise_an_interruption_in_a_group).run(treatments=[Treatment("t", {"x": 2.0})])


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_a_trial_that_fails_after_the_signal_may_have_failed_because_of_it(
    executor: str, fresh_handlers: None
) -> None:
    """In a terminal, Ctrl-C also reaches the processes that a step has started."""
    driver = os.getpid()

    def step(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        if x == 2.0:
            os.kill(driver, signal.SIGINT)
            raise RuntimeError("a data loader was interrupted")
        return data, {"loss": x}

    optimizer = grid([1.0, 2.0, 0.0])
    experiment_of(step).optimize(optimizer, 3, workers=Workers(executor, 1))

    assert statuses(optimizer) == {1.0: Status.COMPLETED, 2.0: Status.ABANDONED}
    assert "a data loader was interrupted" in str(optimizer.observations[-1].error)


# Handlers belong to the process that installed them --------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("executor", [None, "threads", "processes", "spawn"], indirect=True)
def test_a_child_that_a_step_forks_has_no_handlers_of_the_search(
    executor: Any, fresh_handlers: None
) -> None:
    def step(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        context = multiprocessing.get_context("fork")
        child = context.Process(target=signal.pause)
        child.start()
        child.terminate()
        child.join(60)
        code = child.exitcode
        child.kill()
        return data, {"loss": code}

    optimizer = grid([1.0])
    experiment_of(step).optimize(optimizer, 1, workers=Workers(executor, 1))

    assert optimizer.observations[0]["loss"] == -signal.SIGTERM


@pytest.mark.parametrize("executor", [None, "threads", "processes", "spawn"], indirect=True)
def test_a_program_that_a_step_starts_hears_signals(executor: Any, fresh_handlers: None) -> None:
    def step(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        codes = []
        for number in (signal.SIGINT, signal.SIGTERM):
            program = subprocess.Popen(["sleep", "600"])  # noqa: S607
            program.send_signal(number)
            codes.append(program.wait())
        return data, {"loss": codes[0], "second": codes[1]}

    optimizer = grid([1.0])
    experiment_of(step).optimize(optimizer, 1, workers=Workers(executor, 1))

    assert dict(optimizer.observations[0]) == {"loss": -signal.SIGINT, "second": -signal.SIGTERM}
