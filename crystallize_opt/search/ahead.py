"""Trials that are asked for ahead, while every worker is busy: `Workers(ask_ahead=True)`.

The optimizer is asked in the thread of the search. While it works, workers finish trials; each of
them then takes a trial that was asked for ahead, without the search. The more trials are ahead, the
less the optimizer knows when it is asked: so there are as many as workers can finish in the time of
one ask.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol

from crystallize_opt.workers.trial import Trial

_RECENT_ASKS = 4


class Parallel(Protocol):
    """Who evaluates trials: `Workers`, or the clients of a service."""

    @property
    def count(self) -> int:
        """How many trials run at once."""


class Ahead:
    """The trials that were started while every worker was busy, and how many there are to be.

    Args:
        workers: The workers.

    Attributes:
        trials: The trials that no worker has taken yet, as far as the search knows, in order.
    """

    def __init__(self, workers: Parallel) -> None:
        self.trials: deque[Trial] = deque()
        self._workers = workers
        self._asks: deque[float] = deque(maxlen=_RECENT_ASKS)
        self._runs: deque[float] = deque(maxlen=2 * workers.count)

    @property
    def most(self) -> int:
        """How many trials to start, those that run included.

        The slowest of the last asks takes as long as the fastest of the last trials needs for a
        share of its run. That share of the workers may finish meanwhile.
        """
        count = self._workers.count
        if not self._runs or not self._asks:
            return count + 1
        run = min(self._runs)
        share = max(self._asks) / run if run > 0 else 1.0
        return count + max(1, math.ceil(count * min(share, 1.0)))

    @property
    def count(self) -> int:
        """How many trials run at once."""
        return self._workers.count

    def asked(self, seconds: float) -> None:
        """Note how long an ask took."""
        self._asks.append(seconds)

    def ran(self, seconds: float | None) -> None:
        """Note how long a trial ran, if that is known."""
        if seconds is not None:
            self._runs.append(seconds)
