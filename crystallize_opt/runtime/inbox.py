"""A queue through which other threads and signal handlers pass items to a search."""

from __future__ import annotations

from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

from crystallize_opt.runtime.sync import SIGNAL_SECONDS, is_loopless


class Inbox:
    """A queue whose reader awaits items on an event loop, or blocks if there is no loop."""

    def __init__(self) -> None:
        self._items: SimpleQueue[Any] = SimpleQueue()
        self._waiting: tuple[Any, Any] | None = None

    def put(self, item: Any) -> None:
        """Add an item. May be called from any thread and from a signal handler."""
        self._items.put(item)
        waiting = self._waiting
        if waiting is not None:
            with suppress(RuntimeError):  # The reader's event loop is closed.
                waiting[0].call_soon_threadsafe(waiting[1].set)

    @property
    def is_empty(self) -> bool:
        """Whether `get` would wait."""
        return self._items.empty()

    async def get(self) -> list[Any]:
        """Wait for at least one item, and return all items in the queue."""
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
            # Python runs signal handlers in the main thread only, but the system may deliver a
            # signal to any thread. Without a timeout, this thread might never notice Ctrl-C.
            with suppress(Empty):
                return self._items.get(timeout=SIGNAL_SECONDS)
