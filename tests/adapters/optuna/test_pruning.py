"""Pruners end trials between their replicates."""

from __future__ import annotations

from operator import attrgetter

import optuna
import pytest

from crystallize_opt import (
    Experiment,
    Float,
    FrozenContext,
    Pipeline,
    Pruned,
    Status,
    data_source,
    pipeline_step,
)
from crystallize_opt.adapters import OptunaOptimizer
from tests.adapters.optuna.native import LOSS

# Optuna marks whole samplers and pruners as experimental; that is no fault of a test.
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


@data_source
def nothing(ctx: FrozenContext) -> None:
    return None


@pipeline_step()
def noisy(data: None, ctx: FrozenContext, *, x: float = 0.0) -> None:
    ctx.metrics.add("loss", x * x + 0.01 * ctx["replicate"])


@pytest.mark.parametrize("paired", [False, True])
def test_a_pruner_ends_trials_between_replicates(paired: bool) -> None:
    pruner = (
        optuna.pruners.WilcoxonPruner(p_threshold=0.2, n_startup_steps=2)
        if paired
        else optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=1)
    )
    experiment = Experiment(nothing(), Pipeline([noisy()]), seed=0)
    optimizer = OptunaOptimizer({"x": (-5.0, 5.0)}, LOSS, seed=0, pruner=pruner)
    best = experiment.optimize(optimizer, 20, 6)

    pruned = [o for o in optimizer.observations if o.status is Status.PRUNED]
    assert pruned
    assert all(1 <= len(o.replicates) < 6 for o in pruned)
    assert best.name not in {o.treatment.name for o in pruned}
    assert all(trial.state.is_finished() for trial in optimizer.study.trials)
    # Pruners that compare trials see running means; Wilcoxon sees each replicate.
    first = optimizer.study.trials[0].intermediate_values
    losses = [replicate["loss"] for replicate in optimizer.observations[0].replicates]
    if paired:
        assert list(first.values()) == losses
    else:
        means = [sum(losses[: n + 1]) / (n + 1) for n in range(6)]
        assert list(first.values()) == pytest.approx(means)


def test_without_a_pruner_every_replicate_runs() -> None:
    experiment = Experiment(nothing(), Pipeline([noisy()]), seed=0)
    optimizer = OptunaOptimizer({"x": (-5.0, 5.0)}, LOSS, seed=0)
    experiment.optimize(optimizer, 5, 3)

    assert [len(o.replicates) for o in optimizer.observations] == [3] * 5
    assert all(not trial.intermediate_values for trial in optimizer.study.trials)


@pytest.mark.parametrize("replicates", [1, 2])
def test_a_pruner_that_is_never_asked_is_said_once(
    replicates: int, caplog: pytest.LogCaptureFixture
) -> None:
    experiment = Experiment(nothing(), Pipeline([noisy()]), seed=0)
    pruner = optuna.pruners.MedianPruner()
    optimizer = OptunaOptimizer({"x": (-5.0, 5.0)}, LOSS, seed=0, pruner=pruner)
    experiment.optimize(optimizer, 5, replicates)

    said = [each for each in caplog.messages if "reported no intermediate value" in each]
    assert len(said) == (replicates == 1)
    assert all("ctx.report('loss', value, step)" in each for each in said)


def test_a_pruner_that_never_prunes_is_none() -> None:
    experiment = Experiment(nothing(), Pipeline([noisy()]), seed=0)
    pruner = optuna.pruners.NopPruner()
    optimizer = OptunaOptimizer({"x": (-5.0, 5.0)}, LOSS, seed=0, pruner=pruner)

    assert optimizer.capabilities.pruning is False
    experiment.optimize(optimizer, 2)


@pytest.mark.parametrize("replicates", [1, 3])
@pytest.mark.parametrize("paired", [False, True])
def test_a_trial_that_prunes_itself_without_a_value_is_told(paired: bool, replicates: int) -> None:
    pruner = optuna.pruners.WilcoxonPruner() if paired else optuna.pruners.MedianPruner()

    def loss(x: Float(0.0, 1.0)) -> float:  # type: ignore[valid-type]
        if x > 0.5:
            raise Pruned("the loss diverges")
        return float(x)

    experiment = Experiment.of(loss, seed=0)
    optimizer = OptunaOptimizer(experiment.search_space(), LOSS, seed=0, pruner=pruner)
    experiment.optimize(optimizer, 12, replicates)
    pruned = [each.status is Status.PRUNED for each in optimizer.observations]
    assert pruned == [each["x"] > 0.5 for each in map(attrgetter("params"), optimizer.observations)]
    assert any(pruned)
    assert all(trial.state.is_finished() for trial in optimizer.study.trials)
