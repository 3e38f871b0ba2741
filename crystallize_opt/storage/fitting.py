"""Which trials of an earlier part of a run fit today's space, objectives and constraints.

A run that continues with `resume="attach"` may have other ones than before. This module alone
decides which of its trials the optimizer learns, and as what:

- A parameter that the trial lacks takes its default. A parameter that the space no longer has must
  have had its default. Otherwise the trial does not fit, nor does a point outside of the space.
- A trial that lacks a metric that was not required when the trial ran does not fit, nor does one
  whose metric was reduced to another value (`Objective(reduce="last")` became `"min"`). All others
  are judged anew: one is invalid if a metric that is required today is not a finite number.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crystallize_opt.errors import InvalidParametersError
from crystallize_opt.space.parameter import Parameter
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.trials.objective import Reduction
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import Treatment


@dataclass(frozen=True)
class Goals:
    """The space of a part of a run, and what its completed trials have.

    Attributes:
        space: The space; None if it is unknown.
        reductions: The required metrics, and how each one's values in a replicate became one.
    """

    space: SearchSpace | None
    reductions: Mapping[str, Reduction | None]

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that a completed trial has."""
        return tuple(self.reductions)


def fitted(observation: Observation, before: Goals, now: Goals) -> Observation:
    """Return a trial as it is seen under other goals.

    Args:
        observation: The trial.
        before: The goals under which the trial ran.
        now: Today's goals.

    Raises:
        InvalidParametersError: The trial does not fit; the message says why.
    """
    treatment = observation.treatment
    if now.space is not None:
        point = _point(treatment, before.space, now.space)
        observation = dataclasses.replace(observation, treatment=Treatment(treatment.name, point))
    new = [m for m in now.metrics if m not in before.metrics and m not in observation.metrics]
    if new and (observation.status.has_value or observation.status is Status.INVALID):
        raise InvalidParametersError(f"it has no metric {new[0]!r}")
    for metric, how in now.reductions.items():
        was = before.reductions.get(metric)
        if None not in (how, was) and how != was and metric in observation.metrics:
            raise InvalidParametersError(
                f"its {metric!r} is the {was} of the values, not the {how}"
            )
    if observation.status is Status.INVALID:
        completed = dataclasses.replace(observation, status=Status.COMPLETED, error=None)
        if completed.checked(before.metrics).status is Status.INVALID:
            return completed.checked(now.metrics)
    return observation.checked(now.metrics)


def _point(treatment: Treatment, before: SearchSpace | None, now: SearchSpace) -> dict[str, Any]:
    given = dict(treatment.params)
    point: dict[str, Any] = {}
    for name, parameter in now.items():
        if not now.is_active(name, point):
            continue
        if name in given:
            point[name] = given.pop(name)
        elif parameter.has_default:
            point[name] = parameter.default
        else:
            raise InvalidParametersError(f"it has no {name!r}, which has no default")
    for name, value in given.items():
        parameter_before = None if before is None else before.get(name)
        if parameter_before is None or not _is_default(parameter_before, value):
            raise InvalidParametersError(f"{name!r} is not searched any more, and was {value!r}")
    return now.validate(point)


def _is_default(parameter: Parameter, value: Any) -> bool:
    if not parameter.has_default:
        return False
    return parameter.identity(value) == parameter.identity(parameter.default)
