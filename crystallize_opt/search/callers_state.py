"""What surrounds code outside of trials: the caller's random state, and an end for forks."""

from __future__ import annotations

from collections.abc import Callable

from crystallize_opt.runtime.owner import Owner, end_fork
from crystallize_opt.runtime.random_state import CallersRandomState
from crystallize_opt.workers.workers import Workers


class CallersTurn:
    """Restores the caller's `random` and numpy generators while code outside of trials runs.

    A context manager around such code: a method of the optimizer, a callback, a stop condition. A
    child that the code has forked ends where it leaves the `with` block.

    If trials run in threads, the generators stay those of the trials: a trial may draw at any time.

    Args:
        state: The caller's generators, put away.
        workers: The workers that run the trials.
        may_draw: Whether the optimizer, a callback or a stop condition might use the generators.

    """

    def __init__(self, state: CallersRandomState, workers: Workers, *, may_draw: bool) -> None:
        self._state = state
        self._in_threads = workers.are_threads
        self._owner = Owner()
        self._begin: Callable[[], None] | None = None
        self._end: Callable[[], None] | None = None
        if not workers.in_this_process:
            state.put_back()
        elif not self._in_threads:
            several = workers.count > 1
            if several or may_draw:
                self._begin = state.put_back
            if several:  # With one trial at a time, each replicate puts the state away.
                self._end = state.put_away

    def __enter__(self) -> None:
        if self._begin is not None:
            self._begin()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not self._owner.is_here:
            end_fork(error)
        if self._end is not None:
            self._end()

    def begin_loop_body(self, *, trials_run: bool) -> None:
        """Restore the caller's state for the body of a loop over the search."""
        if not (self._in_threads and trials_run):
            self._state.put_back()

    def end_loop_body(self) -> None:
        """Note that the body of a loop over the search has ended."""
        if self._end is not None:
            self._end()
