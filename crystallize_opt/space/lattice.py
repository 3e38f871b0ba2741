"""Polytopes of numbers of a space: `Float` and `Integer`, with a step, and on a log scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
from scipy.optimize import Bounds, linprog, milp
from scipy.optimize import LinearConstraint as Rows

from crystallize_opt.space.constraint import LinearConstraint
from crystallize_opt.space.numbers import Float, Integer
from crystallize_opt.space.parameter import RandomSource
from crystallize_opt.space.polytope import Array, ContradictionError, Polytope

Numbers = Mapping[str, Float | Integer]

_DRAWS = 50
_ROUNDING = 1e-9


class Solids:
    """The values of several numbers that satisfy linear constraints.

    Numbers on a grid (whole numbers, or those with a step) are counted in steps, and come first:
    the others then fill what the grid leaves.

    Attributes:
        names: The names of the numbers, those on a grid first.
    """

    def __init__(self, numbers: Numbers, constraints: Sequence[LinearConstraint]) -> None:
        free = {name: each for name, each in numbers.items() if each.size > 1}
        self.names = sorted(free, key=lambda name: not _is_grid(free[name]))  # stable
        self.parameters = [free[name] for name in self.names]
        self.grid = np.array([_is_grid(each) for each in self.parameters], dtype=bool)
        self.fixed = {name: each.low for name, each in numbers.items() if each.size == 1}
        # A number is origin + unit * coordinate.
        self._origin = np.array([float(each.low) for each in self.parameters])
        self._unit = np.array(
            [
                float(each.step or 1) if on_grid else 1.0
                for each, on_grid in zip(self.parameters, self.grid, strict=True)
            ]
        )
        self._high = np.array(
            [
                each.size - 1.0 if on_grid else float(each.high) - float(each.low)
                for each, on_grid in zip(self.parameters, self.grid, strict=True)
            ]
        )
        self._constraints = list(constraints)
        self._rows = np.zeros((len(constraints), len(self.names)))
        self._bounds = np.zeros(len(constraints))
        for number, each in enumerate(constraints):
            factors = np.array([each.coefficients.get(name, 0.0) for name in self.names])
            rest = math.fsum(
                factor * self.fixed[name]
                for name, factor in each.coefficients.items()
                if name in self.fixed
            )
            self._rows[number] = factors * self._unit
            self._bounds[number] = each.bound - rest - factors @ self._origin

    @classmethod
    def of(cls, numbers: Numbers, constraints: Sequence[LinearConstraint]) -> Solids | None:
        """Return the values that satisfy the constraints; None if there are none."""
        solids = cls(numbers, constraints)
        return solids if solids.is_feasible else None

    @cached_property
    def is_feasible(self) -> bool:
        """Whether there is such a point."""
        try:
            _ = self.polytope
        except ContradictionError:
            return False
        return self.nearest(np.zeros(len(self.names))) is not None

    @cached_property
    def polytope(self) -> Polytope:
        """The polytope, in which the numbers on a grid may also lie between its values."""
        low = np.zeros(len(self.names))
        return self._polytope(self._bounds, low, self._high)

    @cached_property
    def _widened(self) -> Polytope:
        """The polytope with half a step on all sides: every value of the grid has a cell in it."""
        half = 0.5 * self.grid
        pure = ~(np.abs(self._rows[:, ~self.grid]) > 0).any(axis=1)
        bounds = self._bounds + pure * (np.abs(self._rows) @ half)
        return self._polytope(bounds, -half, self._high + half)

    def _polytope(self, bounds: Array, low: Array, high: Array) -> Polytope:
        origin = [
            float(each.low) / unit if each.log else math.nan
            for each, unit in zip(self.parameters, self._unit, strict=True)
        ]
        return Polytope(
            self._rows,
            bounds,
            low,
            high,
            np.array(origin, dtype=float),
            partial(_corners, self._rows, bounds, low, high),  # It pickles; a lambda does not.
        )

    # Points ---------------------------------------------------------------------------------------

    def values(self, point: Array) -> dict[str, Any]:
        """Return the numbers at a point, in plain Python and within their ranges."""
        found: dict[str, Any] = dict(self.fixed)
        for name, parameter, on_grid, origin, coordinate in zip(
            self.names,
            self.parameters,
            self.grid,
            self._origin.tolist(),
            point.tolist(),
            strict=True,
        ):
            if on_grid:
                found[name] = parameter.value_at(round(coordinate))
            else:
                found[name] = min(max(origin + coordinate, parameter.low), parameter.high)
        return found

    def point(self, values: Mapping[str, Any]) -> Array:
        """Return the point of numbers; the inverse of `values`."""
        return np.array(
            [
                float(parameter.index(values[name])) if on_grid else values[name] - origin
                for name, parameter, on_grid, origin in zip(
                    self.names, self.parameters, self.grid, self._origin, strict=True
                )
            ]
        )

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether numbers satisfy the constraints."""
        return all(each.holds(values) for each in self._constraints)

    def inside(self, point: Array) -> Array | None:
        """Return a point inside, near the given one; None if the grid has no value there.

        One number after the other is moved into the interval that those before leave.
        """
        inside = np.array(point, dtype=float)
        if not self.polytope.has_intervals:
            return inside
        for index, on_grid in enumerate(self.grid):
            low, high = self.polytope.interval(index, inside[:index])
            if on_grid:
                low, high = whole_interval(low, high)
                if low > high:
                    return None
                inside[index] = np.round(inside[index])
            inside[index] = np.clip(inside[index], low, high)
        return inside

    def draw(self, rng: RandomSource) -> dict[str, Any]:
        """Draw numbers, uniformly but for those on a grid that share a constraint with others."""
        polytope = self._widened if self.grid.any() else self.polytope
        for _ in range(_DRAWS):
            drawn = polytope.draw(rng)
            point = np.where(self.grid, np.round(drawn), drawn)
            inside = self.inside(point)
            # Take a point of the grid only from its own cell: all cells are of one size.
            if inside is not None and np.array_equal(inside[self.grid], point[self.grid]):
                values = self.values(inside)
                if self.holds(values):
                    return values
        return self.repaired(drawn)

    def repaired(self, point: Array) -> dict[str, Any]:
        """Return the numbers nearest to a point that is not feasible."""
        nearest = self.nearest(point)
        if nearest is None:
            raise AssertionError(f"{self.names!r} have no feasible values near {point!r}.")
        return self.values(nearest)

    def nearest(self, point: Array) -> Array | None:
        """Return a point that satisfies the constraints near a given one; None if there is none.

        A mixed-integer program minimizes the sum of the distances. SciPy's solver allows a
        violation of 1e-7, so numbers that are not on the grid are then moved inside.
        """
        count = len(self.names)
        if not count:
            return np.zeros(0) if self.holds(self.fixed) else None
        identity = np.eye(count)
        apart = np.vstack(
            [
                np.hstack([self._rows, np.zeros_like(self._rows)]),
                np.hstack([identity, -identity]),
                np.hstack([-identity, -identity]),
            ]
        )
        found = milp(
            np.concatenate([np.zeros(count), 1 / np.maximum(self._high, 1e-300)]),
            constraints=Rows(apart, -np.inf, np.concatenate([self._bounds, point, -point])),
            bounds=Bounds(0.0, np.concatenate([self._high, np.full(count, np.inf)])),
            integrality=np.concatenate([self.grid, np.zeros(count)]),
        )
        if found.x is None:
            return None
        solution: Array = found.x[:count]
        return self.inside(np.where(self.grid, np.round(solution), solution))


def contradicting(
    numbers: Numbers, constraints: Sequence[LinearConstraint]
) -> list[LinearConstraint]:
    """Return the constraints that contradict each other, and would not without any one of them."""
    named = list(constraints)
    for each in constraints:
        others = [other for other in named if other is not each]
        if Solids.of(numbers, others) is None:
            named = others
    return named


def _corners(rows: Array, bounds: Array, low: Array, high: Array) -> Array:
    """Return corners of a polytope in random directions, the same in every process."""
    directions = np.random.default_rng(0).normal(size=(20 + 2 * len(low), len(low)))
    width = np.maximum(high - low, 1e-300)
    box = np.column_stack([low, high])
    found = [linprog(each / width, rows, bounds, bounds=box).x for each in directions]
    return np.array([corner for corner in found if corner is not None])


def _is_grid(parameter: Float | Integer) -> bool:
    return parameter.size < math.inf


def whole_interval(low: Any, high: Any) -> tuple[Any, Any]:
    """Return the lowest and the highest whole number in an interval, but for a rounding."""
    slack = _ROUNDING * max(1.0, abs(float(low)), abs(float(high)))
    return np.ceil(low - slack), np.floor(high + slack)
