"""The outcomes that a search knows, so that a point suggested again need not run again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable
from typing import Any

from crystallize_opt.space.space import SearchSpace
from crystallize_opt.trials.noise import is_known
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import Treatment

_VALUES = (int, float, str, bool, type(None))


class KnownOutcomes:
    """The completed trials of one search on the seeds that all of its trials share, by their point.

    Args:
        space: The search space; None for an optimizer without one. Its treatments are then the same
            point if they have the same parameters, all of them numbers, texts, bools or None.
        seed_of: Returns the seed of a replicate, which is the same in every trial.
        required: The metrics that a completed trial has.

    Example:
        >>> known = KnownOutcomes(None, seed_of=lambda replicate: 7, required=["loss"])
        >>> known.add(Observation(Treatment("trial_0", {"x": 1}), {"loss": 0.5}))
        >>> known.of(Treatment("trial_1", {"x": 1})), known.of(Treatment("trial_2", {"x": 2}))
        (<Observation trial_0: loss=0.5, completed>, None)
    """

    def __init__(
        self,
        space: SearchSpace | None,
        seed_of: Callable[[int], int],
        required: Collection[str],
    ) -> None:
        self._key: Callable[[Any], Hashable] = _plain_key if space is None else space.key
        self._seed_of = seed_of
        self._required = required
        self._by_point: dict[Hashable, Observation] = {}
        # The point looked up last: with one trial at a time, its outcome is added next.
        self._last: tuple[Treatment | None, Hashable] = (None, None)

    def add(self, observation: Observation) -> None:
        """Add a finished trial."""
        if observation.status is not Status.COMPLETED or observation.repeats is not None:
            return
        treatment, (last, key) = observation.treatment, self._last
        if treatment is not last:
            key = self._key(treatment.params)
        if key is not None:
            first = self._by_point.setdefault(key, observation)
            if first is not observation and not self._is_known(first):
                self._by_point[key] = observation

    def of(self, treatment: Treatment) -> Observation | None:
        """Return the outcome of the trial that tried this point first, if it is known."""
        key = self._key(treatment.params)
        self._last = treatment, key
        first = self._by_point.get(key)
        return first if first is not None and self._is_known(first) else None

    def _is_known(self, observation: Observation) -> bool:
        """Whether another trial of the point would have this outcome.

        This is decided when a point is suggested again, which is seldom, and not for every trial.
        """
        return is_known(observation.checked(self._required), self._seed_of)


def _plain_key(params: dict[str, Any]) -> Hashable:
    """Return the identity of parameters; None if a value may change, or there are no parameters."""
    if not all(type(value) in _VALUES for value in params.values()):
        return None
    # `repr` distinguishes 1, 1.0 and True.
    return tuple(sorted((name, repr(value)) for name, value in params.items())) or None
