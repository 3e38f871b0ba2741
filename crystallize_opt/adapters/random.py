"""Random search. Needs no other library."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from crystallize_opt.errors import UsageError
from crystallize_opt.optimizers.capabilities import Capabilities
from crystallize_opt.optimizers.space_optimizer import SpaceOptimizer
from crystallize_opt.runtime.random_state import CallersRandomState, seed_global_random_state
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.trials.objective import Constraint, Objective
from crystallize_opt.trials.observation import Observation

_ONLY_REPEATS = (
    "50 draws in a row gave only points that were suggested before. Use duplicates=True to allow "
    "them."
)


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
            distribution. It receives the `space` argument and a seed for this draw. `random` and
            numpy's global generator are also seeded with that seed, and restored afterwards.
            Without `duplicates`, 50 repeats in a row end the search.

    Example:
        >>> optimizer = RandomOptimizer({"x": (0.0, 1.0)}, Objective("loss", "minimize"), seed=0)
        >>> (treatment,) = optimizer.ask()
        >>> optimizer.tell({"loss": treatment.params["x"] ** 2})
        >>> optimizer.get_best_treatment() is treatment
        True
    """

    capabilities = Capabilities(unique_points=True)
    asks_in_a_row = 50  # After 50 repeats in a row, draw from the points that are left.

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
        if sampler is not None and not callable(sampler):
            raise UsageError(f"sampler= takes a function sampler(space, seed), not {sampler!r}.")
        super().__init__(
            space,
            objective,
            constraints=constraints,
            seed=seed,
            settings={"duplicates": duplicates, "sampler": sampler},
            repeats="allowed" if duplicates else "never",
            gives_up=None if sampler is None else _ONLY_REPEATS,
        )
        self.duplicates = duplicates
        self.may_use_global_random_state = self.may_start_threads = sampler is not None
        self._sampler = sampler
        self._given_space = space

    def _suggest(self) -> tuple[None, dict[str, Any]]:
        if self._sampler is None:
            return None, self.space.sample(self._rng)
        seed = self._rng.randrange(2**32)
        with CallersRandomState():
            seed_global_random_state(seed)
            return None, self.space.validate(self._sampler(self._given_space, seed))

    def _insert(self, params: Mapping[str, Any]) -> None:
        """Random search needs no handle."""

    def _learn(self, handle: None, observation: Observation) -> None:
        """Random search learns nothing."""
