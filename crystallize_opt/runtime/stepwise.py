"""Run a coroutine from synchronous code step by step; each step ends with an item for the caller.

Between two steps, the coroutine and its event loop, if it has one, are suspended: the caller's code
runs in the caller's thread, with nothing of the coroutine around it.
"""

from __future__ import annotations

import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from contextvars import copy_context
from typing import Any, Generic, TypeVar

from crystallize_opt.runtime.sync import (
    SIGNAL_SECONDS,
    continue_on_event_loop,
    is_loopless,
    loopless,
)

T = TypeVar("T")
HandOver = Callable[[T], Awaitable[bool]]


class Ended(Exception):  # noqa: N818  (what happened)
    """The coroutine has ended."""


class Stepwise(Generic[T]):
    """Runs a coroutine step by step, at first without an event loop, as `run_sync` does.

    Args:
        start: Called with `hand_over`; returns the coroutine. There, `await hand_over(item)` gives
            an item to the caller, waits for the next step, and returns whether the caller has left
            and takes no more items.
        on_event_loop: Called with event loop and task if the coroutine moves onto an event loop.
    """

    def __init__(
        self,
        start: Callable[[HandOver[T]], Coroutine[Any, Any, object]],
        on_event_loop: Callable[[Any, Any], None],
    ) -> None:
        self._on_event_loop = on_event_loop
        self._context = copy_context()
        self._context.run(loopless.set, True)
        self._coroutine = start(self._hand_over)
        self._left = False
        # Set on an event loop: the loop's runner and thread, the coroutine's task, and futures of
        # the item to hand over and of the next step.
        self._runner: Any = None
        self._thread: Any = None
        self._task: Any = None
        self._item: Any = None
        self._next: Any = None

    def step(self) -> T:
        """Run the coroutine up to the next item.

        Raises:
            Ended: The coroutine has returned.
            BaseException: The coroutine raised it.
        """
        try:
            if self._runner is None:
                given = self._context.run(self._coroutine.send, None)
                if given is not None:
                    item: T = given[0]
                    return item
                self._enter_event_loop()
            return self._run(self._until_item())
        except StopIteration:
            raise Ended from None
        except BaseException:
            self._leave_event_loop()
            raise

    def leave(self) -> None:
        """Tell the coroutine that the caller has left, and run it to its end; once is enough."""
        if self._left:
            return
        self._left = True
        with suppress(Ended):
            self.step()

    def forget(self) -> None:
        """Never run the rest of the coroutine, for a forked child: not even its `finally` clauses.

        A coroutine runs them when it is collected, so this object is made immortal.
        """
        import ctypes

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))

    async def _hand_over(self, item: T) -> bool:
        if is_loopless():
            await _give(item)
        else:
            import asyncio

            self._next = asyncio.get_running_loop().create_future()
            self._item.set_result(item)
            await self._next
        return self._left

    def _enter_event_loop(self) -> None:
        self._context.run(loopless.set, False)
        import asyncio

        self._runner = asyncio.Runner()
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        # A running loop cannot be re-entered, so the coroutine gets its own in another thread.
        from concurrent.futures import ThreadPoolExecutor

        self._thread = ThreadPoolExecutor(1, thread_name_prefix="crystallize_opt")

    def _leave_event_loop(self) -> None:
        runner, self._runner = self._runner, None
        thread, self._thread = self._thread, None
        if thread is not None:
            with thread:
                thread.submit(runner.close)
        elif runner is not None:
            runner.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._thread is None:
            return self._runner.run(work, context=self._context)  # type: ignore[no-any-return]
        from concurrent.futures import wait

        future = self._thread.submit(self._runner.run, work, context=self._context)
        try:
            while not wait([future], SIGNAL_SECONDS).done:
                pass  # Handle a signal that interrupted another thread.
        except KeyboardInterrupt:
            # Python delivers Ctrl-C to the main thread only, so cancel the work here.
            self._runner.get_loop().call_soon_threadsafe(self._cancel)
            raise
        return future.result()  # type: ignore[no-any-return]

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _until_item(self) -> T:
        import asyncio

        loop = asyncio.get_running_loop()
        self._item = loop.create_future()
        if self._task is None:
            self._task = loop.create_task(
                continue_on_event_loop(self._coroutine, self._on_event_loop), context=self._context
            )
        else:
            self._next.set_result(None)
        await asyncio.wait([self._task, self._item], return_when=asyncio.FIRST_COMPLETED)
        if self._item.done():
            item: T = self._item.result()
            return item
        self._task.result()
        raise Ended


@types.coroutine
def _give(item: T) -> Generator[tuple[T], None, None]:
    """Suspend to `Stepwise.step`, which returns the item."""
    yield (item,)
