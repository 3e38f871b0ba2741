"""Attached trials: SMAC's initial design and brackets take them into account."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from ConfigSpace import Configuration
from smac import (
    AlgorithmConfigurationFacade,
    HyperbandFacade,
    HyperparameterOptimizationFacade,
    RandomFacade,
    Scenario,
)
from smac.initial_design import SobolInitialDesign
from smac.runhistory import StatusType

from crystallize_opt import (
    FrozenContext,
    Integer,
    Objective,
    Observation,
    SearchSpace,
    Status,
    Treatment,
)
from crystallize_opt.adapters import SMACOptimizer
from tests.adapters.parity import any_loss, exactly, search
from tests.adapters.smac.native import LOSS, MIXED, SQUARE, rows_of_the_model, told
from tests.toy import experiment_of

SIZE = 6
FIDELITY = SearchSpace({**SQUARE, "epochs": Integer(1, 9, fidelity=True)})


def known(number: int, space: Any = SQUARE, **fixed: Any) -> list[Observation]:
    """Completed trials at random points."""
    points = (space if isinstance(space, SearchSpace) else SearchSpace(space)).fixed(fixed)
    rng = random.Random(1)
    return [
        Observation(Treatment(f"known_{i}", point), {"loss": any_loss(point)})
        for i, point in enumerate(points.sample(rng) for _ in range(number))
    ]


def design(optimizer: SMACOptimizer) -> list[Configuration]:
    """The points of SMAC's initial design that were suggested."""
    configurations = optimizer.facade.runhistory.get_configs()
    return [each for each in configurations if "Sobol" in str(each.origin)]


# The initial design ----------------------------------------------------------------------------


def six_points(scenario: Scenario) -> SobolInitialDesign:
    return SobolInitialDesign(scenario, n_configs=SIZE, max_ratio=1.0)


def without_a_model(**options: Any) -> SMACOptimizer:
    """A facade that draws points at random after its initial design, which is quick."""
    design = {"initial_design": six_points}
    return SMACOptimizer(
        SQUARE, LOSS, seed=0, facade=RandomFacade, facade_options=design, **options
    )


@pytest.mark.parametrize("smac_defaults", [False, True])
@pytest.mark.parametrize(
    ("attached", "after", "size"),
    [(0, 0, 6), (1, 0, 5), (2, 3, 4), (4, 4, 4), (6, 0, 0), (9, 2, 2)],
)
def test_attached_points_take_the_place_of_the_last_ones_of_the_initial_design(
    attached: int, after: int, size: int, smac_defaults: bool
) -> None:
    cold = without_a_model()
    warm = without_a_model(smac_defaults=smac_defaults)
    first = search(warm, after)
    warm.attach(known(attached))
    suggested = first + search(warm, max(0, size - after) + 1)

    assert exactly(suggested[:size]) == exactly(search(cold, size))
    assert len(design(warm)) == size


def test_only_points_with_a_measurement_count_and_only_once() -> None:
    optimizer = without_a_model()
    for status in (Status.FAILED, Status.ABANDONED, Status.COMPLETED, Status.COMPLETED):
        optimizer.attach(Observation(Treatment("a", {"x": 0.5, "y": 0.5}), {"loss": 1.0}, status))
    optimizer.enqueue({"x": 0.1, "y": 0.1})
    search(optimizer, 1 + SIZE)

    assert len(design(optimizer)) == SIZE - 1


@pytest.mark.filterwarnings("ignore:Please use `dict:DeprecationWarning")  # SMAC's own call
def test_points_that_somebody_chose_stay_in_the_initial_design() -> None:
    def with_one_more(scenario: Scenario) -> Any:
        chosen = Configuration(scenario.configspace, values={"x": 0.25, "y": 0.75})
        return HyperparameterOptimizationFacade.get_initial_design(
            scenario, n_configs=3, additional_configs=[chosen]
        )

    optimizer = SMACOptimizer(
        SQUARE, LOSS, seed=0, facade_options={"initial_design": with_one_more}
    )
    optimizer.attach(known(20))
    assert search(optimizer, 1) == [{"x": 0.25, "y": 0.75}]

    default = SMACOptimizer(SQUARE, LOSS, seed=0, facade=AlgorithmConfigurationFacade)
    default.attach(known(20))
    assert search(default, 1) == [{"x": 0.5, "y": 0.5}]


def test_a_facade_without_a_model_does_not_learn_from_attached_trials_and_says_so() -> None:
    assert SMACOptimizer.capabilities.attached
    assert SMACOptimizer(SQUARE, LOSS).capabilities.attached
    assert not without_a_model().capabilities.attached
    assert not hyperband().capabilities.attached


# A point with several trials -------------------------------------------------------------------


