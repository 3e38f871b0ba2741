"""Ax ends trials early as in its own loop: progressions, and its early stopping strategies."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ax.api.client import Client
from ax.core.trial_status import TrialStatus
from ax.early_stopping.strategies import (
    BaseEarlyStoppingStrategy,
    PercentileEarlyStoppingStrategy,
    ThresholdEarlyStoppingStrategy,
)
from ax.early_stopping.strategies.logical import OrEarlyStoppingStrategy

from crystallize_opt import (
    Constraint,
    FrozenContext,
    Objective,
    Observation,
    Pruned,
    SearchSpace,
    Status,
)
from crystallize_opt.adapters import AxOptimizer
from crystallize_opt.errors import ObjectiveError, UsageError
from crystallize_opt.interchange import history_from_ax
from crystallize_opt.trials.objective import Direction
from tests.adapters.ax.native import LOSS, SQUARE, ByHand, by_hand, quick_strategy, sobol_strategy
from tests.toy import experiment_of

EPOCHS = 4
STRATEGIES: dict[str, Callable[[], BaseEarlyStoppingStrategy]] = {
    "percentile": lambda: PercentileEarlyStoppingStrategy(
        percentile_threshold=60.0, min_progression=1, min_curves=2, interval=2
    ),
    "threshold": lambda: ThresholdEarlyStoppingStrategy(
        metric_threshold=0.25, min_progression=2, min_curves=0
    ),
    "or": lambda: OrEarlyStoppingStrategy(
        PercentileEarlyStoppingStrategy(percentile_threshold=30.0, min_progression=3, min_curves=2),
        ThresholdEarlyStoppingStrategy(metric_threshold=0.8, min_progression=1, min_curves=0),
    ),
}


def value_at(sign: float, x: float, y: float, epoch: int) -> float:
    return sign * ((x - 0.3) ** 2 + (y - 0.6) ** 2 + 1.0 / (1 + epoch) ** 2)


def final(sign: float, x: float, y: float) -> float:
    return sign * ((x - 0.3) ** 2 + (y - 0.6) ** 2 - 0.125)


def trainer(sign: float) -> Callable[..., Any]:
    def train(data: Any, ctx: FrozenContext, *, x: float, y: float) -> Any:
        for epoch in range(EPOCHS):
            if ctx.report("loss", value_at(sign, x, y, epoch), step=epoch):
                raise Pruned
        return data, {"loss": final(sign, x, y)}

    return train


def rows_of(client: Client) -> list[str]:
    """Return all data that a client has."""
    with by_hand():
        table = client._experiment.lookup_data().full_df
    return [
        repr((int(row.trial_index), float(row.mean), float(row.sem), float(row.step)))
        for row in table.itertuples()
    ]


def native(
    strategy: BaseEarlyStoppingStrategy, trials: int, seed: int, direction: Direction
) -> Client:
    """The loop of Ax's tutorial on early stopping."""
    space, sign = SearchSpace(SQUARE), 1.0 if direction == "minimize" else -1.0
    with by_hand():
        client = Client(random_seed=seed)
        client.configure_experiment(parameters=ByHand(space).parameters())
        client.configure_optimization(objective="-loss" if direction == "minimize" else "loss")
        client.set_generation_strategy(quick_strategy(seed))
        client.set_early_stopping_strategy(strategy)
        for _ in range(trials):
            ((index, params),) = client.get_next_trials(max_trials=1).items()
            x, y = float(params["x"]), float(params["y"])
            for epoch in range(EPOCHS):
                raw = {"loss": value_at(sign, x, y, epoch)}
                client.attach_data(index, raw, progression=epoch)
                if client.should_stop_trial_early(index):
                    client.mark_trial_early_stopped(index)
                    break
            else:
                raw = {"loss": final(sign, x, y)}
                client.complete_trial(index, raw, progression=EPOCHS - 1)
    return client


def learned(client: Client) -> list[Any]:
    trials = client._experiment.trials.values()
    return [[(t.arm.parameters, t.status) for t in trials], rows_of(client)]  # type: ignore[attr-defined]


def renamed(found: list[Any]) -> list[Any]:
    """Return what the adapter's client learned, with the user's names."""
    trials, rows = found
    names = {"p0": "x", "p1": "y"}
    return [[({names[n]: v for n, v in p.items()}, s) for p, s in trials], rows]


@pytest.mark.parametrize(
    ("strategy", "seed", "direction"),
    [
        ("percentile", 0, "minimize"),
        pytest.param("threshold", 1, "minimize", marks=pytest.mark.slow),
        pytest.param("or", 2, "minimize", marks=pytest.mark.slow),
        pytest.param("percentile", 3, "maximize", marks=pytest.mark.slow),
    ],
)
def test_decisions_and_suggestions_are_those_of_the_client(
    strategy: str, seed: int, direction: Direction
) -> None:
    ours = AxOptimizer(
        SQUARE,
        Objective("loss", direction),
        seed=seed,
        generation_strategy=quick_strategy(seed),
        early_stopping=STRATEGIES[strategy](),
    )
    sign = 1.0 if direction == "minimize" else -1.0
    experiment_of(trainer(sign), seed=0).optimize(ours, 5)

    theirs = native(STRATEGIES[strategy](), 5, seed, direction)
    assert renamed(learned(ours.client)) == learned(theirs)
    states = {trial.status for trial in theirs._experiment.trials.values()}
    assert states == {TrialStatus.COMPLETED, TrialStatus.EARLY_STOPPED}
    assert [each.status is Status.PRUNED for each in ours.observations] == [
        trial.status is TrialStatus.EARLY_STOPPED for trial in theirs._experiment.trials.values()
    ]


