"""Which points of a search space have been suggested, and which are left."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from crystallize_opt.errors import SpaceExhausted
from crystallize_opt.space.space import SearchSpace

# Up to here the points of a space with conditions or constraints are counted one by one.
_COUNTABLE = 100_000


class UnseenPoints:
    """Keeps track of the points of a space that have been seen, so that none is lost or repeated.

    Args:
        space: The search space.
        rng: Draws among the points that are left.

    Example:
        >>> unseen = UnseenPoints(SearchSpace({"a": [1, 2]}), random.Random(0))
        >>> unseen.add({"a": 1}), unseen.add({"a": 1}), unseen.draw()
        (True, False, {'a': 2})
        >>> unseen.draw()
        Traceback (most recent call last):
        ...
        crystallize_opt.errors.SpaceExhausted: All 2 points of the search space ...
    """

    def __init__(self, space: SearchSpace, rng: random.Random) -> None:
        self._space = space
        self._rng = rng
        self._seen: set[Any] = set()
        self._left: list[dict[str, Any]] | None = None
        self._count = space.size
        if (space.is_conditional or space.constraints) and space.size <= _COUNTABLE:
            self._count = sum(1 for _ in space.points())

    def add(self, params: Mapping[str, Any]) -> bool:
        """Mark a point, in canonical form, as seen; return whether it was not seen before."""
        before = len(self._seen)
        self._seen.add(self._space.key(params))
        return len(self._seen) > before

    def __contains__(self, params: Mapping[str, Any]) -> bool:
        """Whether a point is left, that is, has not been seen."""
        return self._space.key(params) not in self._seen

    def require_any(self) -> None:
        """Do nothing while a point is left.

        Raises:
            SpaceExhausted: None is.
        """
        if len(self._seen) >= self._count:
            raise self._exhausted()

    def draw(self) -> dict[str, Any]:
        """Return one of the points that are left, at random, and mark it as seen.

        For when a sampler gives only points that were seen: then few are left, or the sampler is
        stuck, and listing the rest is worth it.

        Raises:
            SpaceExhausted: None is left.
            SpaceError: The space is not finite.
        """
        if self._left is None:
            self._left = list(self._space.points())
            self._rng.shuffle(self._left)
        while self._left:
            params = self._left.pop()
            if self.add(params):
                return params
        raise self._exhausted()

    def _exhausted(self) -> SpaceExhausted:
        return SpaceExhausted(
            f"All {len(self._seen)} points of the search space have been suggested."
        )
