"""On which processors a thread runs, where the system lets a thread choose (Linux).

The threads of the service hand Python's lock to each other many times for a request. Between two
processors that takes so long that the service answers more requests when they share one
(`benchmarks/service_load.py`). Optimizers that may start threads use all, and those do, too.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Set as AbstractSet

_ALL: AbstractSet[int] = os.sched_getaffinity(0) if sys.platform == "linux" else frozenset()


def share_one() -> None:
    """Let this thread, and those it starts, run on the one processor that they share."""
    if _ALL:
        _set({sorted(_ALL)[os.getpid() % len(_ALL)]})


def use_all() -> None:
    """Let this thread, and those it starts, run on all processors that the process had."""
    _set(_ALL)


def _set(processors: AbstractSet[int]) -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # Some containers forbid it: then it is only slower.
            os.sched_setaffinity(0, processors)
