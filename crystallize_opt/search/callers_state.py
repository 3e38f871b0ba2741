"""Switches `random` and numpy between the random state of the caller and that of the trials."""

from __future__ import annotations

from collections.abc import Callable

from crystallize_opt.runtime.random_state import CallersRandomState
from crystallize_opt.workers.workers import Workers


class CallersTurn:
    """Restores the caller's `random` and numpy generators while code outside of trials runs.

    If trials run in threads, the generators stay those of the trials: a trial may draw at any time.

    Args:
        state: The caller's generators, put away.
        workers: The workers that run the trials.
        may_draw: Whether the optimizer, a callback or a stop condition might use the generators.

    Attributes:
        begin: Called before code outside of trials runs, such as a method of the optimizer.
        end: Called after that code.
    """

    def __init__(self, state: CallersRandomState, workers: Workers, *, may_draw: bool) -> None:
        self._state = state
        self._in_threads = workers.are_threads
        self.begin: Callable[[], None] = _nothing
        self.end: Callable[[], None] = _nothing
        if not workers.in_this_process:
            state.put_back()
        elif not self._in_threads:
            several = workers.count > 1
            if several or may_draw:
                self.begin = state.put_back
            if several:  # With one trial at a time, each replicate puts the state away.
                self.end = state.put_away

    def begin_loop_body(self, *, trials_run: bool) -> None:
        """Restore the caller's state for the body of a loop over the search; then call `end`."""
        if not (self._in_threads and trials_run):
            self._state.put_back()


def _nothing() -> None:
    pass
