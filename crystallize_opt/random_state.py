"""Give pipelines global random generators of their own, and put the caller's back afterwards.

`random` is saved and restored. Of numpy's legacy global generator (`numpy.random.rand` and so on)
the bit generator is swapped for a private one, which takes a microsecond where saving and restoring
its state takes a hundred. numpy is only looked up where it is already imported.
"""

from __future__ import annotations

import random
import sys
from types import ModuleType
from typing import Any, Self

_spare_bit_generators: list[Any] = []


def seed_global_random_state(seed: int) -> None:
    """Seed `random`, and numpy's global generator where numpy is loaded.

    Args:
        seed: At least 0 and less than 2**32.
    """
    random.seed(seed)
    numpy_random = _numpy_random()
    if numpy_random is not None:
        numpy_random.seed(seed)


class CallersRandomState:
    """The caller's global generators, which can be put away and put back any number of times.

    As a context manager it puts them away for the body, and in the end leaves them exactly as they
    were, unless the caller's own code drew from them while they were back.

    Example:
        >>> random.seed(1)
        >>> with CallersRandomState():
        ...     seed_global_random_state(7)
        >>> random.random() == random.Random(1).random()
        True
    """

    def __init__(self) -> None:
        self._python_state: Any = None
        self._numpy_random: ModuleType | None = None
        self._bit_generator: Any = None
        self._private: Any = None
        self._numpy_state: Any = None

    def put_away(self) -> None:
        """From here on the global generators are private ones. Does nothing a second time."""
        if self._python_state is None:
            self._python_state = random.getstate()
        if self._private is None and (numpy_random := _numpy_random()) is not None:
            if self._numpy_state is None:
                self._numpy_random = numpy_random
                self._numpy_state = numpy_random.get_state(legacy=False)
            self._bit_generator = numpy_random.get_bit_generator()
            spare = _spare_bit_generators
            self._private = spare.pop() if spare else numpy_random.MT19937()
            numpy_random.set_bit_generator(self._private)

    def put_back(self) -> None:
        """From here on the global generators are the caller's. Does nothing a second time."""
        if self._python_state is not None:
            random.setstate(self._python_state)
            self._python_state = None
        if self._numpy_random is not None and self._private is not None:
            self._numpy_random.set_bit_generator(self._bit_generator)
            _spare_bit_generators.append(self._private)
            self._private = None

    def __enter__(self) -> Self:
        self.put_away()
        return self

    def __exit__(self, *exception: object) -> None:
        self.put_back()
        before, numpy_random = self._numpy_state, self._numpy_random
        if numpy_random is not None and before["has_gauss"]:
            # Swapping forgets the second half of a pair of legacy normal variates that the caller
            # has drawn (`numpy.random.randn`).
            after = numpy_random.get_state(legacy=False)
            if repr(before["state"]) == repr(after["state"]):
                numpy_random.set_state(before)


def _numpy_random() -> ModuleType | None:
    numpy = sys.modules.get("numpy")
    return getattr(numpy, "random", None)
