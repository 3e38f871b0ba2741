"""The outcome of a baseline, as `SpaceOptimizer.set_baseline` takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from crystallize_opt.errors import InvalidParametersError, UsageError
from crystallize_opt.pipeline.result import BASELINE
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import Treatment


def checked_baseline(given: Any, required: Sequence[str]) -> Observation:
    """Return the outcome of a baseline, given as an observation or as a mapping.

    Raises:
        UsageError: It is neither, it did not complete, or a required metric is no finite number.
    """
    if not isinstance(given, Observation):
        if not isinstance(given, Mapping):
            raise UsageError(
                "set_baseline() takes an Observation, or a mapping such as "
                f"{{{required[0]!r}: 0.5}}, not {given!r}."
            )
        given = Observation(Treatment(BASELINE), given)
    observation: Observation = given.checked(required)
    if observation.status is not Status.COMPLETED:
        raise UsageError(
            f"The baseline is {observation.status.value}, so that nothing can be compared with it: "
            f"{observation.error}"
        )
    return observation


def point_of(
    baseline: Observation, point: Mapping[str, Any] | None, space: SearchSpace
) -> dict[str, Any] | None:
    """Return the parameters of a baseline as a point of the space; None if they are none.

    Args:
        baseline: The outcome of the baseline.
        point: Its parameters, if they are others than those of its treatment.
        space: The search space.
    """
    if point is None:
        if baseline.treatment.function is not None:
            return None
        point = baseline.treatment.params
    try:
        return space.validate(point)
    except InvalidParametersError:
        return None
