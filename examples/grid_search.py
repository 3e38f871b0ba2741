"""A grid search twice: by treatments and a hypothesis, and by an optimizer and a confirmation.

The first way runs a fixed list of treatments and ranks them by a hypothesis. The second way
searches the same grid with `GridOptimizer`, which any other optimizer may replace, and tests the
winner on fresh seeds. Needs `pip install "crystallize-opt[analysis]"`; takes a second.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from typing import Annotated

from crystallize_opt import (
    Experiment,
    FrozenContext,
    Hypothesis,
    Objective,
    Ordinal,
    Pipeline,
    Treatment,
    data_source,
    pipeline_step,
)
from crystallize_opt.adapters import GridOptimizer

WINDOWS, LEVELS = (1, 3, 5, 9), (0.3, 0.5, 0.7)
Signal = tuple[list[float], list[bool]]
"""Measured values, and where the signal is really on."""


@data_source
def signal(ctx: FrozenContext) -> Signal:
    """Switch on and off at random, and add noise; each replicate has a seed of its own."""
    is_on = [False]
    for _ in range(399):
        is_on.append(is_on[-1] ^ (random.random() < 0.03))
    return [each + random.gauss(0.0, 0.5) for each in is_on], is_on


@pipeline_step()
def smooth(
    data: Signal, ctx: FrozenContext, *, window: Annotated[int, Ordinal(WINDOWS)] = 1
) -> Signal:
    """Average each value with its neighbours."""
    (values, is_on), half = data, window // 2
    around = [values[max(0, i - half) : i + half + 1] for i in range(len(values))]
    return [sum(near) / len(near) for near in around], is_on


@pipeline_step()
def switch(
    data: Signal, ctx: FrozenContext, *, level: Annotated[float, Ordinal(LEVELS)] = 0.5
) -> list[bool]:
    """Say where the signal is on, and record the share of mistakes."""
    values, is_on = data
    said = [value > level for value in values]
    ctx.metrics.add("mistakes", sum(map(bool.__ne__, said, is_on)) / len(is_on))
    return said


EXPERIMENT = Experiment(signal(), Pipeline([smooth(), switch()]), seed=0)


def fewer_mistakes(
    baseline: Mapping[str, Sequence[float]], treatment: Mapping[str, Sequence[float]]
) -> Mapping[str, float]:
    """Compare the means over the replicates."""
    return {"change": sum(treatment["mistakes"]) - sum(baseline["mistakes"])}


FEWER = Hypothesis(fewer_mistakes, "mistakes", ranker=lambda result: result["change"])


def by_treatments(replicates: int) -> str:
    """Run every treatment of the grid, and return the name of the best by the hypothesis."""
    grid = itertools.product(WINDOWS, LEVELS)
    treatments = [
        Treatment(f"trial_{number}", {"window": window, "level": level})
        for number, (window, level) in enumerate(grid)
    ]
    result = EXPERIMENT.run(treatments=treatments, hypotheses=[FEWER], replicates=replicates)
    return str(result.metrics.hypotheses[0].ranking["best"])


def by_an_optimizer(replicates: int) -> Treatment:
    """Search the grid, and return the best treatment."""
    optimizer = GridOptimizer(EXPERIMENT.search_space(), Objective("mistakes", "minimize"))
    return EXPERIMENT.optimize(optimizer, 12, replicates, baseline=True)


def main(replicates: int = 4) -> None:
    name = by_treatments(replicates)
    best = by_an_optimizer(replicates)
    print(f"Treatments: {name}. GridOptimizer: {best.name}, {dict(best.params)}.")

    # Both used the same four seeds, on which the best of twelve looks better than it is.
    confirmation = EXPERIMENT.confirm(best, replicates=10, hypotheses=[FEWER])
    print(confirmation)
    print("The hypothesis on the fresh seeds:", confirmation.hypotheses[0].results[best.name])
    print("On in production:", sum(EXPERIMENT.apply(best)), "of 400 values")


if __name__ == "__main__":
    main()
