"""Grid search. Needs no other library."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from crystallize_opt.errors import SpaceExhausted, UsageError
from crystallize_opt.optimizers.capabilities import Capabilities
from crystallize_opt.optimizers.space_optimizer import SpaceOptimizer
from crystallize_opt.runtime.checks import whole_number
from crystallize_opt.space.numbers import Float
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.trials.objective import Constraint, Objective
from crystallize_opt.trials.observation import Observation


class GridOptimizer(SpaceOptimizer[None]):
    """Suggests all points of the space in order; the last parameter changes fastest.

    Args:
        space: A `SearchSpace`, or the mapping that builds one.
        objective: One objective, or several.
        constraints: Outcome constraints.
        seed: Accepted so that optimizers can be swapped in one line; a grid has no randomness.
        levels: How many values a continuous `Float` (without `step`) gets: evenly spaced, on a
            logarithmic scale if `log=True`, including both ends. A number for all parameters, or a
            mapping of names to numbers.
        duplicates: Whether to start again after the last point. If not, the search ends with
            `SpaceExhausted`, and attached points are skipped.

    Example:
        >>> grid = GridOptimizer({"x": (0.0, 1.0)}, Objective("loss", "minimize"), levels=3)
        >>> [treatment.params["x"] for treatment in grid.ask(3)]
        [0.0, 0.5, 1.0]
    """

    capabilities = Capabilities(unique_points=True)
    asks_in_a_row = None  # Skip any number of attached or enqueued points, to the grid's end.

    def __init__(
        self,
        space: SearchSpace | Mapping[str, Any],
        objective: Objective | Sequence[Objective],
        *,
        constraints: Iterable[Constraint] = (),
        seed: int | None = None,
        levels: int | Mapping[str, int] = 10,
        duplicates: bool = False,
    ) -> None:
        super().__init__(
            space,
            objective,
            constraints=constraints,
            seed=seed,
            settings={"levels": levels, "duplicates": duplicates},
            repeats="allowed" if duplicates else "never",
        )
        self.may_use_global_random_state = self.may_start_threads = False
        self.duplicates = duplicates
        self._levels = self._levels_of(levels)
        self._position = 0  # In the grid, of the next point.
        self._points = self.space.points(self._levels)

    def __getstate__(self) -> dict[str, Any]:
        # An iterator can be neither copied nor pickled.
        return {name: value for name, value in vars(self).items() if name != "_points"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._points = itertools.islice(self.space.points(self._levels), self._position, None)

    def _levels_of(self, levels: int | Mapping[str, int]) -> dict[str, list[float]]:
        continuous = {
            name: parameter
            for name, parameter in self.space.items()
            if isinstance(parameter, Float) and parameter.size == math.inf
        }
        if not isinstance(levels, Mapping):
            levels = dict.fromkeys(continuous, levels)
        if set(levels) != set(continuous):
            raise UsageError(
                f"levels= gives a number for each continuous parameter, {sorted(continuous)}, not "
                f"for {sorted(levels)}."
            )
        for name, count in levels.items():
            whole_number(f"levels= of {name!r}", count, 2)
        return {name: _spread(continuous[name], levels[name]) for name in continuous}

    def _suggest(self) -> tuple[None, dict[str, Any]]:
        params = next(self._points, None)
        if params is None and self.duplicates:
            self._position, self._points = 0, self.space.points(self._levels)
            params = next(self._points, None)
        if params is None:
            raise SpaceExhausted(
                "All points of the grid have been suggested. Use duplicates=True to begin again."
            )
        self._position += 1
        return None, params

    def _insert(self, params: Mapping[str, Any]) -> None:
        """Grid search needs no handle."""

    def _learn(self, handle: None, observation: Observation) -> None:
        """Grid search learns nothing."""


def _spread(parameter: Float, count: int) -> list[float]:
    """Return evenly spaced values of a continuous range, both ends exact."""
    inner = [
        (parameter.low ** (1 - i / (count - 1)) * parameter.high ** (i / (count - 1)))
        if parameter.log
        else parameter.low * (1 - i / (count - 1)) + parameter.high * (i / (count - 1))
        for i in range(1, count - 1)
    ]
    return [parameter.low, *inner, parameter.high]
