"""The progress bar and the progress lines: what they show while a search runs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystallize_opt import (
    BaseOptimizer,
    Constraint,
    FrozenContext,
    History,
    Objective,
    Observation,
    Status,
    Storage,
    Treatment,
)
from crystallize_opt.errors import UsageError
from crystallize_opt.search.callbacks import RunStarted, RunStopped, TrialAsked, TrialTold
from crystallize_opt.search.progress import ProgressBar, ProgressLines
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

    def refresh(self) -> None:
        """Bars are drawn again; this one keeps all it was given anyway."""

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
    bar(RunStarted("X", criterion.objectives, 9, 1, 1, resumed, criterion, "X"))
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
    trials = [trial(1.0), trial(3.0, epochs=9), trial(2.0, epochs=9), trial(0.5)]
    criterion = Criterion((LOSS,), fidelity="epochs")

    assert shown(monkeypatch, criterion, trials) == [1.0, 3.0, 2.0, 2.0]


def test_trials_from_before_a_resume_count(monkeypatch: pytest.MonkeyPatch) -> None:
    before = (trial(0.1, lag=2.0), trial(1.0))

    assert shown(monkeypatch, Criterion((LOSS,), (LAG,)), [trial(2.0)], before) == [1.0, 1.0]


def test_several_objectives_have_no_best_value(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, Criterion((LOSS, GAIN)), [trial(1.0), trial(0.5)]) == [None, None]


def test_abandoned_trials_have_not_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    bar = Bar(initial=0)
    monkeypatch.setattr("tqdm.auto.tqdm", lambda **_: bar)
    progress = ProgressBar()
    progress(RunStarted("X", (LOSS,), 9, 1, 1, (), Criterion((LOSS,)), "X"))
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


def test_the_bar_is_called_by_the_run_or_the_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles: list[str] = []

    def make(*, desc: str, **options: int) -> Bar:
        titles.append(desc)
        return Bar(initial=0)

    monkeypatch.setattr("tqdm.auto.tqdm", make)
    toy_experiment().optimize(grid(DELTAS), 1, progress=True)
    toy_experiment(name="digits").optimize(grid(DELTAS), 1, progress=True)
    storage = Storage(tmp_path / "runs.db", run="night")
    toy_experiment(name="digits").optimize(grid(DELTAS), 1, progress=True, storage=storage)

    assert titles == ["GridOptimizer", "digits", "night"]


def test_a_resumed_trial_counts_as_running_until_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial that was running when its search was interrupted is started again, but not asked."""
    bars: list[Bar] = []

    def make(*, initial: int, **options: object) -> Bar:
        bars.append(Bar(initial=initial))
        return bars[-1]

    def step(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        if delta == DELTAS[1] and ctx["replicate"] == 0 and not Path("stopped").exists():
            Path("stopped").touch()
            raise KeyboardInterrupt
        return data, {"sum": delta}

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tqdm.auto.tqdm", make)
    for _ in range(3):
        experiment_of(step, seed=0).optimize(grid(DELTAS), 3, progress=True, storage="runs.db")

    interrupted, resumed, complete = ([each.get("running", 0) for each in b.shown] for b in bars)
    assert (interrupted, resumed, complete) == ([0, 0], [0, 0, 0], [0])
    assert bars[1].shown[-1]["failed"] == 0
    assert bars[2].shown == [{"best sum": 0.0, "failed": 0}], "a complete run shows its best, too"


@given(st.lists(st.floats(0, 100), min_size=1, max_size=20))
def test_a_line_is_due_when_time_has_passed(waits: list[float]) -> None:
    lines: list[str] = []
    now = 1000.0
    history = History([Observation(Treatment("t"), {"loss": 0.25})], [LOSS])
    with mock.patch("time.monotonic", side_effect=lambda: now):
        shown = ProgressLines(lines.append, 60.0)
        shown.begin("digits", 50, 2)
        due, expected = now + 60.0, []
        for count, wait in enumerate(waits, 3):
            now += wait
            shown.add(lambda: history)
            if now >= due:
                due = now + 60.0
                expected.append(count)

    assert [int(line.split(" of ")[0].split()[-1]) for line in lines] == expected
    assert all(", best loss=0.25, 0:" in line for line in lines)


def test_lines_are_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crystallize_opt.search.progress._SECONDS", 0.0)
    with caplog.at_level(logging.INFO, "crystallize_opt"):
        toy_experiment(name="digits").optimize(grid(DELTAS), 3, progress="log")

    lines = [r.getMessage() for r in caplog.records if " of 3 trials" in r.getMessage()]
    assert [line.split(", ")[0] for line in lines] == [
        f"digits: {n} of 3 trials" for n in (1, 2, 3)
    ]
    assert "best sum=6" in lines[-1]


def test_another_word_for_progress_is_refused() -> None:
    wrong: Any = "lines"
    with pytest.raises(UsageError, match="progress= is True, False, None or 'log', not 'lines'"):
        toy_experiment().optimize(grid(DELTAS), 3, progress=wrong)
