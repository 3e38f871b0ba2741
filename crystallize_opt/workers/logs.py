"""Log records of a worker process travel to the process that started the search.

There, the record's logger handles it, so the user's levels, filters and handlers apply. The worker
has the levels of the loggers there, and makes no record that nobody would see.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from crystallize_opt.workers.portable import portable, unpacked

Record = dict[str, Any]
"""The attributes of a `logging.LogRecord`; plain, or pickled by `portable`."""
Send = Callable[[Record], None]

_send: ContextVar[Send | None] = ContextVar("crystallize_opt_send", default=None)
_sends: list[Send] = []
_lock = threading.Lock()


class Levels(NamedTuple):
    """The levels of the loggers of a process, and whether its warnings are records, too."""

    of_loggers: Mapping[str, int]
    disabled: int
    has_warnings: bool

    @classmethod
    def here(cls) -> Levels:
        """Return the levels of this process."""
        levels = {
            name: logger.level
            for name, logger in logging.root.manager.loggerDict.copy().items()
            if isinstance(logger, logging.Logger) and logger.level != logging.NOTSET
        }
        return cls(
            {**levels, "root": logging.root.level}, logging.root.manager.disable, _has_warnings()
        )

    def set_here(self) -> Levels:
        """Set the levels of this process, and return what they were."""
        loggers = {name: logging.getLogger(name) for name in self.of_loggers}
        before = {name: logger.level for name, logger in loggers.items()}
        disabled, has_warnings = logging.root.manager.disable, _has_warnings()
        for name, logger in loggers.items():
            logger.setLevel(self.of_loggers[name])
        logging.disable(self.disabled)
        logging.captureWarnings(self.has_warnings)
        return Levels(before, disabled, has_warnings)


def _has_warnings() -> bool:
    """Whether `logging.captureWarnings(True)` is in effect."""
    return getattr(logging, "_warnings_showwarning", None) is not None


class _Forwarder(logging.Handler):
    """The only handler of a worker's root logger while trials run."""

    def __init__(self) -> None:
        super().__init__()
        self._pid = os.getpid()
        self.levels: Levels | None = None
        self.replaced: list[logging.Handler] = []

    def emit(self, record: logging.LogRecord) -> None:
        # A thread that the step started has no context of its own.
        send = _send.get() or (_sends[-1] if _sends else None)
        try:
            if send is not None and os.getpid() == self._pid:
                send(_plain(record))
            elif logging.lastResort is not None and record.levelno >= logging.WARNING:
                # In a process that the trial forked: the way to the search is its parent's.
                logging.lastResort.handle(record)
        except Exception:  # noqa: BLE001  (as every handler: logging must not fail a trial)
            self.handleError(record)


_forwarder: _Forwarder | None = None


@contextmanager
def forwarded(levels: Levels, send: Send) -> Iterator[None]:
    """Send all log records to the search's process; afterwards, logging is as before.

    Args:
        levels: The levels of the loggers there.
        send: Sends one record.
    """
    token = _send.set(send)
    with _lock:
        _sends.append(send)
        if len(_sends) == 1:
            _begin(levels)
    try:
        yield
    finally:
        _send.reset(token)
        with _lock:
            _sends.remove(send)
            if not _sends:
                _end()


def _begin(levels: Levels) -> None:
    global _forwarder
    root = logging.getLogger()
    _forwarder = _Forwarder()
    _forwarder.levels, _forwarder.replaced = levels.set_here(), root.handlers[:]
    root.handlers[:] = [_forwarder]


def _end() -> None:
    global _forwarder
    forwarder, _forwarder = _forwarder, None
    if forwarder is not None and forwarder.levels is not None:
        root = logging.getLogger()
        added = [handler for handler in root.handlers if handler is not forwarder]
        root.handlers[:] = [*forwarder.replaced, *added]
        forwarder.levels.set_here()


def forget_handlers() -> None:
    """Remove the handlers of all loggers of this process, which belongs to one search.

    Modules that set handlers when they are imported have set them in the search's process, too.
    """
    for logger in logging.root.manager.loggerDict.copy().values():
        if isinstance(logger, logging.Logger) and logger.handlers:
            logger.handlers.clear()
            logger.propagate = True


def handle(record: Record) -> None:
    """Let the loggers of this process handle a record of a worker."""
    made = logging.makeLogRecord({name: unpacked(value) for name, value in record.items()})
    name = logging.getLevelName(made.levelno)
    if name != f"Level {made.levelno}":  # The level has a name here, perhaps only here.
        made.levelname = name
    logger = logging.getLogger(made.name)
    if logger.isEnabledFor(made.levelno):
        logger.handle(made)


def _plain(record: logging.LogRecord) -> Record:
    """Return a record's attributes, with its message and traceback as text."""
    attributes = dict(vars(record))
    attributes["msg"], attributes["args"] = record.getMessage(), None
    if record.exc_info:
        attributes["exc_text"] = record.exc_text or _formatter.formatException(record.exc_info)
    attributes["exc_info"] = None
    return {name: portable(value) for name, value in attributes.items()}


_formatter = logging.Formatter()
