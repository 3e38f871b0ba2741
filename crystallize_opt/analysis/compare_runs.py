"""Compares optimizers by runs that are there already: `compare_runs`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from crystallize_opt.analysis.cells import cell_of, goal_of
from crystallize_opt.analysis.comparison import Comparison
from crystallize_opt.analysis.paired import checked_alpha
from crystallize_opt.errors import UsageError
from crystallize_opt.history.history import History
from crystallize_opt.runtime.shown import cut


def compare_runs(
    runs: Mapping[str, Sequence[History]],
    *,
    experiment: str = "experiment",
    alpha: float = 0.05,
) -> Comparison:
    """Compare optimizers by runs that are there already, such as those of a service.

    Longer runs count as far as the shortest one. No winner is run again: if the trials are noisy,
    its value is the one that its search saw, which flatters it. `compare` makes the runs itself,
    and judges each winner on fresh seeds.

    Args:
        runs: The runs of each optimizer, one for each seed: as many of each, in one order.
        experiment: What the runs searched, in a word.
        alpha: The probability of at most this is an error among all verdicts about pairs.

    Raises:
        UsageError: There are no runs, or not as many of each optimizer; they have different
            objectives or constraints; or there are several objectives without thresholds.
        MissingExtraError: A library of the extra `analysis` is not installed.

    Example:
        >>> from crystallize_opt import History, Objective, Observation, Treatment
        >>> def run(*values):
        ...     trials = [Observation(Treatment(str(v), {"x": v}), {"loss": v}) for v in values]
        ...     return History(trials, [Objective("loss", "minimize")])
        >>> comparison = compare_runs(
        ...     {
        ...         "a": [run(3.0, 1.0 + seed / 10) for seed in range(8)],
        ...         "b": [run(3.0, 2.0 + seed / 10) for seed in range(8)],
        ...     }
        ... )
        >>> comparison.verdict
        'a is better than b (corrected p = 0.0078).'
    """
    if not isinstance(runs, Mapping) or not all(map(_are_runs, runs.values())):
        raise UsageError(
            "compare_runs() takes a list of histories for each optimizer, one for each run: "
            f"{{'tpe': [history], 'random': [other]}}, not {cut(repr(runs))}."
        )
    every = [each for some in runs.values() for each in some]
    if not every or len({*map(len, runs.values())}) > 1:
        counts = {name: len(some) for name, some in runs.items()}
        raise UsageError(f"Give as many runs of each optimizer, at least one, not {counts!r}.")
    goals = [(each.objectives, each.constraints) for each in every]
    for other in goals:
        if other != goals[0]:
            raise UsageError(
                f"The runs have different objectives or constraints: {goals[0]!r} and {other!r}."
            )
    count = min(map(len, every))
    cells = [
        cell_of(each, count, experiment, name, seed)
        for name, some in runs.items()
        for seed, each in enumerate(some)
    ]
    return Comparison(cells, {experiment: goal_of(every[0])}, count, checked_alpha(alpha))


def _are_runs(given: Any) -> bool:
    is_list = isinstance(given, Sequence) and not isinstance(given, (str, History))
    return is_list and all(isinstance(each, History) for each in given)
