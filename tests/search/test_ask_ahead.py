"""Workers(ask_ahead=True): the next trial is asked for while the workers run others."""

from __future__ import annotations

import os
import signal
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from crystallize_opt import (
    FrozenContext,
    History,
    Objective,
    Search,
    Status,
    Treatment,
    Workers,
    pipeline_step,
)
from crystallize_opt.adapters import GridOptimizer, RandomOptimizer
from crystallize_opt.errors import UsageError
from crystallize_opt.search.ahead import Ahead
from tests.toy import PlainOptimizer, experiment_of, toy_experiment

LOSS = Objective("loss", "minimize")
SPACE = {"x": (0.0, 1.0)}
NAMES = [f"trial_{number}" for number in range(4)]
A_LONG_TIME = 60  # seconds; a test that waits for so long fails


class Gates:
    """Threads wait here until others have come as far as they need them."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self._open: dict[str, threading.Event] = defaultdict(threading.Event)

    def open(self, name: str) -> None:
        self._open[name].set()

    def wait(self, name: str) -> None:
        assert self._open[name].wait(A_LONG_TIME), f"{name} did not happen"


class Course(RandomOptimizer):
    """Notes what is pending at each ask, and calls `before` first."""

    def __init__(self, before: Any = None) -> None:
        super().__init__(SPACE, LOSS, seed=0)
        self.asks = 0
        self.pending_at_asks: list[int] = []
        self._before = before

    def ask(self, n: int = 1, **options: Any) -> list[Treatment]:
        if self._before is not None:
            self._before(self.asks)
        self.asks += 1
        self.pending_at_asks.append(len(self.pending))
        return super().ask(n, **options)


def test_a_worker_begins_its_next_trial_while_the_optimizer_is_asked() -> None:
    gates = Gates()

    def before(asks: int) -> None:
        if asks >= 2:
            gates.wait(f"trial {asks - 1} has begun")

    optimizer = Course(before)

    def step(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        number = len(gates.ran)
        gates.ran.append(ctx["condition"])
        gates.open(f"trial {number} has begun")
        if number == 0:
            gates.wait("trial 1 has been asked for")
        return data, {"loss": x}

    def note(event: Any) -> None:
        if type(event).__name__ == "TrialAsked" and event.treatment.name == "trial_1":
            gates.open("trial 1 has been asked for")

    workers = Workers("threads", 1, ask_ahead=True)
    experiment_of(step).optimize(optimizer, 6, workers=workers, callbacks=[note])

    assert gates.ran == [f"trial_{number}" for number in range(6)]
    assert max(optimizer.pending_at_asks) == 1


def test_at_most_one_trial_per_worker_is_ahead_and_events_are_in_order() -> None:
    seen: dict[str, list[str]] = defaultdict(list)
    optimizer = Course()

    def note(event: Any) -> None:
        treatment = getattr(event, "treatment", None)
        if treatment is None and hasattr(event, "observation"):
            treatment = event.observation.treatment
        if treatment is not None:
            seen[treatment.name].append(type(event).__name__)

    def step(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        return data, {"loss": x}

    workers = Workers("threads", 3, ask_ahead=True)
    experiment_of(step).optimize(optimizer, 40, workers=workers, callbacks=[note])

    assert len(optimizer.observations) == 40
    assert optimizer.asks == 40
    assert max(optimizer.pending_at_asks) <= 5
    order = ["TrialAsked", "TrialStarted", "TrialCompleted", "TrialTold"]
    assert dict(seen) == {f"trial_{number}": order for number in range(40)}


def gated(gates: Gates) -> Any:
    """Trial 0 ends when four trials have been asked for; its worker then begins trial 2."""

    def step(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        gates.ran.append(ctx["condition"])
        gates.open(f"{ctx['condition']} has begun")
        if ctx["condition"] == "trial_0":
            gates.wait("trial_3 has been asked for")
        else:
            gates.wait("trial_3 has been given up")
        return data, {"loss": x}

    return experiment_of(step, seed=0)


@pytest.mark.parametrize("way", ["stop=", "stop()", "interrupt"])
def test_a_trial_ahead_is_not_begun_when_the_search_ends(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ahead, "most", 4)  # As if an ask took as long as a trial.
    gates = Gates()

    def note(event: Any) -> None:
        kind = type(event).__name__
        if kind == "TrialAsked":
            gates.open(f"{event.treatment.name} has been asked for")
        if kind == "TrialTold" and event.observation.treatment.name == "trial_0":
            gates.wait("trial_2 has begun")
            if way == "interrupt":
                signal.raise_signal(signal.SIGINT)
        if kind == "TrialTold" and event.observation.status is Status.ABANDONED:
            gates.open("trial_3 has been given up")

    def search(experiment: Any, **options: Any) -> tuple[Any, Any]:
        optimizer = Course()
        found = Search(
            experiment,
            optimizer,
            8,
            workers=Workers("threads", 2, ask_ahead=True),
            storage=tmp_path / "runs.db",
            stop=[lambda state: "enough" if way == "stop=" and state.observations else None],
            **options,
        )
        return found, optimizer

    found, optimizer = search(gated(gates), callbacks=[note])
    if way == "stop()":
        for _ in found:
            found.stop("enough")
    else:
        found.run()

    assert sorted(gates.ran) == NAMES[:3]
    told = {o.treatment.name: o.status for o in optimizer.observations}
    assert told == dict.fromkeys(NAMES[:3], Status.COMPLETED) | {NAMES[3]: Status.ABANDONED}
    assert found.stop_reason == ("interrupted by SIGINT" if way == "interrupt" else "enough")
    stored = History.load(tmp_path / "runs.db")
    is_lost = way != "interrupt"  # After an interruption, the trial runs when the run is resumed.
    assert [t.name for t in stored.pending] == [] if is_lost else ["trial_3"]

    again, resumed = search(gated(gates))
    again.run()
    ran = len(gates.ran) - 3
    assert ran == {"stop=": 0, "stop()": 4, "interrupt": 5}[way]
    assert len({t.params["x"] for t in (o.treatment for o in resumed.observations)}) == 3 + (
        ran + is_lost
    )


def test_a_callback_may_stop_the_search_when_a_trial_is_asked_for_ahead() -> None:
    gates, optimizer = Gates(), Course()

    def step(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        gates.ran.append(ctx["condition"])
        gates.wait("trial_2 has been given up")
        return data, {"loss": x}

    def note(event: Any) -> None:
        if type(event).__name__ == "TrialAsked" and event.treatment.name == "trial_2":
            search.stop("enough")
        if type(event).__name__ == "TrialTold" and event.observation.status is Status.ABANDONED:
            gates.open("trial_2 has been given up")

    workers = Workers("threads", 2, ask_ahead=True)
    search = Search(experiment_of(step), optimizer, 8, workers=workers, callbacks=[note])
    search.run()

    assert sorted(gates.ran) == ["trial_0", "trial_1"]
    assert optimizer.observations[0].status is Status.ABANDONED


def test_as_many_trials_are_ahead_as_workers_finish_during_an_ask() -> None:
    ahead = Ahead(Workers("threads", 4, ask_ahead=True))
    assert ahead.most == 5  # Nothing is known yet.
    for ask, runs, most in [
        (0.01, (2.0, 3.0), 5),
        (0.6, (2.0, 3.0), 6),  # At most 4 * 0.6 / 2 workers finish: two.
        (0.6, (1.0,), 7),
        (5.0, (1.0,), 8),
        (5.0, (0.0, None), 8),
    ]:
        ahead.asked(ask)
        for run in runs:
            ahead.ran(run)
        assert ahead.most == most
    for _ in range(8):
        ahead.ran(2.0)
        ahead.asked(0.01)
    assert ahead.most == 5  # Only the last ones count.


def test_a_finite_space_ends_with_all_of_its_points() -> None:
    def step(data: Any, ctx: FrozenContext, *, x: int) -> Any:
        return data, {"loss": x}

    optimizer = GridOptimizer({"x": (1, 5)}, LOSS)
    search = Search(
        experiment_of(step), optimizer, 20, workers=Workers("threads", 2, ask_ahead=True)
    )
    search.run()

    assert sorted(o["loss"] for o in optimizer.observations) == [1, 2, 3, 4, 5]
    assert search.stop_reason is not None
    assert "exhausted" in search.stop_reason


@pipeline_step()
def may_die(data: Any, ctx: FrozenContext, *, x: float) -> Any:
    if ctx["condition"] == "trial_1":
        os._exit(3)
    return data, {"loss": x}


def test_a_dead_worker_costs_its_trial_only() -> None:
    optimizer = Course()
    experiment = toy_experiment()
    experiment.pipeline.steps[:] = [may_die()]
    experiment.optimize(optimizer, 8, workers=Workers("processes", 2, ask_ahead=True))

    statuses = {o.treatment.name: o.status for o in optimizer.observations}
    assert statuses.pop("trial_1") is Status.WORKER_DIED
    assert list(statuses.values()) == [Status.COMPLETED] * 7


def test_what_leaves_nothing_to_overlap_is_refused() -> None:
    with pytest.raises(UsageError, match=r"in this process.*Workers\('processes', 8, ask_ahead"):
        Workers(None, 8, ask_ahead=True)
    with pytest.raises(UsageError, match=r"batch=True asks only when.*Give one of them"):
        Workers("threads", 2, batch=True, ask_ahead=True)
    with pytest.raises(UsageError, match="ask_ahead is True or False, not 2"):
        Workers("threads", 2, ask_ahead=2)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"a plain one.*Leave ask_ahead out"):
        toy_experiment().optimize(
            PlainOptimizer([1.0]), 1, workers=Workers("threads", 2, ask_ahead=True)
        )
