"""Global random generators for libraries that have no other: each optimizer has its own state.

The state of `random`, numpy's and torch's generators is the optimizer's while its library is
called; afterwards it is the caller's again. So neither changes the numbers of the other.
"""

from __future__ import annotations

import random
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any, Self

from crystallize_opt.runtime.random_state import CallersRandomState, seed_global_random_state

_one_thread = RLock()


class OwnRandomState:
    """Global generators of one object, whose library draws from them.

    In the body of the context manager, `random` and numpy's global generator (and torch's, if
    wanted) have the state that the body before has left; afterwards, they have the caller's again.
    Only one thread at a time is in such a body, because the generators belong to the process.

    Args:
        seed: A seed in [0, 2**32) for all of them.
        torch: Whether the library draws from torch's generator, too. Only that of the CPU is kept.

    Example:
        >>> own = OwnRandomState(7)
        >>> random.seed(1)
        >>> with own:
        ...     drawn = [random.random()]
        >>> random.random() == random.Random(1).random()
        True
        >>> with own:
        ...     drawn.append(random.random())
        >>> expected = random.Random(7)
        >>> drawn == [expected.random(), expected.random()]
        True
    """

    def __init__(self, seed: int, *, torch: bool = False) -> None:
        self._seed: int | None = seed
        self._has_torch = torch
        self._states: tuple[Any, Any, Any] = (None, None, None)
        self._callers = CallersRandomState()
        self._callers_torch: Any = None

    def __enter__(self) -> Self:
        import numpy.random  # A library that draws from global generators has imported it.

        _one_thread.acquire()
        try:
            torch = self._torch()
            self._callers.put_away()
            if torch is not None:
                self._callers_torch = torch.get_rng_state()
            if self._seed is None:
                random.setstate(self._states[0])
                numpy.random.set_state(self._states[1])
                if torch is not None:
                    torch.set_rng_state(self._states[2])
            else:
                seed_global_random_state(self._seed)
                if torch is not None:
                    torch.default_generator.manual_seed(self._seed)
                self._seed = None
        except BaseException:
            self._callers.put_back()
            _one_thread.release()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        import numpy.random

        try:
            torch = self._torch()
            self._states = (
                random.getstate(),
                numpy.random.get_state(legacy=False),
                None if torch is None else torch.get_rng_state(),
            )
            if torch is not None:
                torch.set_rng_state(self._callers_torch)
                self._callers_torch = None
        finally:
            self._callers.put_back()
            _one_thread.release()

    def _torch(self) -> Any:
        if not self._has_torch:
            return None
        import torch

        return torch


@contextmanager
def alone(own: OwnRandomState) -> Iterator[None]:
    """Within the block, a library draws its own random numbers, in one thread, without warnings.

    The last bits of sums depend on the number of torch's threads, and so would the suggestions. The
    lock of `own` also guards the warnings filters and the number of threads.
    """
    with own, warnings.catch_warnings(), threads_kept():
        warnings.simplefilter("ignore")
        sys.modules["torch"].set_num_threads(1)
        yield


@contextmanager
def threads_kept() -> Iterator[None]:
    """Restore the number of torch's threads after the block, even if a library sets it."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        import torch  # A library that needs it is about to import it anyway.
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
