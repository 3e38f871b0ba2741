"""Run coroutines from synchronous code, starting an event loop only when one is needed.

Steps and optimizers may be synchronous or asynchronous, so the code that runs them is written once,
as coroutines. Most pipelines never await anything, and run here without an event loop: a step that
blocks for minutes then reacts to Ctrl-C at once (inside `asyncio.run` the first SIGINT only cancels
the task at its next await), may call `asyncio.run` itself, and works inside Jupyter's running loop.
When a step returns an awaitable, the same coroutine moves onto a real event loop.

`asyncio` is imported only then, because its import would take a large part of this package's.
"""

from __future__ import annotations

import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar, cast

from crystallize_opt.runtime.owner import Owner

T = TypeVar("T")

SIGNAL_SECONDS = 0.2
"""The longest time the main thread waits before it checks for signals."""

loopless: ContextVar[bool] = ContextVar("crystallize_opt_loopless", default=False)


async def resolve(value: T | Awaitable[T]) -> T:
    """Return `value`, awaited if it is awaitable.

    Args:
        value: The result of a function that may be synchronous or asynchronous.
    """
    # Ask the type, as `await` does: data may have any attribute through `__getattr__`, and a class
    # of awaitable objects is not awaitable. `hasattr` takes a tenth of the time of `issubclass`.
    kind = type(value)
    if hasattr(kind, "__await__") and issubclass(kind, Awaitable):
        if loopless.get():
            await _leave_loopless_mode()
        return await cast("Awaitable[T]", value)
    return cast("T", value)


async def resolve_apart(value: T | Awaitable[T]) -> T:
    """Return `value`, awaited in a task of its own if it is awaitable.

    So the caller's task counts the requests to end the caller, and no others. Before Python 3.13,
    an `asyncio.TaskGroup` that fails leaves a request behind in the task that it runs in.
    """
    kind = type(value)
    if not (hasattr(kind, "__await__") and issubclass(kind, Awaitable)):
        return cast("T", value)
    if loopless.get():
        await _leave_loopless_mode()
    import asyncio

    async def outcome() -> tuple[Any, BaseException | None]:
        # An event loop ends at the `SystemExit` of a task; so return it. But a child that the
        # foreign code has forked ends here, before it runs other tasks of the loop.
        try:
            with Owner():
                return await cast("Awaitable[T]", value), None
        except BaseException as error:  # noqa: BLE001  (raised in the caller's task)
            return None, error

    try:
        result, error = await asyncio.ensure_future(outcome())
    finally:
        if isinstance(value, types.CoroutineType):
            value.close()  # It has not begun if the task was cancelled at once.
    if error is not None:
        raise error
    return cast("T", result)


def is_loopless() -> bool:
    """Whether the caller runs in `run_sync` without an event loop, and so may block."""
    return loopless.get()


async def need_event_loop() -> None:
    """Continue inside an event loop."""
    if loopless.get():
        await _leave_loopless_mode()


def run_sync(
    coroutine: Coroutine[Any, Any, T],
    on_event_loop: Callable[[Any, Any], None] | None = None,
) -> T:
    """Run `coroutine` to its end from synchronous code, even if an event loop already runs.

    If a loop runs in this thread (Jupyter) and the coroutine needs one, the coroutine gets its own
    loop in a helper thread, because a running loop cannot be re-entered.

    Args:
        coroutine: The coroutine to run.
        on_event_loop: Called with event loop and task if the coroutine moves onto an event loop.
    """
    # Use one context from beginning to end, so that a step's `teardown` can reset what its `setup`
    # set (`numpy.errstate`, `decimal.localcontext`) even after the move onto a loop.
    context = copy_context()
    context.run(loopless.set, True)
    try:
        context.run(coroutine.send, None)
    except StopIteration as stop:
        return cast("T", stop.value)
    context.run(loopless.set, False)
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        return _run_in_thread(coroutine, context, on_event_loop)
    # Outside of the `except`: an error of the coroutine would get the RuntimeError as its context.
    with asyncio.Runner() as runner:
        return runner.run(continue_on_event_loop(coroutine, on_event_loop), context=context)


def _run_in_thread(
    coroutine: Coroutine[Any, Any, T],
    context: Context,
    on_event_loop: Callable[[Any, Any], None] | None,
) -> T:
    import asyncio
    from concurrent.futures import ThreadPoolExecutor, wait

    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any] | None]] = []
    interrupted = False

    async def work() -> T:
        task = asyncio.current_task()
        running.append((asyncio.get_running_loop(), task))
        if interrupted and task is not None:
            task.cancel()
        return await continue_on_event_loop(coroutine, on_event_loop)

    def run() -> T:
        with asyncio.Runner() as runner:
            return runner.run(work(), context=context)

    with ThreadPoolExecutor(1, thread_name_prefix="crystallize_opt") as thread:
        try:
            future = thread.submit(run)
            while not wait([future], SIGNAL_SECONDS).done:
                pass  # Handle a signal that interrupted another thread.
            return future.result()
        except KeyboardInterrupt:
            # Python delivers Ctrl-C to the main thread only, so cancel the work here. Ctrl-C may
            # come before `submit` returns or before the work begins; this thread sets `interrupted`
            # and reads `running`, the other does the reverse, so one of them cancels.
            interrupted = True
            for loop, task in running:
                if task is not None:
                    with suppress(RuntimeError):  # The work has ended and closed its loop.
                        loop.call_soon_threadsafe(task.cancel)
            raise


@types.coroutine
def _leave_loopless_mode() -> Generator[None, None, None]:
    """Suspend to `run_sync`, which continues inside an event loop."""
    yield


async def continue_on_event_loop(
    coroutine: Coroutine[Any, Any, T], on_event_loop: Callable[[Any, Any], None] | None
) -> T:
    """Run the rest of a coroutine that has already started."""
    if on_event_loop is not None:
        import asyncio

        on_event_loop(asyncio.get_running_loop(), asyncio.current_task())
    return await _continue_started(coroutine)


@types.coroutine
def _continue_started(coroutine: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    # A plain `await` refuses a coroutine that has already started.
    return (yield from coroutine.__await__())
