"""A search driven by hand: `for observation in Search(...)`."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import random
import re
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crystallize_opt import (
    BasePlugin,
    Experiment,
    Failures,
    FrozenContext,
    History,
    Objective,
    Pipeline,
    PipelineStep,
    Search,
    Status,
    Storage,
    TargetValue,
    Workers,
)
from crystallize_opt.adapters import GridOptimizer, RandomOptimizer
from crystallize_opt.errors import RunLocked, TrialsFailedError, UsageError
from crystallize_opt.pipeline.result import Result
from crystallize_opt.search.callbacks import Event, RunStopped
from crystallize_opt.search.settings import DEFAULTS, SearchSettings
from tests.recording.killed_runs import exactly
from tests.toy import PlainOptimizer, experiment_of, numbers
from tests.workers.pools import LOSS, grid

VALUES = [3.0, 1.0, 2.0, 0.0, 4.0]


def record(data: Any, ctx: FrozenContext, *, x: float) -> Any:
    if x < 0:
        raise ValueError("boom")
    return data, {"loss": x}


async def record_asynchronously(data: Any, ctx: FrozenContext, *, x: float) -> Any:
    await asyncio.sleep(0)
    return data, {"loss": x}


class Calls(BasePlugin):
    """Writes down when a run begins and ends."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.results: list[Result] = []

    def before_run(self, experiment: Experiment) -> None:
        self.calls.append("before_run")

    def after_run(self, experiment: Experiment, result: Result) -> None:
        self.calls.append("after_run")
        self.results.append(result)


WAYS: dict[str, tuple[Callable[..., Any], Any]] = {
    "one after the other": (record, None),
    "asynchronous steps": (record_asynchronously, None),
    "asynchronous trials": (record_asynchronously, Workers(None, 2)),
    "threads": (record, Workers("threads", 2)),
    "processes": (record, 2),
}
each_way = pytest.mark.parametrize("way", WAYS)
each_place = pytest.mark.parametrize("in_a_running_loop", [False, True])


def somewhere(work: Callable[[], Any], in_a_running_loop: bool) -> Any:
    async def main() -> Any:
        return work()

    return asyncio.run(main()) if in_a_running_loop else work()


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
        with pytest.raises(UsageError, match="has run already"):
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


# The caller's own -------------------------------------------------------------------------------


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


# after_run --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["run", "apply", "optimize", "setup", "hand"])
def test_after_run_is_called_where_a_run_ends_in_an_error(how: str) -> None:
    """`run` raises only for what is wrong with the run itself, here in a hypothesis."""

    class Fails(PipelineStep):
        def setup(self, ctx: FrozenContext) -> None:
            if how == "setup":
                raise ValueError("set-up")

        def __call__(self, data: Any, ctx: FrozenContext) -> Any:
            if how == "run":
                raise KeyboardInterrupt
            raise ValueError("boom")

    plugin = Calls()
    experiment = Experiment(numbers(), Pipeline([Fails()]), [plugin])
    failures = Failures(give_up_after=2)

    def by_hand() -> None:
        for _ in Search(experiment, grid(VALUES), 5, failures=failures):
            pass

    calls: dict[str, Callable[[], Any]] = {
        "run": experiment.run,
        "apply": experiment.apply,
        "optimize": lambda: experiment.optimize(grid(VALUES), 5, failures=failures),
        "setup": experiment.run,
        "hand": by_hand,
    }
    with pytest.raises((ValueError, TrialsFailedError, KeyboardInterrupt)):
        calls[how]()

    assert plugin.calls == ["before_run", "after_run"]
    errors = [str(error) for error in plugin.results[0].errors.values()]
    assert errors == {"apply": ["boom"], "optimize": ["boom"] * 2, "hand": ["boom"] * 2}.get(
        how, []
    )


def test_an_error_of_after_run_does_not_hide_the_one_that_ended_the_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Looks(BasePlugin):
        def after_run(self, experiment: Experiment, result: Result) -> None:
            raise KeyError("no metrics")

    plugin = Calls()

    def step(data: Any, ctx: FrozenContext) -> Any:
        raise ValueError("boom")

    with (
        caplog.at_level(logging.ERROR, "crystallize_opt"),
        pytest.raises(ValueError, match="boom"),
    ):
        experiment_of(step, plugins=[Looks(), plugin]).apply()

    assert plugin.calls == ["before_run", "after_run"]
    assert [record.exc_info is not None for record in caplog.records] == [True]


def test_only_plugins_that_began_are_ended() -> None:
    first, last = Calls(), Calls()

    class Refuses(Calls):
        def before_run(self, experiment: Experiment) -> None:
            raise ValueError("no")

    refuses = Refuses()
    with pytest.raises(ValueError, match="no"):
        experiment_of(record, plugins=[first, refuses, last]).run()

    assert (first.calls, refuses.calls, last.calls) == (["before_run", "after_run"], [], [])


# The arguments ----------------------------------------------------------------------------------


@pytest.mark.parametrize("door", [Search, Experiment.optimize, Experiment.aoptimize])
def test_every_door_shows_the_same_arguments(door: Any) -> None:
    parameters = inspect.signature(door).parameters.values()
    shown = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}

    assert shown == DEFAULTS
    assert list(shown) == list(SearchSettings.__annotations__)
    for name in DEFAULTS:
        assert re.search(rf"(?m)^ *{name}: [A-Z]", door.__doc__), name


def test_settings_are_checked_before_anything_runs(tmp_path: Path) -> None:
    plugin = Calls()
    experiment = experiment_of(record, plugins=[plugin])
    wrong: Any
    for wrong in ({"workers": "cluster"}, {"workers": 0}, {"storage": ":memory:"}, {"stop": 5}):
        with pytest.raises(UsageError):
            Search(experiment, grid(VALUES), 5, **wrong)

    assert plugin.calls == []
    assert GridOptimizer({"x": VALUES}, Objective("loss", "minimize")).observations == []
