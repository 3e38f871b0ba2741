"""Import SMAC without what the import does to the process."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing_smac() -> Iterator[None]:
    """Say that an import takes seconds, and undo its side effects.

    SMAC imports dask, distributed, bokeh, tornado, pandas and scikit-learn. They add warnings
    filters, handlers that write to stderr to their loggers, and environment variables.
    """
    if "smac" not in sys.modules:
        logging.getLogger("crystallize_opt").info(
            "Importing SMAC, which takes some seconds; once in a process."
        )
    loggers = {logger: _state(logger) for logger in _loggers()}
    variables = set(os.environ)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger in _loggers():
            _restore(logger, *loggers.get(logger, (logging.NOTSET, True, ())))
        for name in os.environ.keys() - variables:
            # scikit-learn sets these for OpenMP, which reads them when it starts, perhaps later.
            os.putenv(name, os.environ.pop(name))


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
