"""Give pipelines private global random generators, and restore the caller's afterwards.

The state of `random` is saved and restored. For numpy's legacy global generator (which
`numpy.random.rand` uses, say), the bit generator is swapped for a private one: that takes a
microsecond; restoring its state takes fifty.

This package never imports numpy. If a step is the first to import it, the import itself is watched,
and numpy's global generator is then as if numpy had been imported before.
"""

from __future__ import annotations

import random
import sys
from importlib.machinery import ModuleSpec
from threading import RLock
from types import ModuleType
from typing import Any, Self

_spare_bit_generators: list[Any] = []
_put_away: list[CallersRandomState] = []
_lock = RLock()  # Reentrant: an import of numpy may come while this thread holds it.


def seed_global_random_state(seed: int) -> None:
    """Seed `random` and numpy's global generator; the latter when numpy is imported, if it is not.

    Args:
        seed: A seed in [0, 2**32).
    """
    random.seed(seed)
    numpy_random = _numpy_random()
    if numpy_random is not None:
        numpy_random.seed(seed)
    elif _put_away:
        _put_away[-1]._numpy_seed = seed  # noqa: SLF001


class CallersRandomState:
    """Saves the caller's global generators and restores them, any number of times.

    Between `put_away` and `put_back`, the global generators are private. `put_back` restores
    exactly the state that `put_away` found. The context manager does both around its body.

    Several objects may be in use at once: nested (a step that runs an experiment), or side by side
    (two searches awaited together); these share the private generators.

    Example:
        >>> random.seed(1)
        >>> with CallersRandomState():
        ...     seed_global_random_state(7)
        >>> random.random() == random.Random(1).random()
        True
    """

    __slots__ = ("_numpy_seed", "_python_state", "_swapped")

    def __init__(self) -> None:
        self._numpy_seed: int | None = None
        self._python_state: Any = None
        self._swapped: _SwappedBitGenerator | None = None

    def put_away(self) -> None:
        """Make the global generators private. A second call does nothing."""
        if self._python_state is not None:
            return
        numpy_random = _numpy_random()  # May import it, which must not happen under the lock.
        with _lock:
            self._python_state = random.getstate()
            if numpy_random is not None:
                self._swapped = _SwappedBitGenerator(numpy_random)
            elif not _put_away:
                sys.meta_path.insert(0, _watch)
            _put_away.append(self)

    def put_back(self) -> None:
        """Restore the caller's global generators. A second call does nothing."""
        if self._python_state is None:
            return
        with _lock:
            position = _put_away.index(self)
            if self is _put_away[-1]:
                random.setstate(self._python_state)
                if self._swapped is not None:
                    self._swapped.undo()
            else:
                # Objects that began later are still in use. The next one found, and would restore,
                # the private generators of this object: let it restore the caller's instead.
                later = _put_away[position + 1]
                later._python_state = self._python_state  # noqa: SLF001
                later._swapped = self._swapped or later._swapped  # noqa: SLF001
            del _put_away[position]
            self._python_state = self._swapped = self._numpy_seed = None
            if not _put_away:
                _watch.end()

    def __enter__(self) -> Self:
        self.put_away()
        return self

    def __exit__(self, *exception: object) -> None:
        self.put_back()


class _SwappedBitGenerator:
    """numpy's global generator with a private bit generator instead of the caller's."""

    __slots__ = ("_callers", "_gauss", "_numpy_random", "_private")

    def __init__(self, numpy_random: ModuleType) -> None:
        state = numpy_random.get_state(legacy=False)
        self._numpy_random = numpy_random
        self._callers = numpy_random.get_bit_generator()
        self._gauss = state["gauss"] if state["has_gauss"] else None
        self._private = (
            _spare_bit_generators.pop() if _spare_bit_generators else numpy_random.MT19937()
        )
        numpy_random.set_bit_generator(self._private)

    def undo(self) -> None:
        numpy_random = self._numpy_random
        numpy_random.set_bit_generator(self._callers)
        _spare_bit_generators.append(self._private)
        if self._gauss is not None:
            # Legacy normal variates (`numpy.random.randn`) come in pairs. Swapping loses the second
            # of a pair, so restore it.
            state = numpy_random.get_state(legacy=False)
            numpy_random.set_state(state | {"has_gauss": 1, "gauss": self._gauss})


class _NumpyWatch:
    """A finder of modules that lets the others find `numpy.random`, and waits for its import.

    It is on `sys.meta_path` while generators are put away and numpy is not imported.
    """

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != "numpy.random":
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        specs = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            execute = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                del loader.exec_module
                execute(module)
                self._imported(module)

            loader.exec_module = exec_module
        return spec

    def _imported(self, numpy_random: ModuleType) -> None:
        """Do for all generators that are put away what `put_away` would have done with numpy."""
        with _lock:
            self.end()
            for state in _put_away:
                state._swapped = _SwappedBitGenerator(numpy_random)  # noqa: SLF001
                if state._numpy_seed is not None:  # noqa: SLF001
                    numpy_random.seed(state._numpy_seed)  # noqa: SLF001

    def end(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)


_watch = _NumpyWatch()


def _numpy_random() -> ModuleType | None:
    numpy = sys.modules.get("numpy")
    return getattr(numpy, "random", None)
