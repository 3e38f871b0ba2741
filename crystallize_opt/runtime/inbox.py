"""A queue by which other threads and signal handlers hand items to a search."""

from __future__ import annotations

from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

from crystallize_opt.runtime.sync import SIGNAL_SECONDS, is_loopless


class Inbox:
    """A queue whose reader waits on an event loop, or blocks where there is none."""

    def __init__(self) -> None:
        self._items: SimpleQueue[Any] = SimpleQueue()
        self._waiting: tuple[Any, Any] | None = None

    def put(self, item: Any) -> None:
        """Hand an item over. May be called from any thread and from a signal handler."""
        self._items.put(item)
        waiting = self._waiting
        if waiting is not None:
            with suppress(RuntimeError):  # That event loop is closed.
                waiting[0].call_soon_threadsafe(waiting[1].set)

    async def get(self) -> list[Any]:
        """Wait for at least one item, and return all there are."""
        if is_loopless():
            items = [self._get_blocking()]
        else:
            items = []
            import asyncio

            arrived = asyncio.Event()
            self._waiting = (asyncio.get_running_loop(), arrived)
            if self._items.empty():
                await arrived.wait()
            self._waiting = None
        with suppress(Empty):
            while True:
                items.append(self._items.get_nowait())
        return items

    def _get_blocking(self) -> Any:
        while True:
            # Python runs signal handlers in the main thread only, but the system may interrupt any
            # thread for a signal: without an end to the wait, Ctrl-C might never be seen.
            with suppress(Empty):
                return self._items.get(timeout=SIGNAL_SECONDS)
