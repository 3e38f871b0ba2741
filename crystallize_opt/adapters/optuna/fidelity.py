"""The fidelity of a space is the highest step that a trial reports; a pruner ends trials before.

Optuna has no fidelity. Its `HyperbandPruner` and `SuccessiveHalvingPruner` compare trials at the
steps of their learning curves, such as epochs. So each trial gets the highest fidelity, which is no
parameter of the study. A completed trial of a lower fidelity, which was attached or enqueued, is
reported as PRUNED at that step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.pruners import BasePruner, PatientPruner

from crystallize_opt.adapters.optuna.samplers import ends_by_curves
from crystallize_opt.errors import UnsupportedSpaceError, UsageError
from crystallize_opt.space.numbers import Integer
from crystallize_opt.space.parameter import Parameter
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.trials.observation import Observation, Status


class HighestStep:
    """The fidelity of a space, for a pruner.

    Args:
        name: The name of the parameter.
        parameter: The parameter.
        pruner: The pruner.

    Attributes:
        name: The name of the parameter.
        highest: Its highest value.

    Raises:
        UnsupportedSpaceError: The fidelity is no `Integer`, or the pruner compares no steps.
        UsageError: The pruner counts other steps.
    """

    def __init__(self, name: str, parameter: Parameter, pruner: BasePruner | None) -> None:
        if not isinstance(parameter, Integer) or not ends_by_curves(pruner):
            given = "no pruner" if pruner is None else type(pruner).__name__
            raise UnsupportedSpaceError(
                f"OptunaOptimizer with {given} cannot take {name!r}, {parameter!r}: an Integer can "
                "be the highest step that a trial reports, and a pruner that compares steps ends "
                f"trials before. Give pruner=optuna.pruners.{_example(parameter)}. SMACOptimizer("
                "..., facade=smac.MultiFidelityFacade) can take it, too. Or search with one value: "
                f"space.fixed({{{name!r}: {getattr(parameter, 'high', None)!r}}})."
            )
        while isinstance(pruner, PatientPruner):
            pruner = pruner._wrapped_pruner  # noqa: SLF001  (Optuna shows it nowhere)
        _check_resources(pruner, name, parameter)
        self.name, self.highest = name, parameter.high

    def added_to(
        self, point: Mapping[str, Any], space: SearchSpace, value: int | None = None
    ) -> dict[str, Any]:
        """Return a point with the fidelity, in the order of a space; by default the highest."""
        everything = {**point, self.name: self.highest if value is None else value}
        return {name: everything[name] for name in space if name in everything}

    def ended_at(self, observation: Observation) -> int | None:
        """Return the fidelity of a completed trial if it is lower than the highest one."""
        value: int = observation.treatment.params[self.name]
        completed = observation.status is Status.COMPLETED
        return value if completed and value < self.highest else None


def _check_resources(pruner: BasePruner | None, name: str, fidelity: Integer) -> None:
    """Check that Hyperband or successive halving counts the steps that the fidelity has."""
    counted = [getattr(pruner, f"_{each}_resource", None) for each in ("min", "max")]
    wanted = (fidelity.low, fidelity.high)
    if any(have not in (None, "auto", want) for have, want in zip(counted, wanted, strict=True)):
        given = ", ".join(
            f"{each}_resource={have!r}"
            for each, have in zip(("min", "max"), counted, strict=True)
            if have is not None
        )
        kind = type(pruner).__name__
        raise UsageError(
            f"pruner={kind}({given}) counts other steps than {name!r}, {fidelity!r}, has. Give "
            f"optuna.pruners.{_example(fidelity, kind)}."
        )


def _example(fidelity: Parameter, kind: str = "HyperbandPruner") -> str:
    low, high = (fidelity.low, fidelity.high) if isinstance(fidelity, Integer) else (1, 27)
    most = f", max_resource={high}" if kind == "HyperbandPruner" else ""
    return f"{kind}(min_resource={low}{most})"
