"""Random search. Needs no other library."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from crystallize_opt.errors import SpaceExhausted, UsageError
from crystallize_opt.optimizers.capabilities import Capabilities
from crystallize_opt.optimizers.space_optimizer import SpaceOptimizer
from crystallize_opt.runtime.random_state import CallersRandomState, seed_global_random_state
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.space.unseen import UnseenPoints
from crystallize_opt.trials.objective import Constraint, Objective
from crystallize_opt.trials.observation import Observation

# After this many repeats in a row the points that are left are listed, and drawn from.
_ATTEMPTS = 50
# An infinite space cannot be listed. Its new points are rare where a continuous parameter is seldom
# active: one choice of a thousand, of which the others have been suggested.
_ATTEMPTS_IN_INFINITE_SPACE = 100_000


class RandomOptimizer(SpaceOptimizer[None]):
    """Draws points at random, each point once.

    Args:
        space: A `SearchSpace`, or the mapping that builds one.
        objective: One objective, or several.
        constraints: Outcome constraints.
        seed: The same seed gives the same points, in any process.
        duplicates: Whether a point may be drawn again. If not, a finite space ends with
            `SpaceExhausted` when all of its points have been suggested or attached.
        sampler: A function `sampler(space, seed)` that returns a point, used instead of the uniform
            distribution. It gets the space as you gave it and a seed for this draw; `random` and
            numpy's global generator are seeded with it too, and put back afterwards. Without
            `duplicates`, 50 repeats in a row end the search.

    Example:
        >>> optimizer = RandomOptimizer({"x": (0.0, 1.0)}, Objective("loss", "minimize"), seed=0)
        >>> (treatment,) = optimizer.ask()
        >>> optimizer.tell({"loss": treatment.params["x"] ** 2})
        >>> optimizer.get_best_treatment() is treatment
        True
    """

    capabilities = Capabilities(unique_points=True)

    def __init__(
        self,
        space: SearchSpace | Mapping[str, Any],
        objective: Objective | Sequence[Objective],
        *,
        constraints: Iterable[Constraint] = (),
        seed: int | None = None,
        duplicates: bool = False,
        sampler: Callable[[Any, int], Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(space, objective, constraints=constraints, seed=seed)
        if sampler is not None and not callable(sampler):
            raise UsageError(f"sampler= takes a function sampler(space, seed), not {sampler!r}.")
        self.duplicates = duplicates
        self.may_use_global_random_state = sampler is not None
        self._sampler = sampler
        self._given_space = space
        self._rng = random.Random(self.seed)
        self._unseen = UnseenPoints(self.space, self._rng)

    def _suggest(self) -> tuple[None, dict[str, Any]]:
        if self.duplicates:
            return None, self._draw()
        listed = self._sampler is None and self.space.size < math.inf
        endless = self._sampler is None and not listed
        attempts = _ATTEMPTS_IN_INFINITE_SPACE if endless else _ATTEMPTS
        for _ in range(attempts):
            params = self._draw()
            if self._unseen.add(params):
                return None, params
            self._unseen.require_any()
        if listed:
            return None, self._unseen.draw()
        raise SpaceExhausted(
            f"{attempts} draws in a row gave only points that were suggested before. Use "
            "duplicates=True to allow them."
        )

    def _draw(self) -> dict[str, Any]:
        if self._sampler is None:
            return self.space.sample(self._rng)
        seed = self._rng.randrange(2**32)
        with CallersRandomState():
            seed_global_random_state(seed)
            return self.space.validate(self._sampler(self._given_space, seed))

    def _learn(self, handle: None, observation: Observation) -> None:
        """Random search learns nothing."""

    def _learn_attached(self, observation: Observation) -> None:
        self._unseen.add(self.space.validate(observation.treatment.params))
