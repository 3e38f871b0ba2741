"""Refuses a fidelity that is not what a pruner counts: the steps of a trial."""

from __future__ import annotations

from optuna.pruners import BasePruner, PatientPruner

from crystallize_opt.adapters.optuna.samplers import ends_by_curves
from crystallize_opt.errors import UnsupportedSpaceError, UsageError
from crystallize_opt.space.numbers import Integer
from crystallize_opt.space.parameter import Parameter
from crystallize_opt.space.space import SearchSpace


def refuse_fidelity(space: SearchSpace, pruner: BasePruner | None) -> None:
    """Check that a pruner ends trials before they reach the space's fidelity.

    Raises:
        UnsupportedSpaceError: The pruner compares no steps.
        UsageError: Hyperband or successive halving counts other steps than the fidelity has.
    """
    if (name := space.fidelity) is None:
        return
    fidelity = space[name]
    if not ends_by_curves(pruner):
        given = "no pruner" if pruner is None else type(pruner).__name__
        raise UnsupportedSpaceError(
            f"OptunaOptimizer with {given} cannot take {name!r}, {fidelity!r}: it is the last step "
            "that a trial reports, and a pruner that compares steps ends trials before. Give "
            f"pruner=optuna.pruners.{_example(fidelity)}. SMACOptimizer(..., "
            "facade=smac.MultiFidelityFacade) can take it, too. Or search with one value: "
            f"space.fixed({{{name!r}: {getattr(fidelity, 'high', None)!r}}})."
        )
    if not isinstance(fidelity, Integer):
        return  # `LastStep` refuses it.
    while isinstance(pruner, PatientPruner):
        pruner = pruner._wrapped_pruner  # noqa: SLF001  (Optuna shows it nowhere)
    counted = {each: getattr(pruner, f"_{each}_resource", None) for each in ("min", "max")}
    wanted = {"min": fidelity.low, "max": fidelity.high}
    if any(have not in (None, "auto", wanted[each]) for each, have in counted.items()):
        kind = type(pruner).__name__
        given = ", ".join(f"{k}_resource={v!r}" for k, v in counted.items() if v is not None)
        raise UsageError(
            f"pruner={kind}({given}) counts other steps than {name!r}, {fidelity!r}, has. Give "
            f"optuna.pruners.{_example(fidelity, kind)}."
        )


def _example(fidelity: Parameter, kind: str = "HyperbandPruner") -> str:
    low, high = (fidelity.low, fidelity.high) if isinstance(fidelity, Integer) else (1, 27)
    most = f", max_resource={high}" if kind == "HyperbandPruner" else ""
    return f"{kind}(min_resource={low}{most})"
