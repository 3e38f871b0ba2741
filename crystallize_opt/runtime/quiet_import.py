"""Import a library without its side effects on the process."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator

_State = tuple[int, bool, tuple[logging.Handler, ...]]


@contextlib.contextmanager
def quiet_import(
    name: str, module: str, *, undo_logging: bool = False, drop_messages_of: tuple[str, ...] = ()
) -> Iterator[None]:
    """Log that an import takes seconds, and undo its side effects.

    During the import, warnings are dropped. Afterwards, the warning filters are restored, and new
    environment variables are removed.

    Args:
        name: The name of the library in the message, which is logged once in a process.
        module: The module whose import takes long.
        undo_logging: Whether to undo changes of logger levels and handlers.
        drop_messages_of: The names of loggers whose messages are dropped during the import.
    """
    if module not in sys.modules:
        logging.getLogger("crystallize_opt").info(
            "Importing %s, which takes some seconds; once in a process.", name
        )
    with contextlib.ExitStack() as stack:
        stack.callback(_remove_variables, frozenset(os.environ))
        if undo_logging:
            stack.callback(_restore, {logger: _state(logger) for logger in _loggers()})
        for logger in map(logging.getLogger, drop_messages_of):
            logger.addFilter(_drop)
            stack.callback(logger.removeFilter, _drop)
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        yield


def _remove_variables(before: frozenset[str]) -> None:
    for name in os.environ.keys() - before:
        # Keep the variable in the C library's environment: scikit-learn sets variables for OpenMP,
        # which may start and read them later.
        os.putenv(name, os.environ.pop(name))


def _loggers() -> list[logging.Logger]:
    known = logging.Logger.manager.loggerDict.values()
    return [logger for logger in known if isinstance(logger, logging.Logger)]


def _state(logger: logging.Logger) -> _State:
    return logger.level, logger.propagate, tuple(logger.handlers)


def _restore(states: dict[logging.Logger, _State]) -> None:
    for logger in _loggers():
        level, propagate, handlers = states.get(logger, (logging.NOTSET, True, ()))
        logger.setLevel(level)
        logger.propagate = propagate
        for handler in list(logger.handlers):
            if handler not in handlers and not isinstance(handler, logging.NullHandler):
                logger.removeHandler(handler)


def _drop(_: logging.LogRecord) -> bool:
    return False
