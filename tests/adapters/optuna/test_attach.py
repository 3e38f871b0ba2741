"""Attached trials are in the study as they would be if it had suggested them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.pruners import BasePruner, MedianPruner, WilcoxonPruner
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import TrialState

from crystallize_opt import (
    Categorical,
    Constant,
    Float,
    FrozenContext,
    Objective,
    Observation,
    Ordinal,
    Replicate,
    SearchSpace,
    Status,
    Treatment,
)
from crystallize_opt.adapters import OptunaOptimizer
from tests.adapters.parity import any_loss
from tests.toy import experiment_of

# Optuna marks whole samplers and pruners as experimental; that is no fault of a test.
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

LOSS = Objective("loss", "minimize")
SQUARE = {"x": (0.0, 1.0), "y": (0.0, 1.0)}


def test_attached_trials_are_in_the_study_with_their_values() -> None:
    space = SearchSpace(
        {
            "kind": Categorical(["a", (1, 2)]),
            "x": Float(0.0, 1.0, step=0.1).when(kind="a"),
            "size": Ordinal(["s", "m"]),
            "k": Constant(3),
        }
    )
    points = [
        {"kind": "a", "x": 0.3, "size": "m", "k": 3},
        {"kind": (1, 2), "size": "s", "k": 3},
    ]
    done, failed = (Treatment(f"old_{i}", point) for i, point in enumerate(points))
    optimizer = OptunaOptimizer(space, LOSS, seed=0)
    optimizer.attach([Observation(done, {"loss": 0.25}), Observation(failed, status=Status.FAILED)])

    first, second = optimizer.study.trials
    assert (first.params, first.value) == ({"kind": 0, "x": 0.3, "size": 1}, 0.25)
    assert (second.params, second.state) == ({"kind": 1, "size": 0}, TrialState.PRUNED)
    assert optimizer.get_best_treatment() is done
    assert optimizer.ask()[0].name == "trial_2"


def test_attached_trials_count_for_the_sampler() -> None:
    space = SearchSpace(SQUARE)
    history = [space.sample(seed) for seed in range(15)]
    ours = OptunaOptimizer(space, LOSS, sampler=TPESampler(seed=5))
    ours.attach(
        Observation(Treatment(f"old_{i}", p), {"loss": any_loss(p)}) for i, p in enumerate(history)
    )
    study = optuna.create_study(sampler=TPESampler(seed=5), study_name="native")
    distributions: dict[str, optuna.distributions.BaseDistribution] = {
        name: optuna.distributions.FloatDistribution(0, 1) for name in space
    }
    for point in history:
        study.add_trial(
            optuna.trial.create_trial(
                params=point, distributions=distributions, value=any_loss(point)
            )
        )

    assert dict(ours.ask()[0].params) == study.ask(distributions).params


# Told, attached and resumed -------------------------------------------------------------------


def learned(optimizer: OptunaOptimizer) -> list[tuple[Any, ...]]:
    """What the study has of each trial."""
    return [
        (trial.params, trial.state, trial.values, trial.intermediate_values, trial.constraints)
        for trial in optimizer.study.trials
    ]


SAMPLERS: dict[str, Callable[[], BaseSampler]] = {
    "TPE": lambda: TPESampler(seed=0),
    "GP": lambda: GPSampler(seed=0),
    "NSGA-II": lambda: NSGAIISampler(seed=0),
    "CMA-ES": lambda: CmaEsSampler(seed=0),
    "Random": lambda: RandomSampler(seed=0),
}
PRUNERS: dict[str, Callable[[], BasePruner]] = {
    "median": MedianPruner,
    "Wilcoxon": WilcoxonPruner,
}


@pytest.mark.parametrize("pruner", PRUNERS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_pruned_trial_is_the_same_told_and_attached(sampler: str, pruner: str) -> None:
    replicates = tuple(Replicate(i, i, {"loss": loss}) for i, loss in enumerate((0.4, 0.5)))
    studies = []
    for attached in (False, True):
        optimizer = OptunaOptimizer(
            SQUARE, LOSS, sampler=SAMPLERS[sampler](), pruner=PRUNERS[pruner]()
        )
        for loss in (0.1, 9.0):
            (treatment,) = optimizer.ask()
            for index in range(2):
                optimizer.report_replicate(treatment, index, {"loss": loss})
            optimizer.tell(Observation(treatment, {"loss": loss}))
        if not attached:
            optimizer.study.enqueue_trial({"x": 0.25, "y": 0.5})
            (treatment,) = optimizer.ask()
            for replicate in replicates:
                optimizer.report_replicate(treatment, replicate.index, replicate.metrics)
            optimizer.tell(
                Observation(treatment, {"loss": 0.45}, Status.PRUNED, replicates=replicates)
            )
        else:
            treatment = Treatment("old", {"x": 0.25, "y": 0.5})
            optimizer.attach(
                Observation(treatment, {"loss": 0.45}, Status.PRUNED, replicates=replicates)
            )
        studies.append(learned(optimizer))

    assert studies[1] == studies[0]


# A search with a pruner, and another that begins with its trials -------------------------------


def noisy(data: Any, ctx: FrozenContext, *, x: float) -> Any:
    return data, {"loss": (x - 0.3) ** 2 + 0.001 * ctx["replicate"]}


def pruned_search(trials: int, path: Path | None = None, **attached: Any) -> OptunaOptimizer:
    optimizer = OptunaOptimizer(
        {"x": (0.0, 1.0)},
        LOSS,
        sampler=TPESampler(seed=len(attached)),
        pruner=MedianPruner(n_startup_trials=5),
    )
    for observations in attached.values():
        optimizer.attach(observations)
    experiment_of(noisy, seed=0).optimize(optimizer, trials, 4, storage=path)
    return optimizer


def some_are_pruned(observations: Sequence[Observation]) -> bool:
    return {each.status for each in observations} == {Status.COMPLETED, Status.PRUNED}


def test_a_resumed_search_has_the_same_study(tmp_path: Path) -> None:
    first = pruned_search(20, tmp_path / "runs.db")
    resumed = pruned_search(20, tmp_path / "runs.db")

    assert some_are_pruned(first.observations)
    assert learned(resumed) == learned(first)


def test_the_trials_of_a_search_are_the_same_in_the_next_one() -> None:
    first = pruned_search(20)
    after = OptunaOptimizer({"x": (0.0, 1.0)}, LOSS, seed=1, pruner=MedianPruner())
    after.attach(first.history)

    assert some_are_pruned(first.observations)
    assert learned(after) == learned(first)


def test_a_pruner_compares_with_attached_trials_as_in_a_loop_by_hand() -> None:
    first = pruned_search(20)
    warm = pruned_search(10, attached=first.history)

    study = optuna.create_study(
        study_name="native", sampler=TPESampler(seed=1), pruner=MedianPruner(n_startup_trials=5)
    )
    study.add_trials(first.study.trials)
    states = []
    for _ in range(10):
        trial = study.ask()
        x = trial.suggest_float("x", 0.0, 1.0)
        values: list[float] = []
        pruned = False
        while len(values) < 4 and not pruned:
            values.append((x - 0.3) ** 2 + 0.001 * len(values))
            if len(values) < 4:  # after the last one there is nothing to save
                trial.report(sum(values) / len(values), len(values) - 1)
                pruned = trial.should_prune()
        states.append(TrialState.PRUNED if pruned else TrialState.COMPLETE)
        study.tell(trial, None if pruned else sum(values) / 4, state=states[-1])

    assert set(states) == {TrialState.PRUNED, TrialState.COMPLETE}
    assert [trial.state for trial in warm.study.trials[20:]] == states
