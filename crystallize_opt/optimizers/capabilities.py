"""What an optimizer can do, as data."""

from __future__ import annotations

from dataclasses import dataclass

from crystallize_opt.space.choices import Categorical, Constant, Ordinal
from crystallize_opt.space.numbers import Float, Integer
from crystallize_opt.space.parameter import Parameter


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What an optimizer can do, as data: the conformance suite and the docs' table read it.

    Every optimizer takes several pending asks and tells in any order. What it declares False, or
    does not name, it refuses when it is built, or does without, as the attribute says.

    Attributes:
        parameters: The kinds of parameters it takes, with `log` and `step`. It refuses others.
        conditions: Takes parameters with conditions. If not, it refuses them.
        linear_constraints: Takes linear constraints between parameters. If not, it refuses them.
        several_objectives: Takes several objectives. If not, it refuses them.
        outcome_constraints: Learns from outcome constraints. If not, they only decide what is best.
        standard_errors: Learns from the standard error of a mean over replicates. If not, the mean
            is told alone.
        pruning: May end a trial between its replicates.
        pending: Knows of pending treatments, and suggests something else. If not, it may suggest
            points close to them.
        joint_batches: `ask(n)` chooses the n points jointly. If not, one after the other.
        unique_points: Suggests every point of a finite space once, then raises `SpaceExhausted`.
    """

    parameters: tuple[type[Parameter], ...] = (Float, Integer, Categorical, Ordinal, Constant)
    conditions: bool = True
    linear_constraints: bool = True
    several_objectives: bool = True
    outcome_constraints: bool = False
    standard_errors: bool = False
    pruning: bool = False
    pending: bool = True
    joint_batches: bool = False
    unique_points: bool = False
