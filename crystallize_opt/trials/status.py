"""How a trial ended."""

from __future__ import annotations

import enum
from functools import cached_property
from typing import Any

from crystallize_opt.errors import UsageError


class Status(enum.StrEnum):
    """How a trial ended. Each status means the same for every backend."""

    COMPLETED = "completed"
    """The trial ran, and every objective is a finite number."""
    FAILED = "failed"
    """The trial raised an exception."""
    INVALID = "invalid"
    """The trial ran, but an objective is nan, infinite, missing or not a number."""
    TIMED_OUT = "timed out"
    """The trial reached its time limit and was killed."""
    OUT_OF_MEMORY = "out of memory"
    """The trial ran out of memory, or reached its memory limit and was killed."""
    WORKER_DIED = "worker died"
    """The process that ran the trial died."""
    PRUNED = "pruned"
    """The backend ended the trial early, because it was not promising."""
    ABANDONED = "abandoned"
    """The trial was given up for a reason that says nothing about its parameters."""

    @cached_property
    def has_value(self) -> bool:
        """Whether the trial has values: it completed, or was pruned with its values so far."""
        return self is Status.COMPLETED or self is Status.PRUNED

    @cached_property
    def has_failed(self) -> bool:
        """Whether the trial itself failed: it has no values, and was not abandoned."""
        return not (self.has_value or self is Status.ABANDONED)

    @cached_property
    def may_be_retried(self) -> bool:
        """Whether a retry may succeed: the trial failed, but not with an invalid result."""
        return self.has_failed and self is not Status.INVALID


def as_status(given: Any) -> Status:
    """Return a status; it may be given as its text, `"failed"`.

    Raises:
        UsageError: There is no such status.
    """
    try:
        return Status(given)
    except ValueError:
        raise UsageError(
            f"{given!r} is not a status. Statuses are: {', '.join(map(repr, map(str, Status)))}."
        ) from None
