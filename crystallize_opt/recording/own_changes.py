"""What searches of this process have changed themselves: a cache, a counter, an optimizer's state.

A search may change what was described when it began: a dict in a global name, or the attributes of
a step or a plain optimizer. In another process they are as at the beginning, in this one as some
search has left them. Neither counts as changed when a run is resumed.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from crystallize_opt.storage.description import changes

_REMEMBERED = 64
"""How many searches that changed something to remember."""

_ends: deque[tuple[_Paths, Mapping[str, Any]]] = deque(maxlen=_REMEMBERED)
"""For each of these searches, the paths at which it changed something, and its description then."""


def remember(began: Mapping[str, Any], ended: Mapping[str, Any]) -> None:
    """Remember the descriptions at the beginning and at the end of a search, if they differ."""
    if moved := changes(began, ended):
        _ends.append((_Paths(moved), ended))


def not_by_searches(found: Mapping[str, str], now: Mapping[str, Any]) -> dict[str, str]:
    """Return the changes that no search of this process has made.

    Args:
        found: The changes since a run began, by their paths.
        now: The description now.
    """
    left = dict(found)
    for moved, ended in reversed(_ends):
        made = [path for path in left if moved.touches(path)]
        if made:
            since = _Paths(changes(ended, now))
            left = {
                path: change
                for path, change in left.items()
                if path not in made or since.touches(path)
            }
    return left


class _Paths:
    """Paths of descriptions, such as `experiment.pipeline[0].code.calls`."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = set(paths)
        self._outer = {outer for path in self._paths for outer in _outer(path)}

    def touches(self, path: str) -> bool:
        """Whether a path is one of these, or lies within or around one of them."""
        return path in self._outer or not self._paths.isdisjoint(_outer(path))


def _outer(path: str) -> Iterator[str]:
    """Yield a path and all paths around it."""
    yield path
    for match in _STEP.finditer(path):
        yield path[: match.start()]


_STEP = re.compile(r"[.\[]")
