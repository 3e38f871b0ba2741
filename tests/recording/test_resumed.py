"""Events, stop conditions and plugins of a resumed search include the earlier trials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from crystallize_opt import Experiment, Failures, FrozenContext, History, NoImprovement, TargetValue
from crystallize_opt.errors import TrialsFailedError
from crystallize_opt.pipeline.seeding import SeedPlugin
from crystallize_opt.search.callbacks import (
    RunStarted,
    TrialAsked,
    TrialCompleted,
    TrialStored,
    TrialTold,
)
from tests.recording.resuming import loss, search, tpe
from tests.toy import experiment_of


def test_events_of_a_run_that_goes_on(tmp_path: Path) -> None:
    events: list[Any] = []
    search(tmp_path / "runs.db", trials=3)
    optimizer = search(tmp_path / "runs.db", trials=4, callbacks=[events.append])

    assert isinstance(events[0], RunStarted)
    assert list(events[0].resumed) == optimizer.observations[:3]
    names = [type(event) for event in events[1:-1]]
    assert names.index(TrialAsked) < names.index(TrialStored) < names.index(TrialCompleted)
    assert names.index(TrialCompleted) < names.index(TrialTold)
    assert names.count(TrialStored) == 1


def test_the_progress_bar_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search(tmp_path / "runs.db", trials=3)
    experiment_of(loss, seed=3).optimize(tpe(), 4, storage=tmp_path / "runs.db", progress=True)

    assert "4/4" in capsys.readouterr().err


def test_stop_conditions_know_the_trials_before(tmp_path: Path) -> None:
    search(tmp_path / "runs.db", trials=5)
    since_best = 4 - min(
        range(5), key=[o["loss"] for o in History.load(tmp_path / "runs.db")].__getitem__
    )
    assert since_best > 0
    for stop in (
        TargetValue(1e9),
        NoImprovement(since_best),
        lambda state: len(state.observations) >= 5,
    ):
        optimizer = search(tmp_path / "runs.db", trials=9, stop=stop)
        assert len(optimizer.observations) == 5


def test_the_plugins_get_the_metrics_of_all_trials(tmp_path: Path) -> None:
    results = []

    class Kept(SeedPlugin):
        version = "the same"  # though `results` grows

        def after_run(self, experiment: Experiment, result: Any) -> None:
            results.append(result)

    for trials in (3, 5):
        experiment = experiment_of(loss, plugins=[Kept(3)])
        search(tmp_path / "runs.db", trials=trials, experiment=experiment, replicates_per_trial=2)

    assert list(results[1].metrics.treatments) == [f"trial_{i}" for i in range(5)]
    for name in ("trial_0", "trial_1", "trial_2"):
        one, other = (result.metrics.treatments[name].metrics for result in results)
        assert one["loss"] == other["loss"]


def test_failures_before_count_as_failures(tmp_path: Path) -> None:
    def fail(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        raise ValueError("no")

    def run(trials: int, **options: Any) -> None:
        search(
            tmp_path / "runs.db", experiment=experiment_of(fail, seed=0), trials=trials, **options
        )

    failures = Failures(give_up_after=4, give_up_after_same=None)
    with pytest.raises(TrialsFailedError, match="first 4 trials"):
        run(10, failures=failures)
    with pytest.raises(TrialsFailedError, match="first 5 trials"):
        run(10, failures=failures)
    observations = History.load(tmp_path / "runs.db").observations
    assert len(observations) == 5
    assert "ValueError: no" in str(observations[0].error)
    assert 'raise ValueError("no")' in str(observations[0].traceback)
