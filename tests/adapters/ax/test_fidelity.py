"""With an early stopping strategy, a fidelity is the last step of a trial."""

from __future__ import annotations

from typing import Any

from ax.early_stopping.strategies import ThresholdEarlyStoppingStrategy

from crystallize_opt import (
    FrozenContext,
    Integer,
    Observation,
    Pruned,
    SearchSpace,
    Status,
    Treatment,
)
from crystallize_opt.adapters import AxOptimizer
from crystallize_opt.interchange import history_from_ax
from tests.adapters.ax.native import LOSS, SQUARE
from tests.toy import experiment_of

SPACE = SearchSpace({"epochs": Integer(1, 4, fidelity=True), **SQUARE})
POINT = {"epochs": 3, "x": 0.5, "y": 0.5}


def optimizer(space: Any = SPACE) -> AxOptimizer:
    strategy = ThresholdEarlyStoppingStrategy(metric_threshold=1.5, min_progression=2, min_curves=0)
    return AxOptimizer(space, LOSS, seed=0, early_stopping=strategy)


def train(data: Any, ctx: FrozenContext, *, x: float, y: float, epochs: int = 4) -> Any:
    for epoch in range(1, epochs + 1):
        if ctx.report("loss", x + y + 1 / epoch, step=epoch):
            raise Pruned
    return data, {"loss": x + y + 1 / epochs}


def test_ax_ends_trials_before_their_fidelity() -> None:
    """As if all had four epochs and Ax knew of none. (These are Sobol points.)"""
    ours, plain = optimizer(), optimizer(SQUARE)
    for each in (ours, plain):
        experiment_of(train, seed=0).optimize(each, 3, progress=False)

    told = [(o.params["x"], o.params["y"], o.status, dict(o)) for o in plain.observations]
    assert told == [(o.params["x"], o.params["y"], o.status, dict(o)) for o in ours.observations]
    assert {o.status for o in ours.observations} == {Status.COMPLETED, Status.PRUNED}
    assert [list(o.params) for o in ours.observations] == [list(SPACE)] * 3
    assert {o.params["epochs"] for o in ours.observations} == {4}
    again = history_from_ax(ours.client)
    assert [o.params for o in again] == [o.params for o in ours.observations]
    assert again.best_params == ours.history.best_params


def test_a_trial_of_a_lower_fidelity_ended_there() -> None:
    attached = optimizer()
    attached.attach(Observation(Treatment("old", POINT), {"loss": 0.25}))
    enqueued = optimizer()
    enqueued.enqueue(POINT)
    (treatment,) = enqueued.ask()
    assert treatment.params == POINT
    enqueued.tell({"loss": 0.25})

    for each in (attached, enqueued):
        (trial,) = each.client._experiment.trials.values()
        assert trial.status.is_early_stopped
        (row,) = each.client._experiment.lookup_data().full_df.itertuples()
        assert (row.mean, row.step) == (0.25, 3)
        assert each.observations[0].status is Status.COMPLETED
