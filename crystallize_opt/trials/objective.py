"""Objectives that a search optimizes, and outcome constraints on its results."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from crystallize_opt.errors import ObjectiveError, UsageError
from crystallize_opt.runtime.checks import finite_number

Direction = Literal["minimize", "maximize"]
Comparison = Literal["<=", ">="]
Reduction = Literal["last", "mean", "min", "max"]
"""How several values of a metric, recorded in one replicate, become one value."""


def metric_name(name: Any) -> str:
    """Return the name of a metric as a plain `str`; a member of a `StrEnum` becomes its value.

    Raises:
        UsageError: The name is not a text.
    """
    if type(name) is str:
        return name
    if not isinstance(name, str):
        raise UsageError(
            f"The name of a metric is a text, not {name!r} ({type(name).__name__}). Give a text, "
            f"such as {str(name)!r}."
        )
    return str.__str__(name)


@dataclass(frozen=True)
class Objective:
    """A metric and the direction in which it gets better.

    Args:
        metric: The name under which steps record the metric.
        direction: `"minimize"` or `"maximize"`.
        reduce: Which value counts if a replicate records the metric several times, once an epoch
            for example: the `"last"`, the `"mean"`, the `"min"` or the `"max"`. None: a search
            ends with an error if a replicate records the metric more than once.
        threshold: With several objectives: the worst value that is still of interest. The
            hypervolume is measured from the thresholds of all objectives, and Ax seeks points that
            are better than all of them. It is no constraint: a trial beyond it may be the best.

    Raises:
        ObjectiveError: The direction or `reduce` is unknown, the metric is not a name, or the
            threshold is not a finite number.

    Example:
        >>> Objective("loss", "minimize").worst
        inf
    """

    metric: str
    direction: Direction
    reduce: Reduction | None = field(default=None, kw_only=True)
    threshold: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.metric, str) or not self.metric:
            raise ObjectiveError(
                f"An objective names one metric, not {self.metric!r}. For several objectives give "
                "the optimizer a list: [Objective('a', 'minimize'), Objective('b', 'maximize')]."
            )
        object.__setattr__(self, "metric", metric_name(self.metric))
        if self.direction not in get_args(Direction):
            raise ObjectiveError(
                f"Unknown direction {self.direction!r} for the metric {self.metric!r}. Allowed: "
                "'minimize', 'maximize'."
            )
        if self.threshold is not None:
            threshold = _finite(f"The threshold of {self.metric!r}", self.threshold)
            object.__setattr__(self, "threshold", threshold)
        _check_reduction(self.metric, self.reduce)

    @property
    def sign(self) -> int:
        """1 to minimize, -1 to maximize: `sign * value` is a cost."""
        return 1 if self.direction == "minimize" else -1

    @property
    def worst(self) -> float:
        """The infinity that is worse than every value."""
        return self.sign * math.inf


@dataclass(frozen=True)
class Constraint:
    """An outcome constraint: a trial is feasible if its metric is within the bound.

    Args:
        metric: The name under which steps record the metric.
        comparison: `"<="` or `">="`.
        bound: A finite number.
        reduce: Which value counts if a replicate records the metric several times; see
            `Objective`.
        relative_to_baseline: Whether the bound is a change in percent of the baseline's mean: 5
            means 5 % above it, -5 means 5 % below it (of its absolute value, as Ax does).

    Raises:
        ObjectiveError: The comparison or `reduce` is unknown, or the bound is not finite.

    Example:
        >>> Constraint("latency", "<=", 10.0).violation(12.5)
        2.5
        >>> Constraint("latency", "<=", 5, relative_to_baseline=True).against(10.0)
        Constraint(metric='latency', comparison='<=', bound=10.5, reduce=None, ...)
    """

    metric: str
    comparison: Comparison
    bound: float
    reduce: Reduction | None = field(default=None, kw_only=True)
    relative_to_baseline: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.metric, str) or not self.metric:
            raise ObjectiveError(f"A constraint names one metric, not {self.metric!r}.")
        object.__setattr__(self, "metric", metric_name(self.metric))
        if self.comparison not in get_args(Comparison):
            raise ObjectiveError(
                f"Unknown comparison {self.comparison!r} for the metric {self.metric!r}. Allowed: "
                "'<=', '>='."
            )
        object.__setattr__(self, "bound", _finite(f"The bound of {self.metric!r}", self.bound))
        if not isinstance(self.relative_to_baseline, bool):
            raise ObjectiveError(
                f"relative_to_baseline= of {self.metric!r} is True or False, not "
                f"{self.relative_to_baseline!r}. The baseline itself is run by optimize(..., "
                "baseline=True)."
            )
        _check_reduction(self.metric, self.reduce)

    @property
    def text(self) -> str:
        """The constraint as people write it: `"latency <= 10.0"`."""
        if self.relative_to_baseline:
            sign = "-" if self.bound < 0 else "+"
            return f"{self.metric} {self.comparison} baseline {sign} {abs(self.bound)!r} %"
        return f"{self.metric} {self.comparison} {self.bound!r}"

    def against(self, baseline: float) -> Constraint:
        """Return this constraint with an absolute bound.

        Args:
            baseline: The baseline's mean of the metric.

        Raises:
            ObjectiveError: The bound is relative, and the baseline's mean is 0.
        """
        if not self.relative_to_baseline:
            return self
        if baseline == 0:
            raise ObjectiveError(
                f"The baseline's mean of {self.metric!r} is 0, of which {self.bound!r} % are "
                f"nothing. Give an absolute bound: Constraint({self.metric!r}, "
                f"{self.comparison!r}, ...)."
            )
        change = math.copysign(self.bound, self.bound * baseline) / 100.0
        return Constraint(self.metric, self.comparison, (1 + change) * baseline, reduce=self.reduce)

    def violation(self, value: float) -> float:
        """Return by how much a value violates the constraint; zero or less if it satisfies it.

        The bound must be absolute: see `against`.
        """
        return value - self.bound if self.comparison == "<=" else self.bound - value


def _finite(what: str, number: Any) -> float:
    try:
        return finite_number(what, number)
    except UsageError as error:
        raise ObjectiveError(str(error)) from None


def _check_reduction(metric: str, reduce: str | None) -> None:
    if reduce is not None and reduce not in get_args(Reduction):
        raise ObjectiveError(
            f"Unknown reduce={reduce!r} for the metric {metric!r}. Allowed: "
            f"{', '.join(map(repr, get_args(Reduction)))}, or None."
        )


def reductions_of(
    objectives: Sequence[Objective], constraints: Sequence[Constraint]
) -> dict[str, Reduction | None]:
    """Return the `reduce` of each metric of objectives and constraints.

    Raises:
        ObjectiveError: Two of them reduce the same metric differently.
    """
    reductions: dict[str, Reduction | None] = {}
    several: list[Objective | Constraint] = [*objectives, *constraints]
    for each in several:
        known = reductions.setdefault(each.metric, each.reduce)
        if each.reduce not in (None, known):
            if known is not None:
                raise ObjectiveError(
                    f"The metric {each.metric!r} has two values of reduce=: {known!r} and "
                    f"{each.reduce!r}. Record the metric under two names."
                )
            reductions[each.metric] = each.reduce
    return reductions


def as_objectives(objective: Objective | Sequence[Objective]) -> tuple[Objective, ...]:
    """Return one or several objectives as a tuple.

    Raises:
        ObjectiveError: There is no objective, one is not an `Objective`, or two name one metric; or
            a single one, or some of several, have a threshold.
    """
    objectives = (objective,) if isinstance(objective, Objective) else objective
    if isinstance(objectives, (str, Mapping)) or not isinstance(objectives, Sequence):
        raise ObjectiveError(
            f"An objective is Objective(metric, direction), or a list of them, not {objective!r}."
        )
    if not objectives:
        raise ObjectiveError("At least one objective is needed.")
    for each in objectives:
        if not isinstance(each, Objective):
            raise ObjectiveError(f"An objective is Objective(metric, direction), not {each!r}.")
    metrics = [each.metric for each in objectives]
    if len(set(metrics)) < len(metrics):
        raise ObjectiveError(f"Two objectives name the same metric: {metrics!r}.")
    _check_thresholds(objectives)
    return tuple(objectives)


def as_constraints(constraints: Iterable[Constraint]) -> tuple[Constraint, ...]:
    """Return outcome constraints as a tuple.

    Raises:
        ObjectiveError: They are no list, or one of them is not a `Constraint`.
    """
    if isinstance(constraints, str) or not isinstance(constraints, Iterable):
        raise ObjectiveError(
            f"constraints= takes a list, [Constraint(metric, '<=', 10.0)], not {constraints!r}."
        )
    checked = tuple(constraints)
    for each in checked:
        if not isinstance(each, Constraint):
            raise ObjectiveError(f"A constraint is Constraint(metric, '<=', 10.0), not {each!r}.")
    return checked


def _check_thresholds(objectives: Sequence[Objective]) -> None:
    """Refuse thresholds that are no point from which several objectives can be measured."""
    given = [each.metric for each in objectives if each.threshold is not None]
    if given and len(objectives) == 1:
        raise ObjectiveError(
            f"A threshold is for several objectives; {given[0]!r} is the only one. For a limit "
            f"give Constraint({given[0]!r}, ...); to end the search at a value, stop=TargetValue()."
        )
    if given and len(given) < len(objectives):
        without = [each.metric for each in objectives if each.threshold is None]
        raise ObjectiveError(
            "Thresholds are one point from which all objectives are measured: give every objective "
            f"one, or none. With a threshold: {given!r}; without: {without!r}."
        )
