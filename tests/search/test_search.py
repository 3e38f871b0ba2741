"""A search driven by hand: `for observation in Search(...)`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
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
    Storage,
    TargetValue,
    Workers,
)
from crystallize_opt.adapters import RandomOptimizer
from crystallize_opt.errors import RunLocked, TrialsFailedError, UsageError
from crystallize_opt.search.callbacks import Event, RunStopped
from tests.recording.killed_runs import exactly
from tests.search.ways import (
    VALUES,
    WAYS,
    Calls,
    each_place,
    each_way,
    record,
    record_asynchronously,
    somewhere,
)
from tests.toy import PlainOptimizer, experiment_of, numbers
from tests.workers.pools import LOSS, grid

# A whole search ---------------------------------------------------------------------------------


@each_way
@each_place
def test_every_observation_comes_once_it_is_told(way: str, in_a_running_loop: bool) -> None:
    step, workers = WAYS[way]
    plugin, optimizer = Calls(), grid(VALUES)
    search = Search(experiment_of(step, plugins=[plugin]), optimizer, 5, workers=workers)
    came: list[float] = []

    def work() -> None:
        for observation in search:
            assert observation is optimizer.observations[len(came)]
            came.append(observation["loss"])
            assert search.best is not None
            assert search.best["loss"] == min(o["loss"] for o in optimizer.observations)

    somewhere(work, in_a_running_loop)

    assert sorted(came) == sorted(VALUES)
    assert search.stop_reason == "5 trials have been run"
    assert list(search.history) == optimizer.observations
    assert plugin.calls == ["before_run", "after_run"]
    assert len(plugin.results[0].metrics.treatments) == 5


def test_the_optimizer_is_asked_again_after_the_loops_body() -> None:
    optimizer = grid(VALUES)
    for number, _ in enumerate(Search(experiment_of(record), optimizer, 5)):
        assert len(optimizer.observations) == number + 1
        assert optimizer.pending == []


def test_by_hand_is_as_by_run() -> None:
    optimizers = [RandomOptimizer({"x": (0.0, 1.0)}, LOSS, seed=1) for _ in range(3)]
    experiment = experiment_of(record, seed=0)
    best = Search(experiment, optimizers[0], 6, 2).run()
    for _ in Search(experiment, optimizers[1], 6, 2):
        pass
    other = asyncio.run(Search(experiment, optimizers[2], 6, 2).arun())

    told = [[exactly(each) for each in optimizer.observations] for optimizer in optimizers]
    assert told[0] == told[1] == told[2]
    assert best.params == other.params


def test_a_plain_optimizer_can_be_driven_by_hand() -> None:
    class Both(PlainOptimizer):
        async def ask(self) -> Any:  # type: ignore[override]
            return self.treatments[len(self.told) : len(self.told) + 2]

    optimizer = Both([2.0, 1.0, 3.0, 0.0], LOSS, "x")
    search = Search(experiment_of(record), optimizer, 4, workers=Workers("threads", 2))
    came = [observation["loss"] for observation in search]

    assert came == [2.0, 1.0, 3.0, 0.0]  # in the order of its asks, whichever ends first
    assert search.best is not None
    assert search.best["loss"] == 0.0
    assert [each["loss"] for each in search.history] == came


def test_a_search_runs_once() -> None:
    search = Search(experiment_of(record), grid(VALUES), 2)
    search.run()

    for again in (search.run, lambda: next(iter(search)), lambda: asyncio.run(search.arun())):
        with pytest.raises(UsageError, match="has already run"):
            again()


def test_a_search_without_a_completed_trial_just_ends() -> None:
    search = Search(experiment_of(record), grid([-1.0, -2.0]), 2)

    assert [observation.status for observation in search] == [Status.FAILED] * 2
    assert search.best is None


def test_errors_reach_the_loop() -> None:
    search = Search(experiment_of(record), grid([1.0, -1.0]), 2, failures="raise")
    observations = iter(search)

    assert next(observations)["loss"] == 1.0
    with pytest.raises(TrialsFailedError, match="boom"):
        next(observations)
    assert "TrialsFailedError" in str(search.stop_reason)


# Leaving early ----------------------------------------------------------------------------------


class Steps(PipelineStep):
    """Records the parameter, and whether it is torn down."""

    def __init__(self) -> None:
        self.torn_down = False

    def __call__(self, data: Any, ctx: FrozenContext) -> Any:
        return data, {"loss": ctx["x"]}

    def teardown(self, ctx: FrozenContext) -> None:
        self.torn_down = True


class AsynchronousSteps(Steps):
    async def __call__(self, data: Any, ctx: FrozenContext) -> Any:
        if ctx["x"] == 1.0:  # It runs while the first trial ends, and the loop is left.
            await asyncio.Event().wait()
        return data, {"loss": ctx["x"]}


def leave_by_break(search: Search) -> None:
    for _ in search:
        break


def leave_by_exception(search: Search) -> None:
    def work() -> None:
        for _ in search:
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        work()


def leave_by_close(search: Search) -> None:
    observations: Any = iter(search)
    next(observations)
    observations.close()


@each_place
@pytest.mark.parametrize("leave", [leave_by_break, leave_by_exception, leave_by_close])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_leaving_the_loop_settles_everything(
    asynchronous: bool, leave: Callable[[Search], None], in_a_running_loop: bool, tmp_path: Path
) -> None:
    path, plugin, optimizer = tmp_path / "runs.db", Calls(), grid(VALUES)
    events: list[Event] = []
    step = AsynchronousSteps() if asynchronous else Steps()
    workers = Workers(None, 2) if asynchronous else None
    experiment = Experiment(numbers(), Pipeline([step]), [plugin], seed=0)
    search = Search(
        experiment, optimizer, 5, workers=workers, storage=path, callbacks=[events.append]
    )

    somewhere(lambda: leave(search), in_a_running_loop)

    statuses = [observation.status for observation in optimizer.observations]
    assert statuses == [Status.COMPLETED, *[Status.ABANDONED] * asynchronous]
    assert optimizer.pending == []
    assert step.torn_down
    assert plugin.calls == ["before_run", "after_run"]
    assert search.stop_reason == "its caller left the loop over the search"
    assert isinstance(events[-1], RunStopped)
    assert events[-1].error is None
    # The journal is closed, and what was given up is pending in it.
    history = History.load(path)
    assert len(history) == 1
    assert [t.name for t in history.pending] == ["trial_1"] * asynchronous
    Search(experiment_of(record), grid(VALUES), 1, storage=Storage(path, resume="attach")).run()


@pytest.mark.parametrize("leave", [leave_by_break, leave_by_exception])
def test_trials_in_threads_are_waited_for(leave: Callable[[Search], None]) -> None:
    """They use the steps, which are torn down only afterwards."""
    began, left, torn_down = threading.Event(), threading.Event(), []

    class Slow(Steps):
        def __call__(self, data: Any, ctx: FrozenContext) -> Any:
            if ctx["x"] == 1.0:
                began.set()
                assert left.wait(60)
                assert not self.torn_down
                torn_down.append(self.torn_down)
            else:
                assert began.wait(60)
            return data, {"loss": ctx["x"]}

    def note(event: Event) -> None:
        if type(event).__name__ == "TrialTold":
            left.set()  # only now the other trial may end

    optimizer = grid(VALUES[:2])
    experiment = Experiment(numbers(), Pipeline([Slow()]))
    leave(Search(experiment, optimizer, 2, workers=Workers("threads", 2), callbacks=[note]))

    assert torn_down == [False]
    assert sorted(o.status for o in optimizer.observations) == [Status.ABANDONED, Status.COMPLETED]
    assert optimizer.pending == []


def test_a_stored_search_continues_after_a_break(tmp_path: Path) -> None:
    def make() -> RandomOptimizer:
        return RandomOptimizer({"x": (0.0, 1.0)}, LOSS, seed=1)

    whole = make()
    Search(experiment_of(record, seed=0), whole, 8, storage=tmp_path / "whole.db").run()
    for count in (1, 3, 2):
        search = Search(experiment_of(record, seed=0), make(), 8, storage=tmp_path / "parts.db")
        for number, _ in enumerate(search, 1):
            if number == count:
                break
    last = make()
    came = list(Search(experiment_of(record, seed=0), last, 8, storage=tmp_path / "parts.db"))

    assert len(came) == 2  # what the searches before have told does not come again
    assert [exactly(o) for o in last.observations] == [exactly(o) for o in whole.observations]


def test_the_run_is_locked_in_the_loops_body(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    for _ in Search(experiment_of(record, seed=0), grid(VALUES), 2, storage=path):
        with pytest.raises(RunLocked):
            Search(experiment_of(record, seed=0), grid(VALUES), 2, storage=path).run()


def test_an_iterator_that_was_not_begun_does_nothing() -> None:
    optimizer, plugin = grid(VALUES), Calls()
    search = Search(experiment_of(record, plugins=[plugin]), optimizer, 5)
    iter(search)

    assert plugin.calls == []
    assert search.run().params == {"x": 0.0}


# stop() -----------------------------------------------------------------------------------------


@each_way
def test_stop_asks_for_nothing_more(way: str) -> None:
    step, workers = WAYS[way]
    optimizer = grid(VALUES)
    search = Search(experiment_of(step), optimizer, 5, workers=workers)
    came = []
    for observation in search:
        came.append(observation)
        search.stop("enough")
        search.stop("too late")

    assert search.stop_reason == "enough"
    assert came == optimizer.observations  # what ran has been waited for
    assert {each.status for each in came} == {Status.COMPLETED}
    assert len(came) == Workers.of(workers).count
    assert optimizer.pending == []


def test_stop_gives_up_what_was_asked_for_and_not_begun() -> None:
    class All(PlainOptimizer):
        def ask(self) -> Any:
            return self.treatments

    optimizer = All([1.0, 2.0, 3.0], LOSS, "x")
    search = Search(experiment_of(record), optimizer, 3)
    for _ in search:
        search.stop()

    assert [told["loss"] for told in optimizer.told] == [1.0, float("inf"), float("inf")]
    assert search.stop_reason == "stop() was called"


def test_callbacks_and_steps_may_stop_a_search() -> None:
    def step(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        search.stop("a step said so")
        return data, {"loss": x}

    search = Search(experiment_of(step), grid(VALUES), 5)

    assert search.run().params == {"x": 3.0}
    assert search.stop_reason == "a step said so"


def test_a_stop_reason_is_that_of_its_search() -> None:
    """Two searches of one experiment, awaited together."""
    experiment = experiment_of(record_asynchronously, seed=0)

    def search(trials: int, **settings: Any) -> Search:
        optimizer = RandomOptimizer({"x": (0.0, 1.0)}, LOSS, seed=0)
        return Search(experiment, optimizer, trials, **settings)

    first, second = search(3), search(30, stop=TargetValue(0.99))
    assert first.stop_reason is second.stop_reason is None

    async def main() -> None:
        await asyncio.gather(first.arun(), second.arun())

    asyncio.run(main())

    assert first.stop_reason == "3 trials have been run"
    assert str(second.stop_reason).startswith("TargetValue(value=0.99) is reached")
