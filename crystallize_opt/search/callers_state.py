"""What surrounds code outside of trials: the caller's random state, and an end for forks."""

from __future__ import annotations

from typing import Self

from crystallize_opt.runtime.owner import Owner
from crystallize_opt.runtime.random_state import CallersRandomState
from crystallize_opt.workers.workers import Workers


class CallersTurn(Owner):
    """Restores the caller's `random` and numpy generators while code outside of trials runs.

    A context manager around such code: a method of the optimizer, a callback, a stop condition. A
    child that the code has forked ends where it leaves the `with` block.

    This class restores them once if the trials run in other processes. If trials run in threads,
    the generators stay those of the trials: a trial may draw at any time. `of` returns a turn that
    restores them each time if that is needed.

    Args:
        state: The caller's generators, put away.
        workers: The workers that run the trials.
    """

    __slots__ = ("_in_threads", "_state")

    def __init__(self, state: CallersRandomState, workers: Workers) -> None:
        super().__init__()
        self._state = state
        self._in_threads = workers.are_threads
        if not workers.in_this_process:
            state.put_back()

    @staticmethod
    def of(state: CallersRandomState, workers: Workers, *, may_draw: bool) -> CallersTurn:
        """Return what surrounds code outside of trials.

        Args:
            state: The caller's generators, put away.
            workers: The workers that run the trials.
            may_draw: Whether the optimizer, a callback or a stop condition might use them.
        """
        if not workers.in_this_process or workers.are_threads:
            return CallersTurn(state, workers)
        if workers.count > 1:
            return _AmongTrials(state, workers)
        return _BetweenTrials(state, workers) if may_draw else CallersTurn(state, workers)

    def begin_loop_body(self, *, trials_run: bool) -> None:
        """Restore the caller's state for the body of a loop over the search."""
        if not (self._in_threads and trials_run):
            self._state.put_back()

    def end_loop_body(self) -> None:
        """Note that the body of a loop over the search has ended."""


class _BetweenTrials(CallersTurn):
    """Restores the generators each time; the next replicate puts them away."""

    __slots__ = ()

    def __enter__(self) -> Self:
        self._state.put_back()
        return self


class _AmongTrials(_BetweenTrials):
    """Restores the generators each time, and puts them away: other trials are in progress."""

    __slots__ = ()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        super().__exit__(kind, error, trace)
        self._state.put_away()

    def end_loop_body(self) -> None:
        self._state.put_away()
