"""What the tests of BayBEOptimizer share: BayBE's loop by hand."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from baybe import Campaign
from baybe.constraints import ContinuousLinearConstraint
from baybe.objectives import ParetoObjective
from baybe.parameters import (
    CategoricalParameter,
    NumericalContinuousParameter,
    NumericalDiscreteParameter,
)
from baybe.recommenders import TwoPhaseMetaRecommender
from baybe.searchspace import SearchSpace as BayBESearchSpace
from baybe.targets import NumericalTarget

from crystallize_opt import Categorical, Float, Integer, Objective, Ordinal, SearchSpace
from crystallize_opt.runtime.random_state import CallersRandomState
from tests.adapters.parity import any_loss

LOSS = Objective("loss", "minimize")
SQUARE = {"x": (0.0, 1.0), "y": (0.0, 1.0)}
Point = dict[str, Any]


@contextmanager
def by_hand(seed: int) -> Iterator[None]:
    """What a user would set, and what keeps the tests apart."""
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(1)
    try:
        with CallersRandomState(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_rng_state(state)
        torch.set_num_threads(threads)


class ByHand:
    """A space as a user of BayBE would write it; see docs/baybe.md."""

    def __init__(self, space: SearchSpace) -> None:
        self.searched = {name: each for name, each in space.items() if each.size > 1}
        self.names = {name: f"q{number}" for number, name in enumerate(self.searched)}
        self.space = space
        sizes = [each.size for each in self.searched.values() if each.size < math.inf]
        is_continuous = len(sizes) < len(self.searched)
        self.discrete = math.prod(sizes) <= (64 if is_continuous else 10_000)

    def native(self) -> BayBESearchSpace:
        return BayBESearchSpace.from_product(
            [self.parameter(name) for name in self.searched],
            constraints=[
                ContinuousLinearConstraint(
                    [self.names[name] for name in each.coefficients],
                    "<=",
                    list(each.coefficients.values()),
                    each.bound,
                )
                for each in self.space.constraints
            ],
        )

    def parameter(self, name: str) -> Any:
        p, q = self.searched[name], self.names[name]
        if isinstance(p, Categorical):
            return CategoricalParameter(q, [str(i) for i in range(len(p.choices))], encoding="OHE")
        if p.size < math.inf and self.discrete:
            return NumericalDiscreteParameter(q, [self.number(p, value) for value in p.values()])
        if isinstance(p, Ordinal) or getattr(p, "step", None):
            return NumericalContinuousParameter(q, (0, p.size - 1))
        assert isinstance(p, Float | Integer)
        return NumericalContinuousParameter(q, (self.number(p, p.low), self.number(p, p.high)))

    def number(self, p: Any, value: Any) -> float:
        if isinstance(p, Ordinal) or p.step is not None:
            return float(p.index(value))
        return math.log10(value) if p.log else float(value)

    def point(self, row: Mapping[str, Any]) -> Point:
        return {
            name: self.value(p, row.get(self.names.get(name, ""))) for name, p in self.space.items()
        }

    def value(self, p: Any, stored: Any) -> Any:
        if p.size == 1:
            return next(p.values())
        if isinstance(p, Categorical | Ordinal):
            return p.choices[round(float(stored))]
        if p.step is not None:
            return p.value_at(round(stored))
        number = 10.0**stored if p.log else float(stored)
        return min(max(round(number) if isinstance(p, Integer) else number, p.low), p.high)

    def row(self, suggested: Mapping[str, Any], point: Point) -> dict[str, Any]:
        """What is measured: the values that were run, so that rounded numbers are rounded."""
        row = dict(suggested)
        for name, p in self.searched.items():
            if p.size < math.inf and not isinstance(p, Categorical):
                row[self.names[name]] = self.number(p, point[name])
        return row


def native_suggestions(
    space: SearchSpace,
    trials: int,
    *,
    seed: int,
    recommender: Any = None,
    batch: int = 1,
    objectives: tuple[Objective, ...] = (LOSS,),
    evaluate: Callable[[Mapping[str, Any]], Mapping[str, float]] = lambda p: {"loss": any_loss(p)},
) -> list[Point]:
    """The suggestions of the loop in BayBE's documentation."""
    hand, suggested = ByHand(space), []
    with by_hand(seed):
        targets = [
            NumericalTarget(o.metric, minimize=o.direction == "minimize") for o in objectives
        ]
        campaign = Campaign(
            hand.native(),
            targets[0].to_objective() if len(targets) == 1 else ParetoObjective(targets),
            recommender=recommender or TwoPhaseMetaRecommender(),
        )
        for _ in range(0, trials, batch):
            table = campaign.recommend(batch)
            for row in table.to_dict("records"):
                point = hand.point(row)
                suggested.append(point)
                measured = hand.row(row, point) | dict(evaluate(point))
                campaign.add_measurements(pd.DataFrame([measured]))
    return suggested
