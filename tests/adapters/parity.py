"""What every comparison of an optimizer with its library's own loop needs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from crystallize_opt import SpaceExhausted, SpaceOptimizer


def any_loss(params: Mapping[str, Any]) -> float:
    """A loss that depends on every parameter, whatever its type."""
    total = 0.0
    for position, value in enumerate(params.values()):
        number = value if isinstance(value, (int, float)) else len(repr(value))
        total += math.atan(number - position) ** 2
    return total


def search(optimizer: SpaceOptimizer[Any], trials: int) -> list[dict[str, Any]]:
    """Ask and tell, up to the end of a finite space, and return the points."""
    suggested: list[dict[str, Any]] = []
    for _ in range(trials):
        try:
            (treatment,) = optimizer.ask()
        except SpaceExhausted:
            break
        suggested.append(dict(treatment.params))
        optimizer.tell({"loss": any_loss(treatment.params)})
    return suggested


def exactly(points: Iterable[Mapping[str, Any]]) -> list[list[tuple[str, type, str]]]:
    """Names, types and values: 1, 1.0 and True are three values, and every bit counts."""
    return [[(name, type(v), repr(v)) for name, v in point.items()] for point in points]
