"""Signal handlers that belong to the process that installed them, and to no child of it.

A program that a step starts gets the default actions, because the handlers are functions (unlike
`SIG_IGN`, which a program inherits). A forked child gets the handlers from before.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

_UNTOUCHED = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
if sys.platform == "win32":  # Ctrl-Break; Windows sends no SIGTERM.
    _UNTOUCHED[signal.SIGBREAK] = signal.SIG_DFL
FROM_TERMINAL = tuple(number for number in _UNTOUCHED if number != signal.SIGTERM)
"""The signals of Ctrl-C and, on Windows, of Ctrl-Break: they reach every process of a terminal."""

_installed: list[SignalHandlers] = []
_of_thread = threading.local()


class SignalHandlers:
    """A context manager that handles the signals that end a program, and restores the handlers.

    These are SIGINT, SIGTERM and, on Windows, SIGBREAK (Ctrl-Break).

    Outside the main thread, and for a signal that the program handles or ignores, the handlers stay
    unchanged.

    Args:
        handle: The handler, called in the main thread of this process.
        numbers: The signals.

    Attributes:
        before: The replaced handlers, by signal.

    Example:
        >>> with SignalHandlers(lambda number, frame: None, (signal.SIGTERM,)) as handlers:
        ...     signal.raise_signal(signal.SIGTERM)
    """

    def __init__(
        self,
        handle: Callable[[int, FrameType | None], None],
        numbers: tuple[signal.Signals, ...] = tuple(_UNTOUCHED),
    ) -> None:
        self.before: dict[signal.Signals, Any] = {}
        self._handle = handle
        self._numbers = numbers

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in self._numbers:
                if signal.getsignal(number) == _UNTOUCHED[number]:
                    self.before[number] = signal.signal(number, self._handle)
        _installed.append(self)
        return self

    def __exit__(self, *exception: object) -> None:
        _installed.remove(self)
        for number, handler in self.before.items():
            signal.signal(number, handler)
        self.before.clear()

    def restore(self) -> None:
        """Put back the handlers from before, unless others have been installed since."""
        for number, handler in self.before.items():
            if signal.getsignal(number) == self._handle:
                signal.signal(number, handler)


def ignore(number: int, frame: FrameType | None) -> None:
    """Ignore a signal, as a handler: a program that this process starts does not inherit it."""


def _before_fork() -> None:
    # Python forgets the signals that reach a child before its hooks have run, if they have a
    # handler. Blocked signals wait.
    if _installed and hasattr(signal, "pthread_sigmask"):
        _of_thread.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _UNTOUCHED)


def _after_fork_in_parent() -> None:
    mask = _of_thread.__dict__.pop("mask", None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_fork_in_child() -> None:
    for handlers in reversed(_installed):
        handlers.restore()
    _installed.clear()
    _after_fork_in_parent()


if hasattr(os, "register_at_fork"):  # Not on Windows, where no process can be forked.
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )


@contextmanager
def blocked_signals() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait; a process that is started meanwhile has them blocked, too.

    Such a process installs its handlers first, and then calls `unblock_signals`.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _UNTOUCHED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def unblock_signals() -> None:
    """Let SIGINT and SIGTERM come, also those that came while they were blocked."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _UNTOUCHED)