def quick(strategy: str = "threshold", **options: Any) -> AxOptimizer:
    return AxOptimizer(
        SQUARE,
        LOSS,
        seed=0,
        generation_strategy=sobol_strategy(),
        early_stopping=STRATEGIES[strategy](),
        **options,
    )


def test_a_resumed_search_and_an_attached_history_have_the_same_data(tmp_path: Path) -> None:
    experiment = experiment_of(trainer(1.0), seed=0)
    whole, attached = quick(), quick()
    experiment.optimize(whole, 6)
    for trials in (3, 6):
        resumed = quick()
        experiment.optimize(resumed, trials, storage=tmp_path / "runs.db")
    attached.attach(whole.history)

    assert {each.status for each in whole.observations} == {Status.COMPLETED, Status.PRUNED}
    assert learned(resumed.client) == learned(whole.client)
    assert rows_of(attached.client) == rows_of(whole.client)

    back = history_from_ax(whole.client)
    assert [each.status for each in back] == [each.status for each in whole.observations]
    for one, other in zip(back, whole.observations, strict=True):
        # Ax has the outcome of a completed trial in place of its last point.
        curve = other.replicates[0].curves["loss"]
        if other.status is Status.COMPLETED:
            curve = (*curve[:-1], (EPOCHS - 1, other["loss"]))
        assert one.replicates[0].curves == {"loss": curve}
    assert back.notes == []


def test_between_replicates_it_is_asked_about_the_running_mean() -> None:
    def noisy(data: Any, ctx: FrozenContext, *, x: float, y: float) -> Any:
        return data, {"loss": 0.1 * (1 + x + ctx["replicate"] * y)}

    optimizer = quick()
    experiment_of(noisy, seed=0).optimize(optimizer, 6, 4)

    counts = {len(each.replicates) for each in optimizer.observations}
    assert counts == {3, 4}  # It may end a trial at the progression 2.
    for observation in optimizer.observations:
        replicates = [each["loss"] for each in observation.replicates]
        assert observation["loss"] == pytest.approx(sum(replicates) / len(replicates))


def test_failed_trials_and_values_that_are_not_finite_do_not_confuse_it() -> None:
    def fails(data: Any, ctx: FrozenContext, *, x: float, y: float) -> Any:
        ctx.report("loss", float("nan"), step=0)
        ctx.report("loss", -100.0, step=1)
        if x < 0.5:
            raise ValueError("out of memory, say")
        return data, {"loss": x}

    optimizer = AxOptimizer(
        SQUARE,
        LOSS,
        seed=0,
        generation_strategy=quick_strategy(0),
        early_stopping=STRATEGIES["threshold"](),
    )
    experiment_of(fails, seed=0).optimize(optimizer, 6)

    with by_hand():
        latest = optimizer.client._experiment.lookup_data().df
    failed = [each.status is Status.FAILED for each in optimizer.observations]
    assert set(failed) == {True, False}
    worst = max(each["loss"] for each in optimizer.observations if not each.error)
    for value, has_failed in zip(latest["mean"], failed, strict=True):
        assert value == worst if has_failed else value > 0


def test_a_pruned_trial_without_the_values_of_constraints_is_stopped_early() -> None:
    optimizer = quick(constraints=[Constraint("lag", "<=", 1.0)])
    (treatment,) = optimizer.ask()
    assert optimizer.report(treatment, 0, 0.1) is False
    assert optimizer.report(treatment, 2, 9.0) is True
    optimizer.tell(Observation(treatment, status=Status.PRUNED))

    (trial,) = optimizer.client._experiment.trials.values()
    assert trial.status is TrialStatus.EARLY_STOPPED


def test_what_ax_cannot_do_is_refused_when_it_is_built() -> None:
    with pytest.raises(ObjectiveError, match="one learning curve"):
        AxOptimizer(
            SQUARE,
            [LOSS, Objective("acc", "maximize")],
            early_stopping=PercentileEarlyStoppingStrategy(),
        )
    with pytest.raises(UsageError, match=r"looks at \['acc'\], but Ax hears.*'loss'"):
        AxOptimizer(
            SQUARE,
            LOSS,
            early_stopping=OrEarlyStoppingStrategy(
                PercentileEarlyStoppingStrategy(["loss"]), ThresholdEarlyStoppingStrategy(["acc"])
            ),
        )
    with pytest.raises(UsageError, match="takes an early stopping strategy of Ax"):
        AxOptimizer(SQUARE, LOSS, early_stopping="percentile")  # type: ignore[arg-type]
    AxOptimizer(SQUARE, LOSS, early_stopping=PercentileEarlyStoppingStrategy(["loss"]))


def test_a_report_leaves_no_trace(caplog: pytest.LogCaptureFixture) -> None:
    strategy = STRATEGIES["percentile"]()
    optimizer = AxOptimizer(SQUARE, LOSS, seed=0, early_stopping=strategy)
    (treatment,) = optimizer.ask()
    with caplog.at_level(logging.INFO):
        optimizer.report(treatment, 1, 0.5)

    assert strategy._last_check_progressions == {}
    assert optimizer.capabilities.pruning
    assert not AxOptimizer.capabilities.pruning
