"""The fidelity of a space as the last step of a trial, for backends that end trials early.

Such a backend has no fidelity: it compares trials at the steps of their learning curves, such as
epochs, and ends those that fall behind. So each trial gets the highest fidelity, and the backend
neither sees nor chooses it. A completed trial of a lower fidelity, which was attached or enqueued,
is reported as one that was pruned at that step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from crystallize_opt.errors import UnsupportedSpaceError
from crystallize_opt.space.numbers import Integer
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status


class LastStep:
    """The fidelity of a space, which is the last step of each trial.

    Args:
        who: The name of the optimizer.
        space: The space.
        name: The name of its fidelity.

    Raises:
        UnsupportedSpaceError: The fidelity is no `Integer`, and steps are whole numbers.
    """

    def __init__(self, who: str, space: SearchSpace, name: str) -> None:
        parameter = space[name]
        if not isinstance(parameter, Integer):
            raise UnsupportedSpaceError(
                f"{who} cannot take {name!r}, {parameter!r}: the fidelity is the last step that a "
                "trial reports, and steps are whole numbers. Make it an Integer. SMACOptimizer("
                "..., facade=smac.MultiFidelityFacade) takes a Float."
            )
        self._space, self._name, self._highest = space, name, parameter.high

    def without(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return some or all parameters of a point as the backend has them."""
        return {name: value for name, value in params.items() if name != self._name}

    def added_to(self, params: Mapping[str, Any], value: int | None = None) -> dict[str, Any]:
        """Return a point of the backend as one of the space; by default of the highest fidelity."""
        everything = {**params, self._name: self._highest if value is None else value}
        return {name: everything[name] for name in self._space if name in everything}

    def of(self, params: Mapping[str, Any]) -> int:
        """Return the fidelity of a point."""
        value: int = params[self._name]
        return value

    def ended_at(self, observation: Observation) -> int | None:
        """Return the step at which a completed trial of a lower fidelity ended."""
        value = self.of(observation.treatment.params)
        completed = observation.status is Status.COMPLETED
        return value if completed and value < self._highest else None


def pruned(observation: Observation) -> Observation:
    """Return a completed observation as one that was pruned."""
    return dataclasses.replace(observation, status=Status.PRUNED)
