"""The progress bar: what it shows while a search runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from crystallize_opt import (
    BaseOptimizer,
    Constraint,
    FrozenContext,
    Objective,
    Observation,
    Status,
    Treatment,
)
from crystallize_opt.search.callbacks import RunStarted, RunStopped, TrialAsked, TrialTold
from crystallize_opt.search.progress import ProgressBar
from crystallize_opt.trials.best import Criterion
from tests.search.grids import grid
from tests.toy import DELTAS, PlainOptimizer, experiment_of, toy_experiment

LOSS, GAIN = Objective("loss", "minimize"), Objective("gain", "maximize")
LAG = Constraint("lag", "<=", 1.0)


class Bar:
    """Stands for tqdm's bar."""

    def __init__(self, *, initial: int, **options: object) -> None:
        self.shown: list[dict[str, object]] = []
        self.count = initial

    def set_postfix(self, shown: dict[str, object], *, refresh: bool) -> None:
        self.shown.append(shown)

    def update(self) -> None:
        self.count += 1

    def close(self) -> None:
        self.count = -1


def trial(loss: float, lag: float = 0.0, epochs: int = 1) -> Observation:
    metrics = {"loss": loss, "lag": lag, "gain": 1.0}
    return Observation(Treatment("t", {"epochs": epochs}), metrics)


def shown(
    monkeypatch: pytest.MonkeyPatch,
    criterion: Criterion,
    trials: list[Observation],
    resumed: tuple[Observation, ...] = (),
) -> list[object]:
    """Return what the bar shows as the best after each trial."""
    bars: list[Bar] = []

    def make(**options: int) -> Bar:
        bars.append(Bar(**options))
        return bars[-1]

    monkeypatch.setattr("tqdm.auto.tqdm", make)
    bar = ProgressBar()
    bar(RunStarted("X", criterion.objectives, 9, 1, 1, resumed, criterion))
    for each in trials:
        bar(TrialAsked(each.treatment))
        bar(TrialTold(each))
    bar(RunStopped("enough", None))
    assert bars[0].count == -1
    return [each.get("best loss") for each in bars[0].shown]


def test_an_infeasible_best_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = [trial(0.1, lag=2.0), trial(3.0), trial(0.2, lag=1.5), trial(2.0, lag=1.0)]

    assert shown(monkeypatch, Criterion((LOSS,), (LAG,)), trials) == [None, 3.0, 3.0, 2.0]


def test_the_best_shown_has_the_highest_fidelity(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = [trial(1.0), trial(3.0, epochs=9), trial(0.5), trial(2.0, epochs=9)]
    criterion = Criterion((LOSS,), fidelity="epochs")

    assert shown(monkeypatch, criterion, trials) == [1.0, 3.0, 3.0, 2.0]


def test_trials_from_before_a_resume_count(monkeypatch: pytest.MonkeyPatch) -> None:
    before = (trial(0.1, lag=2.0), trial(1.0))

    assert shown(monkeypatch, Criterion((LOSS,), (LAG,)), [trial(2.0)], before) == [1.0]


def test_several_objectives_have_no_best_value(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, Criterion((LOSS, GAIN)), [trial(1.0), trial(0.5)]) == [None, None]


def test_abandoned_trials_have_not_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    bar = Bar(initial=0)
    monkeypatch.setattr("tqdm.auto.tqdm", lambda **_: bar)
    progress = ProgressBar()
    progress(RunStarted("X", (LOSS,), 9, 1, 1, (), Criterion((LOSS,))))
    for status in (Status.ABANDONED, Status.PRUNED, Status.FAILED, Status.INVALID):
        progress(TrialAsked(Treatment("t")))
        progress(TrialTold(Observation(Treatment("t"), status=status)))

    assert [each["failed"] for each in bar.shown] == [0, 0, 1, 2]


@pytest.mark.parametrize("optimizer_of", [grid, PlainOptimizer])
def test_the_bar_shows_best_value_and_failures(
    optimizer_of: Callable[..., BaseOptimizer], capsys: pytest.CaptureFixture[str]
) -> None:
    def record(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        if delta == 2.0:
            raise ValueError("boom")
        return data, {"sum": delta}

    experiment_of(record).optimize(optimizer_of([1.0, 2.0, 0.5, 3.0]), 4, progress=True)

    shown = capsys.readouterr().err
    assert "4/4" in shown
    assert "best sum=0.5" in shown
    assert "failed=1" in shown


@pytest.mark.parametrize("progress", [None, False])
def test_no_bar_where_stderr_is_no_terminal(
    progress: bool | None, capsys: pytest.CaptureFixture[str]
) -> None:
    toy_experiment().optimize(grid(DELTAS), 3, progress=progress)

    assert capsys.readouterr() == ("", "")
