"""In the body of a loop over a search, the caller's random numbers and signal handlers apply."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from crystallize_opt import FrozenContext, Search, Status, Workers
from tests.search.ways import VALUES, WAYS, each_place, each_way, somewhere
from tests.toy import experiment_of
from tests.workers.pools import grid


@each_way
@each_place
def test_random_numbers_in_the_loops_body_are_the_callers(
    way: str, in_a_running_loop: bool
) -> None:
    step, workers = WAYS[way]
    if isinstance(workers, Workers) and workers.kind == "threads":
        workers = Workers("threads", 1)  # With several, other trials may be drawing.
    random.seed(1)
    np.random.seed(2)
    expected = [(random.random(), np.random.random()) for _ in range(6)]
    random.seed(1)
    np.random.seed(2)
    drawn: list[Any] = []

    def work() -> None:
        search = Search(experiment_of(step, seed=0), grid(VALUES), 5, workers=workers)
        drawn.extend((random.random(), np.random.random()) for _ in search)

    somewhere(work, in_a_running_loop)
    drawn.append((random.random(), np.random.random()))

    assert drawn == expected


# On Windows `os.kill` ends the process.
POSIX_SIGNALS = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")


@pytest.fixture
def fresh_handlers() -> Iterator[None]:
    fresh: dict[signal.Signals, Any] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
    }
    before = {each: signal.signal(each, handler) for each, handler in fresh.items()}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


@POSIX_SIGNALS
@each_way
def test_signal_handlers_in_the_loops_body_are_the_callers(way: str, fresh_handlers: None) -> None:
    step, workers = WAYS[way]
    optimizer = grid(VALUES)

    def work() -> None:
        for _ in Search(experiment_of(step), optimizer, 5, workers=workers):
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(60)  # The signal is on its way.

    with pytest.raises(KeyboardInterrupt):
        work()

    assert optimizer.pending == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@POSIX_SIGNALS
def test_an_interrupted_trial_ends_the_loop(fresh_handlers: None) -> None:
    def step(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        if x == 2.0:
            os.kill(os.getpid(), signal.SIGINT)
        return data, {"loss": x}

    search = Search(experiment_of(step), grid(VALUES), 5)
    statuses = [observation.status for observation in search]

    assert statuses == [Status.COMPLETED, Status.COMPLETED, Status.ABANDONED]
    assert search.stop_reason == "interrupted by SIGINT"


@each_place
def test_all_steps_of_a_search_share_one_event_loop(in_a_running_loop: bool) -> None:
    loops = []

    async def step(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        loops.append(asyncio.get_running_loop())
        return data, {"loss": x}

    def work() -> None:
        for _ in Search(experiment_of(step), grid(VALUES), 5):
            pass

    somewhere(work, in_a_running_loop)

    assert len(loops) == 5
    assert len(set(loops)) == 1
    assert loops[0].is_closed()
