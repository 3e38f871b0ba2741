"""How many replicates a trial runs: always the same number, or more for trials that do well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from crystallize_opt.errors import UsageError
from crystallize_opt.runtime.checks import finite_number, whole_number


@dataclass(frozen=True)
class Adaptive:
    """Further replicates only for trials that could still be the best.

    Every trial runs `minimum` replicates. After that, and after each further one, it is compared
    with the best trial so far on the seeds that both have, by a one-sided paired t-test. A trial
    that is significantly worse gets no more replicates (`Observation.beaten_by`), and is never the
    best one. A trial that violates an outcome constraint significantly gets no more, either. All
    others run `maximum` replicates. `crystallize_opt.trials.racing` states the rule's sources.

    Args:
        minimum: How many replicates every trial runs, at least 2.
        maximum: How many replicates a trial runs at most; more than `minimum`.
        alpha: The level of each test, at most 0.5. A higher level saves more replicates, and gives
            up more trials that were as good. With 0.5, a trial ends as soon as its mean on the
            common seeds is worse than that of the best trial. Figures for four levels are in
            docs/noise.md.

    Raises:
        UsageError: An argument is out of its range.

    Example:
        >>> Adaptive(2, 10)
        Adaptive(minimum=2, maximum=10, alpha=0.05)
    """

    minimum: int
    maximum: int
    alpha: float = 0.05

    def __post_init__(self) -> None:
        minimum = whole_number("Adaptive: minimum", self.minimum, 2)
        maximum = whole_number("Adaptive: maximum", self.maximum)
        if maximum <= minimum:
            raise UsageError(
                f"Adaptive: maximum is greater than minimum, not {maximum} with {minimum}. For the "
                f"same number of replicates in all trials, give replicates_per_trial={maximum}."
            )
        alpha = finite_number("Adaptive: alpha", self.alpha, above=0)
        if alpha > 0.5:
            raise UsageError(f"Adaptive: alpha is at most 0.5, not {alpha!r}.")
        for name, value in (("minimum", minimum), ("maximum", maximum), ("alpha", alpha)):
            object.__setattr__(self, name, value)


def replicates_of(given: Any) -> tuple[int, Adaptive | None]:
    """Return the largest number of replicates of a trial, and the rule if trials may have fewer.

    Raises:
        UsageError: `given` is neither a whole number of at least 1 nor `Adaptive`.
    """
    if isinstance(given, Adaptive):
        return given.maximum, given
    return whole_number("replicates_per_trial", given), None
