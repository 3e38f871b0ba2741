"""Positions in a narrow region, for optimizers that cannot take its constraints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from crystallize_opt.space.lattice import Solids, whole_interval
from crystallize_opt.space.numbers import Float
from crystallize_opt.space.parameter import Parameter
from crystallize_opt.space.space import SearchSpace


def positions_in(space: SearchSpace) -> Positions | None:
    """Return the positions in a space's narrow region; None if it has none.

    There are none if the region is not narrow, if conditions decide which constraints apply, or if
    the intervals of the positions have too many sides.
    """
    whole = None if space.region is None else space.region.whole
    if whole is None or not whole.polytope.has_intervals:
        return None
    return Positions(space, whole)


class Positions:
    """Replaces the constrained numbers of a space by positions in the intervals that are left.

    The first constrained number has the interval that all points of the region span; each further
    one has the interval that the numbers before leave it. A position goes from 0 to 1. So every
    point of the new space, which has no constraints, is a point of the region, and every point of
    the region has its positions. The positions are spaced so that random ones give (almost) uniform
    points of the region. A number that the others determine, like the last part of a mixture, has
    no position.

    Args:
        space: A space with a narrow region, whose constraints have no conditions.
        solids: The values that satisfy the constraints.

    Attributes:
        space: The space that an optimizer searches instead.
    """

    def __init__(self, space: SearchSpace, solids: Solids) -> None:
        self._whole = space
        self._solids = solids
        positioned = {
            name
            for name, determined in zip(solids.names, solids.polytope.is_determined, strict=True)
            if not determined
        }
        constrained = {*solids.names, *solids.fixed}
        # Other names, because a position in a backend's records is not the number itself.
        self._names = {name: f"position of {name}" for name in positioned}
        kept: dict[str, Parameter] = {}
        for name, parameter in space.items():
            if name in positioned:
                kept[self._names[name]] = Float(0.0, 1.0)
            elif name not in constrained:
                kept[name] = parameter
        self.space = SearchSpace(kept)

    def decode(self, suggested: Mapping[str, Any]) -> dict[str, Any]:
        """Return the point at the positions of a suggestion."""
        solids, polytope = self._solids, self._solids.polytope
        point = np.empty(len(solids.names))
        for index, name in enumerate(solids.names):
            low, high = polytope.interval(index, point[:index])
            share = 0.5
            if name in self._names:
                share = float(polytope.share_at(index, suggested[self._names[name]]))
            if not solids.grid[index]:
                point[index] = polytope.value(index, share, low, high)
                continue
            low, high = whole_interval(low, high)
            if low > high:  # What the numbers before leave holds no value of the grid.
                point[index:] = solids.polytope.at(np.full(len(point), 0.5))[index:]
                return self._ordered(suggested, solids.repaired(point))
            value = float(polytope.value(index, share, low - 0.5, high + 0.5))
            point[index] = min(max(round(value), low), high)
        values = solids.values(point)
        if not solids.holds(values):
            values = solids.repaired(point)
        return self._ordered(suggested, values)

    def encode(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the positions of a point of the region."""
        solids, polytope = self._solids, self._solids.polytope
        point = solids.point(params)
        found: dict[str, Any] = {}
        for index, name in enumerate(solids.names):
            low, high = polytope.interval(index, point[:index])
            if solids.grid[index]:
                low, high = whole_interval(low, high)
                low, high = low - 0.5, high + 0.5
            share = polytope.share(index, point[index], low, high)
            if name in self._names:
                found[self._names[name]] = float(polytope.position_at(index, share))
        found |= {name: value for name, value in params.items() if name in self.space}
        return {name: found[name] for name in self.space if name in found}

    def _ordered(self, suggested: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
        """Return a point in the order of the whole space, with the values that are constrained."""
        return {
            name: values[name] if name in values else suggested[name]
            for name in self._whole
            if name in values or name in suggested
        }
