"""Run coroutines from synchronous code, starting an event loop only when one is needed.

Steps and optimizers may be synchronous or asynchronous, so the code that runs them is written once,
as coroutines. Most pipelines never await anything. Those are driven here without an event loop: a
step that blocks for minutes then reacts to Ctrl-C at once (inside `asyncio.run` the first SIGINT
only cancels the task at its next await), may call `asyncio.run` itself, and works inside Jupyter's
running loop. As soon as something awaitable turns up, the same coroutine moves onto a real loop.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar, cast

T = TypeVar("T")

_loopless: ContextVar[bool] = ContextVar("crystallize_opt_loopless", default=False)


async def resolve(value: T | Awaitable[T]) -> T:
    """Return `value`, awaited if it is awaitable.

    Args:
        value: The result of calling a function that may be synchronous or asynchronous.
    """
    if hasattr(value, "__await__"):  # what makes an Awaitable, at a tenth of isinstance's cost
        if _loopless.get():
            await _leave_loopless_mode()
        return await cast("Awaitable[T]", value)
    return value


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run `coroutine` to its end from synchronous code, also where an event loop already runs.

    Where a loop runs in this thread (Jupyter) and the coroutine does need one, it gets its own loop
    in a helper thread: a running loop cannot be re-entered.
    """
    token = _loopless.set(True)
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return cast("T", stop.value)
    finally:
        _loopless.reset(token)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(_resume(coroutine))
    with ThreadPoolExecutor(1, thread_name_prefix="crystallize_opt") as thread:
        return thread.submit(copy_context().run, asyncio.run, _resume(coroutine)).result()


@types.coroutine
def _leave_loopless_mode() -> Generator[None, None, None]:
    """Suspend up to `run_sync`, which goes on inside an event loop."""
    yield


async def _resume(coroutine: Coroutine[Any, Any, T]) -> T:
    _loopless.set(False)
    return await _continue_started(coroutine)


@types.coroutine
def _continue_started(coroutine: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    # A plain `await` refuses a coroutine that has already started.
    return (yield from coroutine.__await__())
