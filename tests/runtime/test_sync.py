"""Synchronous and asynchronous code, mixed, in scripts and inside a running event loop."""

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, Token
from pathlib import Path
from typing import Any

import pytest

from crystallize_opt import (
    DataSource,
    Experiment,
    FrozenContext,
    History,
    Objective,
    Pipeline,
    PipelineStep,
    Search,
    Storage,
    Treatment,
    data_source,
    pipeline_step,
)
from crystallize_opt.adapters import GridOptimizer
from crystallize_opt.runtime.sync import resolve, run_sync
from tests.toy import DELTAS, PlainOptimizer, experiment_of

PLUS_ONE = Treatment("plus one", {"delta": 1.0})


async def pause() -> None:
    """Wait for the loop's next turn; unlike `asyncio.sleep(0)` it fails where none is running."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_soon(future.set_result, None)
    await future


class AsyncOptimizer(PlainOptimizer):
    async def ask(self) -> list[Treatment]:  # type: ignore[override]
        await pause()
        return super().ask()

    async def tell(self, objective_values: Mapping[str, float]) -> None:  # type: ignore[override]
        await pause()
        super().tell(objective_values)

    async def get_best_treatment(self) -> Treatment:  # type: ignore[override]
        await pause()
        return super().get_best_treatment()


@data_source
def sync_source(ctx: FrozenContext) -> list[float]:
    return [1.0, 2.0, 3.0]


class AsyncSource(DataSource):
    async def fetch(self, ctx: FrozenContext) -> list[float]:
        await pause()
        return [1.0, 2.0, 3.0]


@pipeline_step()
def sync_step(data: list[float], ctx: FrozenContext, *, delta: float = 0.0) -> Any:
    return data, {"sum": sum(x + delta for x in data)}


@pipeline_step()
async def async_step(data: list[float], ctx: FrozenContext, *, delta: float = 0.0) -> Any:
    await pause()
    return data, {"sum": sum(x + delta for x in data)}


class AsyncSetUp(PipelineStep):
    async def setup(self, ctx: FrozenContext) -> None:
        await pause()

    def __call__(self, data: Any, ctx: FrozenContext) -> Any:
        return data


def in_a_script(work: Callable[[], Any]) -> Any:
    return work()


def in_a_running_loop(work: Callable[[], Any]) -> Any:
    async def main() -> Any:
        return work()

    return asyncio.run(main())


WHERE = pytest.mark.parametrize("where", [in_a_script, in_a_running_loop])
Where = Callable[[Callable[[], Any]], Any]


@WHERE
@pytest.mark.parametrize("optimizer_class", [PlainOptimizer, AsyncOptimizer])
@pytest.mark.parametrize("step", [sync_step, async_step])
@pytest.mark.parametrize("source", [sync_source, AsyncSource])
def test_everything_may_be_synchronous_or_asynchronous(
    where: Where,
    optimizer_class: type[PlainOptimizer],
    step: Callable[[], PipelineStep],
    source: Callable[[], DataSource],
    tmp_path: Path,
) -> None:
    """With a storage, too: its connection goes along when a search moves to another thread."""
    experiment = Experiment(source(), Pipeline([step(), AsyncSetUp()]))
    optimizer, awaited, looped = (optimizer_class(DELTAS) for _ in range(3))
    database = tmp_path / "runs.db"

    best = where(lambda: experiment.optimize(optimizer, 3, 2, storage=database))
    also_best = asyncio.run(
        experiment.aoptimize(awaited, 3, 2, storage=Storage(database, run="awaited"))
    )
    search = Search(experiment, looped, 3, 2, storage=Storage(database, run="looped"))
    assert [dict(each) for each in where(lambda: list(search))] == list(map(dict, optimizer.told))
    for run in ("run", "awaited", "looped"):
        assert [o["sum"] for o in History.load(database, run)] == [12.0, 6.0, 9.0]
    result = where(lambda: experiment.run(treatments=[PLUS_ONE]))
    applied = where(lambda: experiment.apply(PLUS_ONE))

    assert best.params == also_best.params == {"delta": 0.0}
    assert [dict(told) for told in optimizer.told] == [{"sum": s} for s in (12.0, 6.0, 9.0)]
    assert [dict(told) for told in awaited.told] == [dict(told) for told in optimizer.told]
    assert result.metrics.treatments["plus one"].metrics == {"sum": [9.0]}
    assert applied == [1.0, 2.0, 3.0]


@WHERE
def test_a_synchronous_pipeline_runs_in_the_callers_thread(where: Where) -> None:
    """matplotlib, signal handlers and sqlite connections want it so."""
    threads: set[threading.Thread] = set()

    def step(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        threads.add(threading.current_thread())
        return data, {"sum": delta}

    where(lambda: experiment_of(step).optimize(PlainOptimizer(DELTAS), 3))

    assert threads == {threading.current_thread()}


def test_a_step_of_a_synchronous_pipeline_may_run_a_loop_of_its_own() -> None:
    async def add(delta: float) -> float:
        await pause()
        waiting: Any = pause()
        await resolve(waiting)
        return delta + 1.0

    def step(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        return data, {"sum": asyncio.run(add(delta))}

    optimizer = PlainOptimizer(DELTAS)
    experiment_of(step).optimize(optimizer, 3)

    assert [told["sum"] for told in optimizer.told] == [3.0, 1.0, 2.0]


@WHERE
def test_a_step_may_run_another_experiment(where: Where) -> None:
    inner = Experiment(AsyncSource(), Pipeline([async_step()]))

    def step(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        best = inner.optimize(PlainOptimizer([3.0, delta]), 2)
        return data, {"sum": best.params["delta"]}

    optimizer = PlainOptimizer(DELTAS)
    where(lambda: experiment_of(step).optimize(optimizer, 3))

    assert [told["sum"] for told in optimizer.told] == DELTAS


@WHERE
@pytest.mark.parametrize("step_fails", [True, False])
def test_setup_and_teardown_may_be_asynchronous(where: Where, step_fails: bool) -> None:
    calls = []

    class Connected(PipelineStep):
        async def setup(self, ctx: FrozenContext) -> None:
            await pause()
            calls.append("setup")
            ctx.add("connection", 5.0)

        def __call__(self, data: Any, ctx: FrozenContext) -> Any:
            calls.append("call")
            if step_fails:
                raise ValueError("boom")
            return ctx["connection"]

        async def teardown(self, ctx: FrozenContext) -> None:
            await pause()
            calls.append("teardown")

    experiment = Experiment(sync_source(), Pipeline([Connected()]))
    if step_fails:
        with pytest.raises(ValueError, match="boom"):
            where(experiment.apply)
    else:
        assert where(experiment.apply) == 5.0
    assert calls == ["setup", "call", "teardown"]


@WHERE
def test_what_setup_sets_for_the_thread_can_be_reset_by_teardown(where: Where) -> None:
    """As entering and leaving `numpy.errstate` does, also when a loop is started in between."""
    variable: ContextVar[int] = ContextVar("variable", default=0)
    seen = []

    class Setting(PipelineStep):
        token: Token[int]

        def setup(self, ctx: FrozenContext) -> None:
            self.token = variable.set(1)

        async def __call__(self, data: Any, ctx: FrozenContext) -> Any:
            await pause()
            seen.append(variable.get())
            return data

        def teardown(self, ctx: FrozenContext) -> None:
            variable.reset(self.token)
            seen.append(variable.get())

    where(Experiment(sync_source(), Pipeline([Setting()])).apply)

    assert seen == [1, 0]


# run_sync -------------------------------------------------------------------------------------


def raising(error: BaseException) -> Coroutine[Any, Any, None]:
    async def before() -> None:
        raise error

    return before()


def raising_in_the_loop(error: BaseException) -> Coroutine[Any, Any, None]:
    async def after() -> None:
        waiting: Any = pause()
        await resolve(waiting)
        raise error

    return after()


@WHERE
@pytest.mark.parametrize("coroutine_of", [raising, raising_in_the_loop])
@pytest.mark.parametrize("error", [ValueError("boom"), KeyboardInterrupt("boom")], ids=repr)
def test_an_error_comes_out_as_it_is(
    where: Where,
    coroutine_of: Callable[[BaseException], Coroutine[Any, Any, None]],
    error: BaseException,
) -> None:
    with pytest.raises(type(error), match="boom") as caught:
        where(lambda: run_sync(coroutine_of(error)))
    assert caught.value is error


def test_no_loop_is_started_where_nothing_is_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    def new_event_loop() -> asyncio.AbstractEventLoop:
        started.append(True)
        return real()

    real = asyncio.new_event_loop
    monkeypatch.setattr(asyncio.events, "new_event_loop", new_event_loop)

    Experiment(sync_source(), Pipeline([sync_step()])).apply()
    assert started == []
    Experiment(AsyncSource(), Pipeline([sync_step()])).apply()
    assert started == [True]


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs POSIX signals")
def test_an_interrupt_ends_the_work_in_the_helper_thread() -> None:
    """In Jupyter Ctrl-C reaches the main thread, which waits for the thread that runs the steps."""
    torn_down = threading.Event()

    class Waiting(PipelineStep):
        async def __call__(self, data: Any, ctx: FrozenContext) -> Any:
            main_thread = threading.main_thread().ident
            assert main_thread is not None
            asyncio.get_running_loop().call_soon(signal.pthread_kill, main_thread, signal.SIGINT)
            await asyncio.Event().wait()

        def teardown(self, ctx: FrozenContext) -> None:
            torn_down.set()

    experiment = Experiment(sync_source(), Pipeline([Waiting()]))

    async def main() -> None:
        experiment.optimize(GridOptimizer({"delta": [1]}, Objective("sum", "minimize")), 1)

    loop = asyncio.new_event_loop()  # asyncio.run would catch the signal
    try:
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(main())
    finally:
        loop.close()
    assert torn_down.is_set()


def test_an_interrupt_may_come_before_the_thread_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C at the moment the thread is started: the steps must not wait for ever."""
    submit, torn_down = ThreadPoolExecutor.submit, threading.Event()

    def submit_and_interrupt(self: Any, *arguments: Any) -> None:
        submit(self, *arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(ThreadPoolExecutor, "submit", submit_and_interrupt)

    class Waiting(PipelineStep):
        async def __call__(self, data: Any, ctx: FrozenContext) -> Any:
            await asyncio.Event().wait()

        def teardown(self, ctx: FrozenContext) -> None:
            torn_down.set()

    with pytest.raises(KeyboardInterrupt):
        in_a_running_loop(Experiment(sync_source(), Pipeline([Waiting()])).apply)
    assert torn_down.is_set()


def test_a_cancelled_search_tears_down() -> None:
    torn_down = []

    class Waiting(PipelineStep):
        async def __call__(self, data: Any, ctx: FrozenContext) -> Any:
            started.set()
            await asyncio.Event().wait()

        def teardown(self, ctx: FrozenContext) -> None:
            torn_down.append(True)

    experiment = Experiment(sync_source(), Pipeline([Waiting()]))

    async def main() -> None:
        task = asyncio.create_task(experiment.aoptimize(PlainOptimizer(DELTAS), 3))
        await started.wait()
        task.cancel()
        await task

    started = asyncio.Event()
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert torn_down == [True]


# Data that look awaitable ---------------------------------------------------------------------


class HasEverything:
    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


class MetaWithEverything(type):
    def __getattr__(cls, name: str) -> Any:
        return lambda *_: None


class OfSuchAClass(metaclass=MetaWithEverything):
    pass


@pytest.mark.parametrize("data", [HasEverything(), OfSuchAClass(), OfSuchAClass, Coroutine])
def test_only_what_await_takes_is_awaited(data: Any) -> None:
    assert run_sync(resolve(data)) is data
