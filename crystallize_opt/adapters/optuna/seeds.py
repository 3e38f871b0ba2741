"""Seeds the random generators of samplers that were built without a seed.

An optimizer draws a seed if it is given none, and a stored run keeps that seed. A sampler without a
seed is seeded with it, so that the run can be resumed exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from optuna.samplers import BaseSampler, QMCSampler
from optuna.samplers._lazy_random_state import LazyRandomState


class Unseeded:
    """The generators of a sampler that have no seed.

    Args:
        sampler: A fresh sampler.
    """

    def __init__(self, sampler: BaseSampler) -> None:
        parts = list(_parts(sampler, set()))
        self._generators = [
            part
            for part in parts
            if isinstance(part, LazyRandomState) and part._rng is None  # noqa: SLF001
        ]
        # A QMC sampler without a seed draws one at once; its sampler of single values does not.
        self._sequences = [
            part
            for part in parts
            if isinstance(part, QMCSampler)
            and any(each in self._generators for each in _parts(part, set()))
        ]
        for sequence in self._sequences:  # Not a setting, which a resumed run would compare.
            sequence._seed = 0  # noqa: SLF001

    def seed(self, seed: int) -> None:
        """Seed them, also a second time."""
        for generator in self._generators:
            generator.rng.seed(seed)
        for sequence in self._sequences:
            sequence._seed = seed  # noqa: SLF001


def _parts(part: Any, seen: set[int]) -> Iterator[Any]:
    """Yield an object of Optuna and all its parts."""
    if id(part) in seen or not type(part).__module__.startswith("optuna."):
        return
    seen.add(id(part))
    yield part
    for inner in list(vars(part).values()) if hasattr(part, "__dict__") else ():
        yield from _parts(inner, seen)
