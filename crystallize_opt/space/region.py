"""The part of a space that satisfies its linear constraints, where random values hardly ever do.

Where at least one of twenty random points satisfies the constraints, points that do not are simply
drawn or suggested again. Elsewhere (a mixture, `"a + b + c == 1"`; a long chain,
`"a <= b <= c <= d <= e"`; a small corner) points are drawn from the polytope itself, and the
optimizers that cannot take constraints search positions in it: see `Positions`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random
from typing import TYPE_CHECKING, Any

from crystallize_opt.errors import SpaceError
from crystallize_opt.runtime.extras import needs
from crystallize_opt.space.constraint import LinearConstraint
from crystallize_opt.space.numbers import Float, Integer
from crystallize_opt.space.parameter import RandomSource

if TYPE_CHECKING:
    from crystallize_opt.space.lattice import Solids

SearchSpace = Any  # It imports this module.

_DRAWS, _HITS = 400, 20
"""A region is narrow if fewer than a twentieth of these draws hit it."""

_PATTERNS = 200
_ATTEMPTS = 1_000


def narrow_region(space: SearchSpace) -> Region | None:
    """Return the region of a space whose random points hardly ever satisfy the constraints.

    Returns:
        The region; None if at least a twentieth of the points satisfies the constraints.

    Raises:
        SpaceError: The constraints contradict each other.
        MissingExtraError: SciPy is needed to tell, and is not installed.
    """
    source, hits = Random(0), 0  # The same draws, and so the same answer, in every process.
    for _ in range(_DRAWS):
        hits += space.satisfies_constraints(space.draw(source))
        if hits == _HITS:
            return None
    region = Region(space)
    region.check(known_points=hits > 0)
    return region


class Region:
    """The points of a space that satisfy its constraints.

    Which constraints apply depends on which parameters are active, so there is one polytope for
    each set of active constrained parameters.

    Args:
        space: A search space with linear constraints.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self.names = [
            name for name in space if any(name in each.coefficients for each in space.constraints)
        ]
        self._solids: dict[frozenset[str], Solids | None] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_solids": {}}  # They are computed again in the same way.

    @property
    def is_unconditional(self) -> bool:
        """Whether no constrained parameter has a condition, or is one's parent."""
        parents = {c.parent for each in self._space.values() for c in each.conditions}
        return not any(self._space[name].conditions or name in parents for name in self.names)

    def check(self, *, known_points: bool) -> None:
        """Check that the constraints can hold together.

        Raises:
            SpaceError: They contradict each other, whichever parameters are active.
        """
        if known_points:
            return
        source = Random(0)
        patterns: dict[frozenset[str], None] = {}
        for _ in range(1 if self.is_unconditional else _PATTERNS):
            patterns[self._pattern(self._space.draw(source))] = None
        if any(self.solids(pattern) is not None for pattern in patterns):
            return
        from crystallize_opt.space.lattice import contradicting

        applying = self._applying(next(iter(patterns)))
        named = contradicting(self._numbers(next(iter(patterns))), applying)
        texts = ", ".join(repr(each.text) for each in named)
        raise SpaceError(
            f"The linear constraints contradict each other: no point of the space satisfies {texts}"
            f"{' together' if len(named) > 1 else ''}. Change one, or widen the ranges."
        )

    def sample(self, rng: RandomSource) -> dict[str, Any]:
        """Draw a point that satisfies the constraints.

        Raises:
            SpaceError: None was found; that can happen only with conditions.
        """
        space = self._space
        for _ in range(_ATTEMPTS):
            params: dict[str, Any] = space.draw(rng)
            if space.satisfies_constraints(params):
                return params
            solids = self.solids(self._pattern(params))
            drawn = None if solids is None else solids.draw(rng)
            if drawn is None:
                continue
            params |= drawn
            if not self.is_unconditional:
                params = self._with_children(params, rng)
            if space.satisfies_constraints(params):
                return params
        raise SpaceError(
            f"{_ATTEMPTS} random points in a row violate the constraints "
            f"{[each.text for each in space.constraints]}. Narrow the ranges to where they hold."
        )

    def solids(self, pattern: frozenset[str]) -> Solids | None:
        """Return the polytope for a set of active constrained parameters; None if it is empty."""
        if pattern not in self._solids:
            with needs(
                "Linear constraints that few points satisfy need", "numpy", "scipy",
                extra="constraints",
            ):  # fmt: skip
                from crystallize_opt.space.lattice import Solids
            self._solids[pattern] = Solids.of(self._numbers(pattern), self._applying(pattern))
        return self._solids[pattern]

    @property
    def whole(self) -> Solids | None:
        """The polytope, if it does not depend on which parameters are active."""
        if not self.is_unconditional:
            return None
        return self.solids(frozenset(self.names))

    def _pattern(self, params: Mapping[str, Any]) -> frozenset[str]:
        return frozenset(name for name in self.names if name in params)

    def _applying(self, pattern: frozenset[str]) -> list[LinearConstraint]:
        return [each for each in self._space.constraints if each.coefficients.keys() <= pattern]

    def _numbers(self, pattern: Iterable[str]) -> dict[str, Float | Integer]:
        named = {name for each in self._applying(frozenset(pattern)) for name in each.coefficients}
        return {name: self._space[name] for name in self._space if name in named}

    def _with_children(self, params: Mapping[str, Any], rng: RandomSource) -> dict[str, Any]:
        """Return a point whose conditions are those of its new values."""
        point: dict[str, Any] = {}
        for name, parameter in self._space.items():
            if self._space.is_active(name, point):
                point[name] = params[name] if name in params else parameter.sample(rng)
        return point
