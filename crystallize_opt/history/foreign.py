"""What the readers of runs of other libraries share: notes, and points of a space or of none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from crystallize_opt.errors import InvalidParametersError
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status


class Notes:
    """Sentences about what a conversion leaves out or changes, each once and in order."""

    def __init__(self) -> None:
        self._texts: dict[str, None] = {}

    def add(self, text: str) -> None:
        """Add a sentence, unless it is known."""
        self._texts[text] = None

    def of_points(
        self, space: SearchSpace | None, observations: Iterable[Observation]
    ) -> list[str]:
        """Return all notes, with one on completed trials that are not points of the space."""
        outside = []
        for observation in observations:
            if space is not None and observation.status is Status.COMPLETED:
                try:
                    space.validate(observation.treatment.params)
                except InvalidParametersError:
                    outside.append(observation.treatment.name)
        if outside:
            self.add(
                f"{len(outside)} completed trials are not points of the space, {outside[0]!r} for "
                "example; attach(..., skip_outside=True) leaves them out."
            )
        return list(self._texts)


def point_of(space: SearchSpace | None, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters in canonical form and in the space's order, where the space has them."""
    point = dict(params)
    for name, parameter in (space or {}).items():
        if name in params:
            value = point.pop(name)
            try:
                point[name] = parameter.canonical(value)
            except InvalidParametersError:
                point[name] = value
    return point
