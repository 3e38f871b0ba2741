"""Keeps what Optuna would write to stderr from there, while one of its functions runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, QMCSampler


def while_asking(sampler: BaseSampler) -> Callable[[], AbstractContextManager[None]] | None:
    """Return a context manager for the asks of a sampler that would write to stderr, or None."""
    if isinstance(sampler, GPSampler):
        # That a search has converged, or that greenlet is missing, which makes asks slower.
        return partial(without_messages_of, "optuna._gp.optim_mixed", "optuna._gp.batched_lbfgsb")
    if isinstance(sampler, QMCSampler):
        # That it draws parameters with a condition alone, for each trial of a batch.
        return partial(without_messages_of, "optuna.samplers._qmc")
    if isinstance(sampler, CmaEsSampler):
        return _without_numpys_warnings
    return None


@contextmanager
def without_messages_of(*names: str) -> Iterator[None]:
    """Suppress the messages of these loggers, and no others."""
    loggers = list(map(logging.getLogger, names))
    for logger in loggers:
        logger.addFilter(_drop)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(_drop)


def _drop(_: logging.LogRecord) -> bool:
    return False


@contextmanager
def _without_numpys_warnings() -> Iterator[None]:
    """Suppress the warnings of a learning rate that becomes nan: CMA-ES then raises an error."""
    import numpy as np  # Not at the top: if Optuna is missing, the error must name Optuna.

    with np.errstate(all="ignore"):
        yield
