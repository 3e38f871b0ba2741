"""A bounded polytope: coordinates that fill it, the nearest point inside, and uniform draws.

The module needs numpy, so it is imported only where few points of a space satisfy its constraints.

A projection (Fourier-Motzkin elimination) gives, for each variable, the interval that the variables
before it leave. A point is then a position from 0 to 1 in each interval, and every position is a
point: that is what optimizers search. Draws are made by hit-and-run: Smith, "Efficient Monte Carlo
procedures for generating points uniformly distributed over bounded regions", Operations Research
32 (1984).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from crystallize_opt.space.parameter import RandomSource

Array = np.ndarray[Any, np.dtype[np.float64]]

_MOST_ROWS = 2_000  # The number of inequalities may double with each eliminated variable.
_TINY = 1e-12
# Inequalities contradict each other if they do by more than the slack of `LinearConstraint.holds`.
_SLACK = 1e-9
_POPULATION = 1_000
_KNOTS = 41


class ContradictionError(Exception):
    """No point satisfies the inequalities."""


class Polytope:
    """The points with `rows @ point <= bounds` in a box.

    Args:
        rows: One inequality a row.
        bounds: The right-hand sides.
        low: The lowest value of each variable.
        high: The highest values.
        log_origin: For each variable that is to be uniform on a logarithmic scale, the number to
            add to the variable before the logarithm is taken; nan for other variables.

        corners: Returns some corners. They are needed for draws if there are no intervals.

    Attributes:
        has_intervals: Whether the intervals could be computed: they have too many sides where many
            constraints share many variables. Then points can be drawn, but have no positions.

    Raises:
        ContradictionError: There is no such point.
    """

    def __init__(
        self,
        rows: Array,
        bounds: Array,
        low: Array,
        high: Array,
        log_origin: Array,
        corners: Callable[[], Array],
    ) -> None:
        count = len(low)
        self.count = count
        self._log_origin = log_origin
        self._is_log = ~np.isnan(log_origin)
        # Steps towards larger numbers are often refused where the density falls.
        self._slowness = 5 if self._is_log.any() else 1
        identity = np.eye(count)
        self._rows = np.vstack([rows, identity, -identity])
        self._bounds = np.concatenate([bounds, high, -low])
        self._width = np.maximum(high - low, _TINY)
        # Compute in units of the box, with the origin in its lowest corner.
        self._low, self._high = low, high
        self._corners = corners
        self._levels = _projections(self._rows * self._width, self._bounds - self._rows @ low)
        self.has_intervals = len(self._levels) == count

    # Intervals ------------------------------------------------------------------------------------

    def interval(self, index: int, before: Array) -> tuple[Array, Array]:
        """Return the lowest and the highest value of a variable.

        Args:
            index: The number of the variable.
            before: The values of the variables before it, as columns: one row for each point.
        """
        below, above = self._levels[index]
        units = (before - self._low[:index]) / self._width[:index]
        low = np.max(below[:, -1] - units @ below[:, :-1].T, axis=-1)
        high = np.min(above[:, -1] - units @ above[:, :-1].T, axis=-1)
        # If only one value is left, rounding may swap the two.
        middle = np.where(low > high, (low + high) / 2, low)
        low, high = middle, np.maximum(middle, high)
        start, width = self._low[index], self._width[index]
        return (
            np.clip(start + low * width, start, self._high[index]),
            np.clip(start + high * width, start, self._high[index]),
        )

    def clipped(self, points: Array) -> Array:
        """Return points inside: each variable is moved into the interval that those before leave.

        A point that is inside stays as it is.
        """
        inside = np.array(points, dtype=float)
        for index in range(self.count if self.has_intervals else 0):
            low, high = self.interval(index, inside[..., :index])
            inside[..., index] = np.clip(inside[..., index], low, high)
        return inside

    # Positions ------------------------------------------------------------------------------------

    def share(self, index: int, value: Any, low: Any, high: Any) -> Any:
        """Return where a value lies in an interval, from 0 to 1."""
        if self._is_log[index]:
            value, low, high = (
                np.log(each + self._log_origin[index]) for each in (value, low, high)
            )
        return np.clip((value - low) / np.maximum(high - low, _TINY), 0.0, 1.0)

    def value(self, index: int, share: Any, low: Any, high: Any) -> Any:
        """Return the value at a share of an interval."""
        if self._is_log[index]:
            origin = self._log_origin[index]
            one, other = np.log(low + origin), np.log(high + origin)
            return np.clip(np.exp(one * (1 - share) + other * share) - origin, low, high)
        return np.clip(low * (1 - share) + high * share, low, high)

    def share_at(self, index: int, position: Any) -> Any:
        """Return the share of its interval at a position: uniform positions give uniform points."""
        return np.interp(position, _PLACES, self._quantiles[index])

    def position_at(self, index: int, share: Any) -> Any:
        """Return the position of a share; the inverse of `share_at`."""
        return np.interp(share, self._quantiles[index], _PLACES)

    def at(self, positions: Array, *, even: bool = True) -> Array:
        """Return the points at positions.

        Args:
            positions: From 0 to 1, one column for each variable.
            even: Whether uniform positions give almost uniform points, not uniform shares.
        """
        points = np.empty_like(positions)
        for index in range(self.count):
            low, high = self.interval(index, points[..., :index])
            share = positions[..., index]
            if even:
                share = self.share_at(index, share)
            points[..., index] = self.value(index, share, low, high)
        return points

    @cached_property
    def _quantiles(self) -> Array:
        """For each variable, the quantiles of its shares among uniform points.

        Without them, the first variables of a mixture would get most of it. For mixtures and chains
        the shares are independent of each other, so that uniform positions are uniform points.
        """
        points = self.population
        found = np.empty((self.count, _KNOTS))
        for index in range(self.count):
            low, high = self.interval(index, points[:, :index])
            shares = self.share(index, points[:, index], low, high)
            quantiles = np.quantile(shares, _PLACES)
            quantiles[0], quantiles[-1] = 0.0, 1.0
            # A strictly increasing function can be inverted.
            found[index] = 0.999 * quantiles + 0.001 * _PLACES
        return found

    @cached_property
    def is_determined(self) -> list[bool]:
        """Whether each variable has one value only, given the variables before it."""
        points = self.population
        found: list[bool] = []
        for index in range(self.count if self.has_intervals else 0):
            low, high = self.interval(index, points[:, :index])
            found.append(bool(np.all(high - low <= _SLACK * self._width[index])))
        return found

    # Draws ----------------------------------------------------------------------------------------

    @cached_property
    def population(self) -> Array:
        """Points that are spread uniformly over the polytope, the same in every process."""
        rng = np.random.default_rng(0)
        if self.has_intervals:
            points = self.at(rng.random((_POPULATION, self.count)), even=False)
        else:
            corners = self._corners()
            points = rng.dirichlet(np.ones(len(corners)), _POPULATION) @ corners
        for _ in range((100 + 20 * self.count) * self._slowness):
            # Differences of points have the shape of the polytope, and keep its equalities.
            order = rng.permutation(_POPULATION)
            directions = points[order] - points[rng.permutation(order)]
            points = self._step(points, directions, rng.random((2, _POPULATION)))
        return self.clipped(points)

    def draw(self, rng: RandomSource) -> Array:
        """Draw a point uniformly, by hit-and-run from a point that is almost uniform."""
        population = self.population
        if self.has_intervals:
            start = np.array([float(rng.random()) for _ in range(self.count)])
            point = self.at(start)[np.newaxis]
        else:
            point = population[[int(float(rng.random()) * _POPULATION)]]
        for _ in range((10 + 3 * self.count) * self._slowness):
            one, other, *uniform = (float(rng.random()) for _ in range(4))
            direction = population[int(one * _POPULATION)] - population[int(other * _POPULATION)]
            point = self._step(point, direction[np.newaxis], np.array(uniform)[:, np.newaxis])
        return self.clipped(point[0])

    def _step(self, points: Array, directions: Array, uniform: Array) -> Array:
        """Move points to random places on lines through them."""
        speed = directions @ self._rows.T
        room = np.maximum(self._bounds - points @ self._rows.T, 0.0)
        # A side that is parallel to a line, as those of an equality are, does not end it.
        scale = np.abs(directions) @ np.abs(self._rows).T
        parallel = np.abs(speed) <= 1e-9 * scale
        with np.errstate(divide="ignore", invalid="ignore"):
            ends = np.where(parallel, np.nan, room / speed)
        ahead = np.nanmin(np.where(speed > 0, ends, np.inf), axis=1, initial=np.inf)
        behind = np.nanmax(np.where(speed < 0, ends, -np.inf), axis=1, initial=-np.inf)
        stays = ~(np.isfinite(ahead) & np.isfinite(behind))
        ahead, behind = np.where(stays, 0.0, ahead), np.where(stays, 0.0, behind)
        length = behind + uniform[0] * (ahead - behind)
        moved: Array = points + length[:, np.newaxis] * directions
        if self._is_log.any():
            origin = self._log_origin[self._is_log]
            before, after = points[:, self._is_log] + origin, moved[:, self._is_log] + origin
            density = np.prod(before / np.maximum(after, _TINY), axis=1)
            moved = np.where((uniform[1] < density)[:, np.newaxis], moved, points)
        return moved


# Positions from 0 to 1, closer to each other at both ends, where shares may be far apart.
_PLACES = np.sin(np.linspace(0.0, np.pi / 2, _KNOTS)) ** 2


def _projections(rows: Array, bounds: Array) -> list[tuple[Array, Array]]:
    """Eliminate one variable after the other, the last one first.

    Returns:
        For each variable, its lower and upper bounds: rows `(factors, constant)` for the bound
        `constant - factors @ before`. Nothing if there are too many.
    """
    table = _tidy(np.column_stack([rows, bounds]))
    levels: list[tuple[Array, Array]] = []
    for index in range(rows.shape[1] - 1, -1, -1):
        factor = table[:, index]
        above, below, rest = table[factor > _TINY], table[factor < -_TINY], abs(factor) <= _TINY
        above = above / above[:, index : index + 1]
        below = below / below[:, index : index + 1]
        kept = [*range(index), -1]
        levels.append((below[:, kept], above[:, kept]))
        if len(above) * len(below) > 50 * _MOST_ROWS:
            return []
        pairs = above[:, np.newaxis, :] - below[np.newaxis, :, :]
        table = _tidy(np.vstack([table[rest], pairs.reshape(-1, table.shape[1])])[:, kept])
        if len(table) > _MOST_ROWS:
            return []
    return levels[::-1]


def _tidy(table: Array) -> Array:
    """Scale inequalities, and leave out those that follow from another one or from the box.

    Raises:
        ContradictionError: An inequality is never satisfied.
    """
    factors = table[:, :-1]
    largest = np.max(np.abs(factors), axis=1, initial=0.0)
    empty = largest <= 1e-11
    if np.any(table[empty, -1] < -_SLACK):
        raise ContradictionError
    table = table[~empty] / largest[~empty, np.newaxis]
    factors = table[:, :-1]
    # Keep the sides of the box themselves: rows with one factor.
    highest = np.sum(np.maximum(factors, 0.0), axis=1)
    lowest = np.sum(np.minimum(factors, 0.0), axis=1)
    if np.any(lowest > table[:, -1] + _SLACK * np.sum(np.abs(factors), axis=1)):
        raise ContradictionError
    single = np.count_nonzero(np.abs(factors) > _TINY, axis=1) == 1
    table = table[single | (highest > table[:, -1] + _TINY)]
    # Of parallel inequalities, keep the tightest.
    order = np.argsort(table[:, -1], kind="stable")
    table = table[order]
    _, first = np.unique(np.round(table[:, :-1], 9), axis=0, return_index=True)
    return table[np.sort(first)]
