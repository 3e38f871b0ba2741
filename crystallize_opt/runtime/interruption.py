"""Ctrl-C and SIGTERM during a search.

After the first signal, no trial starts, the search settles the running trials and returns the best
so far. After the second, the search waits for nothing. Outside the main thread, and if the program
handles these signals itself, the handlers stay unchanged.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self, TypeVar

from crystallize_opt.runtime.signals import SignalHandlers
from crystallize_opt.runtime.sync import SIGNAL_SECONDS, loopless

T = TypeVar("T")

_strikes = 0
"""How often a signal has interrupted a trial in the main thread."""


class Interruption:
    """A context manager that handles both signals, and restores the handlers on exit.

    Attributes:
        count: How many signals have come.
        cause: The name of the first signal.
        error: The exception that interrupted a trial in the search's own thread.
        in_trial: Whether a trial runs in the search's own thread; the first signal interrupts it.
        in_optimizer: Whether the optimizer is at work; the second signal interrupts it.
        wake: Called by the signal handler to end the search's wait.
    """

    def __init__(self) -> None:
        self.count = 0
        self.cause = ""
        self.error: KeyboardInterrupt | None = None
        self.in_trial = False
        self.in_optimizer = False
        self.wake: Callable[[], None] | None = None
        self._event_loop: Any = None
        self._task: Any = None
        self._handlers = SignalHandlers(self._handle)

    def __enter__(self) -> Self:
        self._handlers.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._handlers.__exit__()

    def on_event_loop(self, event_loop: Any, task: Any) -> None:
        """Note that the search now runs as a task of an event loop."""
        self._event_loop, self._task = event_loop, task
        if self._handlers.before:
            self._look()

    def _look(self) -> None:
        """Wake the event loop regularly, because a signal may have interrupted another thread."""
        self._event_loop.call_later(SIGNAL_SECONDS, self._look)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        global _strikes
        self.count += 1
        self.cause = self.cause or signal.Signals(number).name
        if self.wake is not None:
            self.wake()
        if self._task is not None and self.count == 1:
            self._event_loop.call_soon_threadsafe(self._cancel_trial)
        elif (self.in_trial and (self._task is None or self.count > 1)) or (
            # Elsewhere the search reads the count soon, and gives up the running trials itself.
            self.count > (1 if self.in_optimizer else 2)
        ):
            _strikes += 1
            raise KeyboardInterrupt

    def _cancel_trial(self) -> None:
        if self.in_trial:
            self._task.cancel()

    def after(self, work: Callable[..., T], *arguments: Any) -> T:
        """Call a function of the optimizer from within a trial.

        A first signal that comes meanwhile interrupts the trial after the function, not within it.
        """
        global _strikes
        in_main_thread = threading.get_ident() == threading.main_thread().ident
        if not (self.in_trial and in_main_thread):
            return work(*arguments)
        before = self.count
        self.in_optimizer, self.in_trial = True, False
        try:
            result = work(*arguments)
        finally:
            self.in_trial, self.in_optimizer = True, False
        if self.count > before and self._task is None:
            _strikes += 1
            raise KeyboardInterrupt
        return result

    def takes(self, error: BaseException) -> bool:
        """Whether an exception that a trial raised is the interruption of this search."""
        if isinstance(error, KeyboardInterrupt):
            self.error = self.error or error
            self.count = self.count or 1
            self.cause = self.cause or "SIGINT"
            return True
        if not self.count or self._task is None:
            return False
        # Not imported here: there is a task, so asyncio is imported; its import is slow.
        if isinstance(error, sys.modules["asyncio"].CancelledError):
            self._task.uncancel()
            return True
        return False


Requests = tuple[int, int]
"""How often a thread was interrupted, and its task asked to end."""

_NONE = (0, 0)


def requests_to_end() -> Requests:
    """Return how often this thread was interrupted so far, and its task asked to end.

    A step may swallow the `KeyboardInterrupt` or `CancelledError` by which it is asked to end: a
    trainer that stops at the next epoch, or a search within the step. Such a trial measured less
    than it should have, so its caller compares this number before and after it.
    """
    strikes = _strikes
    if not strikes and loopless.get():
        return _NONE
    if strikes and threading.current_thread() is not threading.main_thread():
        strikes = 0  # Python interrupts the main thread only.
    if loopless.get():
        return strikes, 0
    asyncio = sys.modules.get("asyncio")
    try:
        task = None if asyncio is None else asyncio.current_task()
    except RuntimeError:  # No event loop runs.
        task = None
    return strikes, 0 if task is None else task.cancelling()


def asks_to_end(error: BaseException, before: Requests) -> bool:
    """Whether an exception of a code is to end the code's caller, too.

    Those are `KeyboardInterrupt`, the `GeneratorExit` of a coroutine that is closed, and the
    `CancelledError` of a task that was asked to end, but not one from a task that the code
    cancelled itself. A group is such an exception if it has one.

    Args:
        error: The exception.
        before: The requests before the code ran.
    """
    if isinstance(error, BaseExceptionGroup):
        return any(asks_to_end(each, before) for each in error.exceptions)
    if isinstance(error, (KeyboardInterrupt, GeneratorExit)):
        return True
    asyncio = sys.modules.get("asyncio")
    return (
        asyncio is not None
        and isinstance(error, asyncio.CancelledError)
        and requests_to_end() != before
    )


def pass_on(before: Requests) -> None:
    """Interrupt the caller of a code as the code was interrupted since `before`.

    Raises:
        KeyboardInterrupt: A signal interrupted the code.
        CancelledError: The task was asked to end.
    """
    strikes, cancellations = requests_to_end()
    if strikes > before[0]:
        raise KeyboardInterrupt
    if cancellations > before[1]:
        raise sys.modules["asyncio"].CancelledError
