"""The points of a search space that have been suggested, and the points that are left."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

from crystallize_opt.errors import SpaceExhausted
from crystallize_opt.space.space import SearchSpace

LISTED = 100_000
"""The size up to which the points of a space are counted and listed one by one.

Nothing else bounds listing. A listed point takes about 5 µs and 300 bytes.
"""

# In larger spaces, draws seldom find a new point if few points are left, or if a parameter with
# many values is seldom active: under one choice of a thousand, of which all others have been seen.
_DRAWS_IN_A_ROW = 100_000


class UnseenPoints:
    """Records which points of a space have been seen, so that none is lost or repeated.

    Args:
        space: The search space. Its fidelity does not distinguish points.
        rng: Chooses among the points that are left.

    Attributes:
        is_finite: Whether the space has a finite number of points.

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
        self._fidelity = space.fidelity
        if space.fidelity is not None:
            space = space.without_fidelity
        self._space = space
        self._rng = rng
        self._seen: set[Any] = set()
        self._left: list[dict[str, Any]] | None = None
        self._count = space.size
        self.is_finite = space.size < math.inf
        if (space.is_conditional or space.constraints) and space.size <= LISTED:
            self._count = sum(1 for _ in space.points())

    @property
    def left(self) -> float:
        """How many points are left; of a large space with conditions or constraints, at most."""
        return self._count - len(self._seen)

    def add(self, params: Mapping[str, Any]) -> bool:
        """Mark a point, in canonical form, as seen; return whether it was not seen before."""
        if self._fidelity is not None:
            params = {name: value for name, value in params.items() if name != self._fidelity}
        key = self._space.key(params)
        if key in self._seen:
            return False
        self._seen.add(key)
        return True

    def require_any(self) -> None:
        """Do nothing while a point is left.

        Raises:
            SpaceExhausted: No point is left.
        """
        if len(self._seen) >= self._count:
            raise self._exhausted()

    def draw(self) -> dict[str, Any]:
        """Return a random point that is left, and mark it as seen.

        For samplers that suggest only seen points. A small space is listed; in a larger one, points
        are drawn until one is new.

        Raises:
            SpaceExhausted: No point is left, or too few are left to find one.
        """
        self.require_any()
        if self._space.size > LISTED:
            for _ in range(_DRAWS_IN_A_ROW):
                params = self._space.sample(self._rng)
                if self.add(params):
                    return params
            raise SpaceExhausted(
                f"{_DRAWS_IN_A_ROW} random points in a row were among the {len(self._seen)} points "
                "that have already been suggested."
            )
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
