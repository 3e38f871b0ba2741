"""Declarations of what an optimizer can do, and the refusal of anything else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from crystallize_opt.errors import ObjectiveError, SpaceError, UnsupportedSpaceError
from crystallize_opt.space.choices import Categorical, Constant, Ordinal
from crystallize_opt.space.numbers import Float, Integer
from crystallize_opt.space.parameter import Parameter
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.trials.objective import Objective


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What an optimizer can do, as data: the conformance suite and the docs' table read it.

    Every optimizer supports several pending treatments and tells in any order. Each attribute says
    what the optimizer does without the capability: it refuses a space or objective when it is
    built, or ignores some information.

    Attributes:
        parameters: The kinds of parameters it takes, with `log` and `step`. It refuses others.
        conditions: Takes parameters with conditions. If not, it refuses them. `"independent"`: it
            draws them at random, outside of its model.
        linear_constraints: Takes linear constraints between parameters. If not, it refuses them.
        fidelity: Takes a parameter with `fidelity=True`, which it raises for trials that do well.
            If not, it refuses it.
        several_objectives: Takes several objectives. If not, it refuses them.
        thresholds: Seeks points better than the objectives' thresholds. If not, only the
            hypervolume is measured from them.
        outcome_constraints: Learns from outcome constraints. If not, they only decide which trial
            is best.
        standard_errors: Learns from the standard error of a mean over replicates, if trials have
            seeds of their own. If not, it learns from the mean only.
        pruning: May end a trial between its replicates.
        pending: Takes pending treatments into account. If not, it may suggest points close to them.
        attached: Learns from attached trials. If not, they only count for the best trial, and as
            points that have been suggested.
        joint_batches: `ask(n)` makes the n suggestions in one call of the library. If not, it
            asks the library n times.
        recommends: `recommend("model")` is the choice of a model. If not, it is refused.
        unique_points: Suggests every point of a finite space once, then raises `SpaceExhausted`.
    """

    parameters: tuple[type[Parameter], ...] = (Float, Integer, Categorical, Ordinal, Constant)
    conditions: bool | Literal["independent"] = True
    linear_constraints: bool = True
    fidelity: bool = False
    several_objectives: bool = True
    thresholds: bool = False
    outcome_constraints: bool = False
    standard_errors: bool = False
    pruning: bool = False
    pending: bool = True
    attached: bool = False
    joint_batches: bool = False
    recommends: bool = False
    unique_points: bool = False


def refuse_unsupported(
    who: str, can: Capabilities, space: SearchSpace, objectives: Sequence[Objective]
) -> None:
    """Refuse a space or objectives that the optimizer's capabilities do not cover.

    Raises:
        SpaceError: The space has no parameters.
        UnsupportedSpaceError: The space has a parameter, a condition or a linear constraint that
            the optimizer cannot take; the message names it.
        ObjectiveError: There are several objectives, and the optimizer takes one.
    """
    if not space:
        raise SpaceError(
            f"{who} has nothing to search: the space has no parameters. Annotate the parameters of "
            "a step, as in `x: Annotated[float, Float(0.0, 1.0)]`, or give a SearchSpace."
        )
    others = "RandomOptimizer, GridOptimizer and OptunaOptimizer can."
    for name, parameter in space.items():
        if not isinstance(parameter, can.parameters):
            kinds = ", ".join(kind.__name__ for kind in can.parameters)
            raise UnsupportedSpaceError(
                f"{who} cannot take {name!r}, {parameter!r}: it takes {kinds}. {others}"
            )
        if parameter.conditions and not can.conditions:
            raise UnsupportedSpaceError(
                f"{who} cannot take {name!r}, {parameter!r}: it takes no conditions. {others}"
            )
    if space.constraints and not can.linear_constraints:
        raise UnsupportedSpaceError(
            f"{who} cannot take {space.constraints[0]!r}: it takes no linear constraints. {others}"
        )
    if space.fidelity is not None and not can.fidelity:
        name = space.fidelity
        raise UnsupportedSpaceError(
            f"{who} cannot take {name!r}, {space[name]!r}: it takes no fidelity. "
            "SMACOptimizer(..., facade=smac.MultiFidelityFacade), OptunaOptimizer(..., "
            "pruner=optuna.pruners.HyperbandPruner(...)) and AxOptimizer(..., early_stopping=...) "
            "can. Or search with one value: "
            f"space.fixed({{{name!r}: {space[name].high!r}}})."  # type: ignore[attr-defined]
        )
    if len(objectives) > 1 and not can.several_objectives:
        metrics = [each.metric for each in objectives]
        raise ObjectiveError(f"{who} takes one objective, not {metrics!r}. {others}")
