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
from typing import Any


class OwnRandomState:
    """The states of the global generators that belong to one optimizer.

    Args:
        seed: The seed of all generators.

    Example:
        >>> own = OwnRandomState(1)
        >>> with own.in_place():
        ...     first = random.random()
        >>> with own.in_place():
        ...     second = random.random()
        >>> draw = random.Random(1).random
        >>> generator = random.Random(1)
        >>> (first, second) == (generator.random(), generator.random())
        True
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._states: list[Any] | None = None  # None: the generators are not yet seeded.

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the block, the global generators have this optimizer's state."""
        callers = _states()
        if self._states is None:
            _seed(self._seed)
        else:
            _restore(self._states)
        try:
            yield
        finally:
            self._states = _states()
            _restore(callers)


@contextmanager
def alone(own: OwnRandomState) -> Iterator[None]:
    """Within the block, a library draws its own random numbers, in one thread, without warnings.

    The last bits of sums depend on the number of torch's threads, and so would the suggestions.
    """
    with own.in_place(), warnings.catch_warnings(), threads_kept():
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


def _seed(seed: int) -> None:
    random.seed(seed)
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is not None:
        numpy.random.seed(seed)
    if torch is not None:
        torch.manual_seed(seed)


def _states() -> list[Any]:
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    return [
        random.getstate(),
        None if numpy is None else numpy.random.get_state(),
        None if torch is None else torch.get_rng_state(),
    ]


def _restore(states: list[Any]) -> None:
    of_random, of_numpy, of_torch = states
    random.setstate(of_random)
    if of_numpy is not None:
        sys.modules["numpy"].random.set_state(of_numpy)
    if of_torch is not None:
        sys.modules["torch"].set_rng_state(of_torch)
