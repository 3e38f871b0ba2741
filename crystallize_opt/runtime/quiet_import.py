"""Import a large library without what the import does to the process."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_logger = logging.getLogger("crystallize_opt")


@contextmanager
def quiet_import(
    library: str, name: str, *, undoes_logging: bool = False, silences: str | None = None
) -> Iterator[None]:
    """Around an import: say that it takes seconds, and undo its side effects.

    Large libraries add warnings filters, environment variables, and handlers that write to stderr
    to their loggers.

    Args:
        library: A module of the library; where it is loaded, nothing is said.
        name: The library's name, for the message.
        undoes_logging: Whether levels and handlers of loggers are put back, too. Not for a library
            that is driven through the handlers it adds.
        silences: The name of a logger whose messages during the import are dropped.

    Example:
        >>> with quiet_import("json", "JSON"):
        ...     import json
    """
    if library not in sys.modules:
        _logger.info("Importing %s, which takes some seconds; once in a process.", name)
    loggers = {logger: _state(logger) for logger in _loggers()}
    variables = set(os.environ)
    silenced = logging.getLogger(silences) if silences else None
    if silenced is not None:
        silenced.addFilter(_drop)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if silenced is not None:
            silenced.removeFilter(_drop)
        for logger in _loggers() if undoes_logging else ():
            _restore(logger, *loggers.get(logger, (logging.NOTSET, True, ())))
        for variable in os.environ.keys() - variables:
            # scikit-learn sets these for OpenMP, which reads them when it starts, perhaps later.
            os.putenv(variable, os.environ.pop(variable))


def _drop(_: logging.LogRecord) -> bool:
    return False


def _loggers() -> list[logging.Logger]:
    known = logging.Logger.manager.loggerDict.values()
    return [logger for logger in known if isinstance(logger, logging.Logger)]


def _state(logger: logging.Logger) -> tuple[int, bool, tuple[logging.Handler, ...]]:
    return logger.level, logger.propagate, tuple(logger.handlers)


def _restore(
    logger: logging.Logger, level: int, propagate: bool, handlers: tuple[logging.Handler, ...]
) -> None:
    logger.setLevel(level)
    logger.propagate = propagate
    for handler in list(logger.handlers):
        if handler not in handlers and not isinstance(handler, logging.NullHandler):
            logger.removeHandler(handler)
