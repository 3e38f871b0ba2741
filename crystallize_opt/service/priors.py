"""Priors of parameters: where a client expects good values to be.

The optimizers of this package know no priors. So the first suggestions of an experiment with priors
are drawn from them, as SigOpt's first suggestions were; the optimizer learns from those, and goes
on by itself. In an experiment of the type `random`, every suggestion is drawn from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from crystallize_opt.space.space import SearchSpace

_TRIES = 1000


def drawn_first(definition: Mapping[str, Any]) -> float:
    """Return how many suggestions of an experiment are drawn from its priors."""
    if all(each["prior"] is None for each in definition["parameters"]):
        return 0
    if definition["type"] == "random":
        return float("inf")
    return max(4, 2 * len(definition["parameters"]))


def draw(
    definition: Mapping[str, Any], space: SearchSpace, seed: int, number: int
) -> dict[str, Any]:
    """Return a point whose parameters with a prior are drawn from it; the others are uniform.

    Args:
        definition: The experiment.
        space: Its space.
        seed: The seed of the experiment.
        number: The number of the suggestion: each has random numbers of its own.
    """
    rng = Random(f"{seed}/{number}")
    for _ in range(_TRIES):
        point = space.sample(rng)
        for each in definition["parameters"]:
            if each["prior"] is not None and each["name"] in point:
                point[each["name"]] = _draw(each, rng)
        if space.satisfies_constraints(point):
            return point
    return space.sample(rng)


def _draw(parameter: Mapping[str, Any], rng: Random) -> float:
    low, high = float(parameter["bounds"]["min"]), float(parameter["bounds"]["max"])
    prior = parameter["prior"]
    if prior["name"] == "beta":
        value = low + (high - low) * rng.betavariate(prior["shape_a"], prior["shape_b"])
        return min(max(value, low), high)
    for _ in range(_TRIES):
        value = rng.gauss(prior["mean"], prior["scale"])
        if low <= value <= high:
            return value
    return min(max(float(prior["mean"]), low), high)
