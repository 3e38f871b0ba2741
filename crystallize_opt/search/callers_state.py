"""Whose random state is in place: the caller's, or that of the trials."""

from __future__ import annotations

from collections.abc import Callable

from crystallize_opt.runtime.random_state import CallersRandomState
from crystallize_opt.workers.workers import Workers


class CallersTurn:
    """Puts the caller's `random` and numpy generators back while code runs that is not the trials'.

    Where trials run in threads that is not possible while one of them may draw.

    Args:
        state: The caller's generators, put away.
        workers: Where trials run.
        may_draw: Whether the optimizer, a callback or a stop condition might use the generators.

    Attributes:
        begin: Called before code that is not the trials', such as the optimizer's.
        end: Called after it.
    """

    def __init__(self, state: CallersRandomState, workers: Workers, *, may_draw: bool) -> None:
        self._state = state
        self._in_threads = workers.in_this_process and workers.kind is not None
        self.begin: Callable[[], None] = _nothing
        self.end: Callable[[], None] = _nothing
        if not workers.in_this_process:
            state.put_back()
        elif not self._in_threads:
            several = workers.count > 1
            if several or may_draw:
                self.begin = state.put_back
            if several:  # Else each replicate puts it away.
                self.end = state.put_away

    def begin_loop_body(self, *, trials_run: bool) -> None:
        """Called before the body of a loop over the search; `end` is called after it."""
        if not (self._in_threads and trials_run):
            self._state.put_back()


def _nothing() -> None:
    pass
