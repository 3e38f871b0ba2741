"""What Ax is told of objectives, outcome constraints and standard errors."""

from __future__ import annotations

import math

import pytest
from ax.generation_strategy.generation_strategy import GenerationStrategy

from crystallize_opt import Constraint, Objective, Observation, Status
from crystallize_opt.adapters import AxOptimizer
from tests.adapters.ax.native import (
    LOSS,
    SQUARE,
    generators_of,
    quick_strategy,
    run,
    sobol_strategy,
    table_of,
    tell,
    told_data,
)


def test_metrics_that_were_not_declared_are_not_told() -> None:
    # Ax would fit a model to each.
    optimizer = AxOptimizer(SQUARE, LOSS, constraints=[Constraint("area", "<=", 1.0)], seed=0)
    optimizer.ask()
    optimizer.tell({"loss": 1.0, "area": 0.5, "more": 2.0, "E": 3.0})

    assert sorted(table_of(optimizer)["mean"]) == [0.5, 1.0]
    assert len(optimizer.client._experiment.metrics) == 2


# Standard errors ----------------------------------------------------------------------------------


def test_standard_errors_are_dropped_for_all_from_the_first_trial_without() -> None:
    optimizer = AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=quick_strategy(initial=4))
    first, zero, failed, without, after = optimizer.ask(5)
    optimizer.tell(Observation(first, {"loss": 1.0}, sem={"loss": 0.5}))
    optimizer.tell(Observation(zero, {"loss": 4.0}, sem={"loss": 0.0}))
    tell(optimizer, failed, Status.FAILED)
    assert told_data(optimizer) == {0: (1.0, 0.5), 1: (4.0, 0.0), 2: (4.0, 0.0)}

    optimizer.tell(Observation(without, {"loss": 2.0}, sem={"loss": None}))
    optimizer.tell(Observation(after, {"loss": 3.0}, sem={"loss": 0.5}))
    told = told_data(optimizer)
    assert {index: mean for index, (mean, _) in told.items()} == {0: 1, 1: 4, 2: 4, 3: 2, 4: 3}
    assert all(math.isnan(sem) for _, sem in told.values())
    optimizer.ask()  # With a mixture, the model raises InputDataError here.
    assert generators_of(optimizer)[-1] == "BoTorch"


@pytest.mark.parametrize("sem", [math.nan, math.inf], ids=repr)
def test_a_standard_error_that_is_none_is_not_told(sem: float) -> None:
    optimizer = AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=sobol_strategy())
    (treatment,) = optimizer.ask()
    optimizer.tell(Observation(treatment, {"loss": 1.0}, sem={"loss": sem}))

    assert math.isnan(told_data(optimizer)[0][1])


# Outcome constraints ------------------------------------------------------------------------------


Case = tuple[list[Objective], list[Constraint], list[Constraint] | None]

# With a threshold on one of two objectives, and no feasible point, Ax raises.
NO_FEASIBLE_POINT: Case = (
    [LOSS, Objective("a", "maximize")],
    [Constraint("a", ">=", 0.5), Constraint("b", "<=", -1.0)],
    None,
)
CASES: list[Case] = [
    NO_FEASIBLE_POINT,
    ([LOSS], [Constraint("loss", ">=", 0.1)], None),
    (
        [LOSS],
        [Constraint("a", "<=", 2.0), Constraint("a", "<=", 1.0)],
        [Constraint("a", "<=", 1.0)],
    ),
    ([LOSS], [Constraint("a", "<=", 2), Constraint("a", ">=", 1)], None),
    ([LOSS, Objective("a", "maximize")], [Constraint("a", ">=", 0.0)], None),
    ([LOSS, Objective("a", "maximize")], [Constraint("a", "<=", 0.5)], None),
    (
        # Thresholds, beside constraints on the same metrics and on others.
        [
            Objective("loss", "minimize", threshold=3),
            Objective("a", "maximize", threshold=-1.5),
        ],
        [Constraint("loss", "<=", 2.0), Constraint("a", "<=", 0.5), Constraint("b", ">=", -1)],
        [
            *(Constraint("loss", "<=", 3.0), Constraint("a", ">=", -1.5)),
            *(Constraint("loss", "<=", 2.0), Constraint("a", "<=", 0.5)),
            Constraint("b", ">=", -1.0),
        ],
    ),
    (
        # Names and numbers that Ax would read in another way.
        [Objective("val-loss", "minimize"), Objective("a,b", "maximize")],
        [Constraint("E", "<=", 1e-5), Constraint("größe", ">=", -3.0)],
        None,
    ),
]


@pytest.mark.parametrize("case", CASES)
def test_outcome_constraints_of_any_kind_reach_ax(case: Case) -> None:
    check_constraints(case, sobol_strategy())


@pytest.mark.parametrize(
    "case", [NO_FEASIBLE_POINT, *(pytest.param(each, marks=pytest.mark.slow) for each in CASES[1:])]
)
def test_the_model_takes_outcome_constraints_of_any_kind(case: Case) -> None:
    assert generators_of(check_constraints(case, quick_strategy()))[-1] == "BoTorch"


def check_constraints(case: Case, strategy: GenerationStrategy) -> AxOptimizer:
    objectives, constraints, tightest = case
    optimizer = AxOptimizer(
        SQUARE, objectives, constraints=constraints, seed=0, generation_strategy=strategy
    )
    metrics = sorted(set(optimizer.required_metrics))
    run(optimizer, 4, lambda p: {m: p["x"] + i * p["y"] for i, m in enumerate(metrics)})

    assert sorted(constraints_of(optimizer), key=repr) == sorted(tightest or constraints, key=repr)
    return optimizer


def constraints_of(optimizer: AxOptimizer) -> list[Constraint]:
    """The constraints that Ax has. What it calls a metric is found out by the values told of it."""
    config = optimizer.client._experiment.optimization_config
    assert config is not None
    found = []
    for each in config.all_constraints:
        (name,) = each.metric_names
        told = [mean for mean, _ in told_data(optimizer, name).values()]
        (metric,) = {
            metric
            for metric in optimizer.required_metrics
            if [o[metric] for o in optimizer.observations] == told
        }
        found.append(Constraint(metric, "<=" if each.op.name == "LEQ" else ">=", each.bound))
    return found
