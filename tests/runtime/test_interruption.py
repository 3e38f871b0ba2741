"""Ctrl-C and SIGTERM."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from crystallize_opt import (
    Experiment,
    FrozenContext,
    Search,
    Status,
    Treatment,
    Workers,
)
from crystallize_opt.adapters import GridOptimizer
from tests.toy import experiment_of
from tests.workers.jobs import DEATHS
from tests.workers.pools import LOSS, grid, statuses

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
        def ask(self, n: int = 1) -> list[Treatment]:
            if self.observations:
                send_both_signals(os.getpid())
                threading.Event().wait()
            return super().ask(n)

    def step(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        return data, {"loss": x}

    optimizer = Endless({"x": [1, 2]}, LOSS)
    search = Search(experiment_of(step), optimizer, 2)

    assert search.run().params == {"x": 1.0}
    assert optimizer.pending == []
    assert "interrupted by SIG" in str(search.stop_reason)


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