def test_the_second_trial_of_a_point_does_not_erase_the_first() -> None:
    """SMAC has one value for a point: the mean of what was measured there."""
    optimizer = SMACOptimizer(MIXED, LOSS, seed=0, n_init=2)
    (treatment,) = optimizer.ask()
    optimizer.tell({"loss": 1.0})
    again = Treatment("again", treatment.params)
    for status, loss, mean in (
        (Status.COMPLETED, 3.0, 2.0),
        (Status.FAILED, None, 2.0),
        (Status.ABANDONED, None, 2.0),
        (Status.COMPLETED, 8.0, 4.0),
    ):
        metrics = {} if loss is None else {"loss": loss}
        optimizer.attach(Observation(again, metrics, status))
        assert told(optimizer) == [(mean, StatusType.SUCCESS)]
    assert rows_of_the_model(optimizer) == 1
    optimizer.enqueue(treatment.params)
    (pending,) = optimizer.ask()
    assert [cost for cost, _ in told(optimizer)] == [4.0]
    optimizer.tell(Observation(pending, {"loss": 0.0}))
    assert [cost for cost, _ in told(optimizer)] == [3.0]


def test_many_attached_trials_of_a_pareto_front_do_not_end_the_search() -> None:
    """SMAC gives up after 17 known trials that it neither rejects nor keeps as incumbents."""
    objectives = [LOSS, Objective("size", "minimize")]
    optimizer = SMACOptimizer({"x": (0.0, 1.0)}, objectives, seed=0, facade=RandomFacade)
    optimizer.attach(
        Observation(Treatment(f"t{i}", {"x": i / 60}), {"loss": i, "size": -i}) for i in range(60)
    )
    optimizer.ask(2)

    assert optimizer.facade.runhistory.running == 2
    assert {each.origin for each in optimizer.facade.runhistory.get_running_configs()} != {None}


# Budgets ---------------------------------------------------------------------------------------


def hyperband(space: Any = FIDELITY) -> SMACOptimizer:
    """Multi-fidelity without a model, which is quick."""
    return SMACOptimizer(space, LOSS, seed=0, facade=HyperbandFacade)


def point(params: Any) -> tuple[float, float]:
    return params["x"], params["y"]


def test_attached_trials_with_the_lowest_budget_compete_for_the_next_one() -> None:
    optimizer = hyperband()
    attached = known(9, FIDELITY, epochs=1)
    optimizer.attach(attached)
    suggested = search(optimizer, 12)

    best = sorted(attached, key=lambda each: each["loss"])[:3]
    assert [params["epochs"] for params in suggested] == [1] * 9 + [3] * 3
    promoted = {point(params) for params in suggested[9:12]}
    assert promoted == {point(each.treatment.params) for each in best}


def test_attached_trials_with_another_budget_are_not_run_again() -> None:
    optimizer = hyperband()
    attached = [*known(5, FIDELITY, epochs=9), *known(5, FIDELITY, epochs=5)]
    optimizer.attach(attached)
    suggested = search(optimizer, 12)

    assert [params["epochs"] for params in suggested] == [1] * 9 + [3] * 3
    assert not {point(each.treatment.params) for each in attached} & set(map(point, suggested))
    assert {key.budget for key in optimizer.facade.runhistory} == {1.0, 3.0, 5.0, 9.0}


# Resumed ---------------------------------------------------------------------------------------


def _loss(data: Any, ctx: FrozenContext, *, x: float, y: float) -> Any:
    return data, {"loss": (x - 0.3) ** 2 + y / ctx.as_dict().get("epochs", 1)}


def stored(path: Path, trials: int, *, fidelity: bool) -> list[Any]:
    """A stored search with linear constraints, which starts from attached trials."""
    space = SearchSpace(FIDELITY if fidelity else SQUARE, ["x + 2*y <= 2", "x <= 0.9"])
    quick = {"acquisition_maximizer": {"challengers": 50, "local_search_iterations": 1}}
    if fidelity:
        optimizer = hyperband(space)
    else:
        optimizer = SMACOptimizer(space, LOSS, seed=0, n_init=8, facade_options=quick)
    optimizer.attach(known(6, space, **({"epochs": 1} if fidelity else {})))
    experiment_of(_loss, seed=0).optimize(optimizer, trials, storage=path, progress=False)
    return exactly(each.treatment.params for each in optimizer.observations)


@pytest.mark.parametrize("fidelity", [False, True])
def test_a_stored_run_with_attached_trials_and_constraints_resumes_exactly(
    tmp_path: Path, fidelity: bool
) -> None:
    whole = stored(tmp_path / "whole.db", 5, fidelity=fidelity)
    for trials in (1, 3, 5):
        parts = stored(tmp_path / "parts.db", trials, fidelity=fidelity)

    assert parts == whole
    assert len(whole) == 6 + 5
