"""Samplers that take a study's place for one trial, and the state of TPE for resumed searches."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler


class GivenValues(BaseSampler):
    """Replaces a study's sampler while a trial with given values is asked or told.

    Args:
        stored: The values, as the study stores them.
    """

    def __init__(self, stored: Mapping[str, Any]) -> None:
        self._stored = stored

    def infer_relative_search_space(self, *_: Any) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(self, *_: Any) -> dict[str, Any]:
        return {}

    def sample_independent(self, study: Any, trial: Any, name: str, distribution: Any) -> Any:
        return self._stored[name]


class Alone(BaseSampler):
    """Draws every parameter alone, as another sampler draws those that it cannot model.

    Args:
        sampler: The other sampler.
    """

    def __init__(self, sampler: BaseSampler) -> None:
        self._sampler = sampler

    def before_trial(self, *args: Any) -> None:
        self._sampler.before_trial(*args)

    def infer_relative_search_space(self, *_: Any) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(self, *_: Any) -> dict[str, Any]:
        return {}

    def sample_independent(self, *args: Any) -> Any:
        return self._sampler.sample_independent(*args)


def state_of(sampler: BaseSampler) -> str | None:
    """Return the state on which a sampler's next suggestion depends besides the trials, or None.

    For TPE the state is that of its random generators. It is not known for other samplers, nor for
    grouped TPE, which keeps more state than that.
    """
    if type(sampler) is not TPESampler or sampler._group:  # noqa: SLF001
        return None
    return json.dumps([_written(generator) for generator in generators_of(sampler)])


def restore(sampler: BaseSampler, state: str) -> None:
    """Restore a state that `state_of` returned."""
    for generator, written in zip(generators_of(sampler), json.loads(state), strict=True):
        _restore(generator, written)


def generators_of(sampler: Any) -> list[Any]:
    """Return the numpy generators of a TPE sampler."""
    return [sampler._rng.rng, sampler._random_sampler._rng.rng]  # noqa: SLF001


def _written(generator: Any) -> dict[str, Any]:
    state = generator.get_state(legacy=False)
    key = state["state"]["key"].astype("<u4").tobytes().hex()
    return {**state, "state": {"key": key, "pos": int(state["state"]["pos"])}}


def _restore(generator: Any, written: dict[str, Any]) -> None:
    import numpy as np  # Not at the top: if Optuna is missing, the error must name Optuna.

    key = np.frombuffer(bytes.fromhex(written["state"]["key"]), "<u4")
    if len(key) != 624 or not 0 <= written["state"]["pos"] <= 624:  # numpy does not check this.
        raise ValueError("this is no state of a Mersenne Twister")
    generator.set_state({**written, "state": {**written["state"], "key": key}})
