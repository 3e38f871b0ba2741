"""An optimizer that is recorded without a search: asked and told by anyone, at any time."""

from __future__ import annotations

import contextlib
import math
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest

from crystallize_opt import (
    BaseOptimizer,
    Experiment,
    History,
    Objective,
    Observation,
    Status,
    Storage,
    Treatment,
)
from crystallize_opt.adapters import OptunaOptimizer, RandomOptimizer
from crystallize_opt.errors import (
    NoCompletedTrialError,
    ReplayDiverged,
    RunChanged,
    RunLocked,
    TellError,
    UsageError,
)
from crystallize_opt.recording.recorder import RecordedOptimizer
from crystallize_opt.runtime.sync import run_sync
from crystallize_opt.trials.calls import Asked
from crystallize_opt.trials.replicate import Replicate
from tests.recording.driver import LOSS, SPACE, Driver, tpe

ROOT = Path(__file__).parents[2]


class Plain(BaseOptimizer):
    """Suggests two treatments of the same name, and depends on what it is told."""

    def __init__(self, told: Sequence[float] = ()) -> None:
        super().__init__(LOSS)
        self.rng = random.Random(0)
        self.told = list(told)

    async def ask(self) -> list[Treatment]:  # type: ignore[override]
        shift = self.told[-1] if self.told else 0.0
        return [Treatment("twin", {"x": self.rng.random() + shift, "kind": None}) for _ in "ab"]

    async def tell(self, objective_values: Any) -> None:  # type: ignore[override]
        self.told.append(objective_values["loss"])

    async def get_best_treatment(self) -> Treatment:  # type: ignore[override]
        return Treatment("best", {"x": min(self.told)})


def points(treatments: list[Treatment]) -> list[Any]:
    return [(t.name, dict(t.params)) for t in treatments]


def suggestions(make: Callable[[], Any], path: Path | None, *, reopen: bool) -> list[Any]:
    """Ask for trials, tell them in another order, and open the run anew between any two calls."""
    made: list[Any] = []
    driver = Driver(make(), path)

    def next_driver() -> Driver:
        if not reopen:
            return driver
        driver.close()
        return Driver(make(), path)

    for _ in range(3):
        treatments = driver.ask(2)
        made += points(treatments)
        for position in (1, 0):
            driver = next_driver()
            pending = driver.recorded.optimizer.pending
            assert len(pending) == position + 1
            driver.tell(pending[position])
            driver = next_driver()
    driver.close()
    return made


@pytest.mark.parametrize("make", [lambda: RandomOptimizer(SPACE, LOSS, seed=0), tpe, Plain])
def test_time_may_pass_between_any_two_calls(make: Callable[[], Any], tmp_path: Path) -> None:
    whole = suggestions(make, None, reopen=False)

    assert suggestions(make, tmp_path / "whole.db", reopen=False) == whole
    assert suggestions(make, tmp_path / "parts.db", reopen=True) == whole
    stored = [History.load(tmp_path / f"{name}.db") for name in ("whole", "parts")]
    assert [[dict(o) for o in history] for history in stored] == [[dict(o) for o in stored[0]]] * 2
    assert len(stored[0]) == 6


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    driver = Driver(tpe(), tmp_path / "runs.db")
    yield driver
    driver.close()


def test_what_is_told_is_on_disk_before_the_optimizer_hears_of_it(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    seen: list[int] = []

    class Looks(RandomOptimizer):
        def tell(self, objective_values: Any) -> None:
            seen.append(len(History.load(path)))
            if len(seen) == 1:
                raise OSError("the power is off")
            super().tell(objective_values)

    driver = Driver(Looks(SPACE, LOSS, seed=0), path)
    (treatment,) = driver.ask()
    with pytest.raises(OSError, match="power"):
        driver.tell(treatment)
    driver.close()

    assert seen == [1]
    driver = Driver(Looks(SPACE, LOSS, seed=0), path)
    assert len(driver.resumed.observations) == 1
    assert driver.resumed.pending == []
    driver.close()


def test_what_is_attached_and_enqueued_is_on_disk_at_once(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    recorded = RecordedOptimizer(RandomOptimizer(SPACE, LOSS, seed=0), Storage(path))
    run_sync(recorded.resume())
    point = dict(RandomOptimizer(SPACE, LOSS, seed=1).ask()[0].params)

    skipped = recorded.attach([Observation(Treatment("a", point), {"loss": 1.0})])
    assert [each.treatment.name for each in History.load(path)] == ["a"]
    other = Observation(Treatment("b", {"no": 1}), {"loss": 2.0})
    assert skipped == 0
    assert recorded.attach([other], skip_outside=True) == 1

    recorded.enqueue(point)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        kinds = [kind for (kind,) in connection.execute("SELECT kind FROM events ORDER BY seq")]
    assert kinds[-2:] == ["attach", "enqueue"]
    recorded.close()


def test_the_best_and_the_failures(driver: Driver) -> None:
    first, second = driver.ask(2)
    driver.tell(first, status=Status.FAILED, error="boom")
    with pytest.raises(NoCompletedTrialError, match="boom"):
        run_sync(driver.recorded.best())
    told = driver.tell(second)

    assert [o.treatment for o in told] == [second]
    assert run_sync(driver.recorded.best()) is second


def test_a_plain_optimizer_without_a_completed_trial_has_no_best() -> None:
    driver = Driver(Plain())
    first, second = driver.ask()
    assert driver.tell(second, status=Status.TIMED_OUT, error="late") == []
    assert [o.status for o in driver.tell(first, status=Status.FAILED, error="boom")] == [
        Status.FAILED,
        Status.TIMED_OUT,
    ]

    assert driver.recorded.optimizer.optimizer.told == [float("inf")] * 2  # type: ignore[union-attr]
    with pytest.raises(NoCompletedTrialError, match="timed out: late"):
        run_sync(driver.recorded.best())


def test_a_trial_that_was_set_aside_is_pending_again(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    driver = Driver(tpe(), path)
    first, second = driver.ask(2)
    driver.tell(first)
    aside = Observation(second, status=Status.ABANDONED)
    assert len(run_sync(driver.recorded.set_aside(aside))) == 1
    assert driver.recorded.optimizer.pending == []
    assert run_sync(driver.recorded.set_aside(aside)) == []
    # A resumed optimizer would make another suggestion: it does not know that the trial was ended.
    with pytest.raises(UsageError, match="set aside"):
        driver.ask()
    driver.close()

    driver = Driver(tpe(), path)
    assert [o.treatment.name for o in driver.resumed.observations] == [first.name]
    assert points([treatment for treatment, _ in driver.resumed.pending]) == points([second])
    driver.tell(driver.resumed.pending[0][0])
    driver.close()
    assert [o.status for o in History.load(path)] == [Status.COMPLETED] * 2


def test_what_cannot_be_told_is_not_written(driver: Driver, tmp_path: Path) -> None:
    (treatment,) = driver.ask()
    other = Treatment(treatment.name, {**treatment.params, "x": 2.0})
    with pytest.raises(TellError, match="is not the treatment"):
        driver.tell(other)
    with pytest.raises(TellError, match="never asked for"):
        driver.tell(Treatment("trial_9", treatment.params))
    driver.tell(Treatment(treatment.name, dict(treatment.params)))  # It has been to a client.
    with pytest.raises(TellError, match="already been told"):
        driver.tell(treatment)

    assert len(History.load(tmp_path / "runs.db")) == 1


def test_a_metric_that_is_no_number_is_written_as_it_is_told(
    driver: Driver, tmp_path: Path
) -> None:
    (treatment,) = driver.ask()
    run_sync(driver.recorded.tell(Observation(treatment, {"loss": float("nan")})))

    (stored,) = History.load(tmp_path / "runs.db")
    assert stored.status is driver.recorded.optimizer.observations[0].status is Status.INVALID


def test_reports_are_resumed(tmp_path: Path) -> None:
    def make() -> OptunaOptimizer:
        return tpe(pruner=optuna.pruners.ThresholdPruner(upper=0.5))

    path = tmp_path / "runs.db"
    driver = Driver(make(), path)
    first, second = driver.ask(2)
    assert driver.recorded.report_replicate(first, Replicate(0, 7, {"loss": 0.25})) is False
    assert driver.recorded.report_replicate(second, Replicate(0, 7, {"loss": 0.75})) is True
    driver.close()

    driver = Driver(make(), path)
    ((treatment, replicates),) = driver.resumed.pending
    assert treatment.name == first.name
    assert [(r.index, r.seed, dict(r)) for r in replicates] == [(0, 7, {"loss": 0.25})]
    # The other one was to be ended when the process died.
    assert [o.status for o in driver.resumed.observations] == [Status.PRUNED]
    driver.close()


def test_curves_that_are_reported_by_hand_are_stored_and_resumed(tmp_path: Path) -> None:
    def make() -> OptunaOptimizer:
        return tpe(pruner=optuna.pruners.ThresholdPruner(upper=0.5))

    path = tmp_path / "runs.db"
    driver = Driver(make(), path)
    first, second, third = driver.ask(3)
    report = driver.recorded.report
    assert [report(first, 0, 0.25), report(second, 0, 0.75), report(first, 1, 0.3)] == [
        *(False, True, False)
    ]
    run_sync(driver.recorded.tell(Observation(second, status=Status.PRUNED)))
    assert report(third, 0, 0.1) is False  # It is lost when the process dies: nothing is told.
    driver.recorded._log._writer.close()  # type: ignore[union-attr]  # as if it had been killed

    driver = Driver(make(), path)
    pending = {treatment.name: treatment for treatment, _ in driver.resumed.pending}
    assert list(pending) == [first.name, third.name]
    shown = [each.intermediate_values for each in driver.recorded.optimizer.study.trials]  # type: ignore[union-attr]
    assert shown == [{0: 0.25, 1: 0.3}, {0: 0.75}, {}]
    # The first one begins again: its steps have the answers that they had.
    again = pending[first.name]
    assert [driver.recorded.report(again, n, v) for n, v in ((0, 9.0), (1, 9.0), (2, 0.4))] == [
        *(False, False, False)
    ]
    driver.tell(again)
    driver.close()

    told = {each.treatment.name: each for each in History.load(path)}
    assert told[second.name].replicates[0].curves == {"loss": ((0, 0.75),)}
    assert dict(told[second.name]) == {"loss": 0.75}
    assert told[first.name].replicates[0].curves == {"loss": ((0, 0.25), (1, 0.3), (2, 0.4))}
    Driver(make(), path).close()  # Once more, with the same decisions.


def reported_by_hand(make: Callable[[], Any], path: Path, *, reopen: bool) -> list[str]:
    """Report points of trials, and open the run anew between any two calls."""
    driver = Driver(make(), path)

    def report(number: int, step: int, **values: float) -> bool:
        nonlocal driver
        if reopen:
            driver.close()
            driver = Driver(make(), path)
        treatment = driver.recorded.optimizer.ledger.named(f"trial_{number}").treatment  # type: ignore[union-attr]
        value: Any = values if len(values) > 1 else values["loss"]
        return driver.recorded.report(treatment, step, value)

    def tell(number: int, status: Status = Status.COMPLETED, **metrics: float) -> None:
        treatment = driver.recorded.optimizer.ledger.named(f"trial_{number}").treatment  # type: ignore[union-attr]
        run_sync(driver.recorded.tell(Observation(treatment, metrics, status)))

    several = len(driver.recorded.criterion.objectives) > 1
    driver.ask(3)
    said = [report(0, 0, loss=0.25, seconds=1.0), report(1, 0, seconds=3.0, loss=0.75)]
    said += [report(0, 1, loss=math.nan, seconds=2.0)]
    said += [report(0, 2, **({"loss": 0.5, "seconds": 3.0} if several else {"loss": 0.5}))]
    run_sync(driver.recorded.abandon("trial_1"))
    said += [report(1, 5, loss=0.5, seconds=4.0), report(1, 0, loss=9.0, seconds=9.0)]
    said += [report(2, 0, loss=0.125, seconds=0.5)]
    tell(0, loss=0.5, seconds=1.0)
    tell(1, loss=0.25, seconds=1.0)
    tell(2, Status.PRUNED)
    shown = [
        repr([(o, o.replicates, [r.curves for r in o.replicates]) for o in history])
        for history in (driver.recorded.optimizer.history, History.load(path))
    ]
    driver.close()
    events = driver.recorded.optimizer.calls
    driver = Driver(make(), path)  # Once more, with the same calls.
    driver.close()
    assert repr(driver.recorded.optimizer.calls) == repr(events)
    return [*map(str, said), *shown]


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandomOptimizer(SPACE, LOSS, seed=0),
        lambda: RandomOptimizer(SPACE, [LOSS, Objective("seconds", "minimize")], seed=0),
        tpe,
        lambda: tpe(pruner=optuna.pruners.ThresholdPruner(upper=0.5)),
    ],
    ids=["random", "several objectives", "tpe", "pruner"],
)
def test_no_point_of_a_curve_is_lost_between_two_calls(
    make: Callable[[], Any], tmp_path: Path
) -> None:
    whole = reported_by_hand(make, tmp_path / "whole.db", reopen=False)
    parts = reported_by_hand(make, tmp_path / "parts.db", reopen=True)

    assert parts == whole
    assert whole[-1] == whole[-2]
    assert "'seconds': ((0, 3.0), (5, 4.0))" in whole[-1]


def test_one_at_a_time_writes_a_run(driver: Driver, tmp_path: Path) -> None:
    with pytest.raises(RunLocked):
        Driver(tpe(), tmp_path / "runs.db")
    other = Driver(tpe(), tmp_path / "runs.db", run="other")
    other.close()

    assert History.runs(tmp_path / "runs.db") == ["run", "other"]


def test_the_rest_of_what_is_run_is_told_in_plain_data(tmp_path: Path) -> None:
    storage = Storage(tmp_path / "runs.db")
    for about in ({"machine": "a"}, {"machine": "a"}):
        recorded = RecordedOptimizer(tpe(), storage)
        recorded.describe(about)
        run_sync(recorded.resume())
        recorded.close()
    recorded = RecordedOptimizer(tpe(), storage)
    assert recorded.stored_description["machine"] == "a"
    with pytest.raises(RunChanged, match="machine: 'a' became 'b'"):
        recorded.describe({"machine": "b"})
    recorded.close()


def test_another_optimizer_or_seed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    driver = Driver(tpe(), path)
    driver.ask()
    driver.close()

    with pytest.raises(RunChanged, match=r"optimizer\.seed: 1 became 2"):
        Driver(tpe(2), path)
    with pytest.raises(RunChanged, match=r"optimizer\.class"):
        Driver(RandomOptimizer(SPACE, LOSS, seed=1), path)


def test_a_plain_optimizer_that_diverges_gets_no_advice_it_cannot_follow(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    driver = Driver(Plain(), path)
    driver.ask()
    driver.close()
    with pytest.raises(RunChanged, match=r"attributes\.told: \[\] became \[0\.5\]") as changed:
        Driver(Plain(told=[0.5]), path)
    assert "attach" not in str(changed.value)
    other = Plain()
    other.rng.random = lambda: 0.5  # type: ignore[method-assign]

    with pytest.raises(ReplayDiverged, match="fixed seed") as caught:
        Driver(other, path)
    assert not hasattr(caught.value, "__notes__")
    with pytest.raises(UsageError, match="needs an optimizer with attach"):
        Driver(Plain(), path, resume="attach")


def test_a_run_without_an_experiment_is_none_of_an_experiments(tmp_path: Path) -> None:
    from tests.toy import experiment_of

    path = tmp_path / "runs.db"
    Driver(tpe(), path).close()

    def step(data: Any, ctx: Any, *, x: float, kind: Any) -> Any:
        return data, {"loss": x}

    experiment: Experiment = experiment_of(step)
    with pytest.raises(RunChanged, match="experiment: nothing became"):
        experiment.optimize(tpe(), 2, storage=path)


def test_what_is_enqueued_is_resumed(tmp_path: Path) -> None:
    def make() -> Any:
        return RandomOptimizer(SPACE, LOSS, seed=0)

    path = tmp_path / "runs.db"
    driver = Driver(make(), path)
    optimizer: Any = driver.recorded.optimizer
    optimizer.enqueue({"x": 0.125, "kind": (1, 2)})
    optimizer.enqueue({"x": 0.25})
    (first,) = driver.ask()
    assert first.params == {"x": 0.125, "kind": (1, 2)}
    driver.close()

    driver = Driver(make(), path)
    (second,) = driver.ask()
    driver.close()
    assert second.params["x"] == 0.25
    driver = Driver(make(), path)
    driver.close()
    assert driver.resumed.count == 2


KILLED = """
import os, signal, sys
from crystallize_opt import Observation, Storage
from crystallize_opt.recording.recorder import RecordedOptimizer
from crystallize_opt.runtime.sync import run_sync
from tests.recording.driver import tpe

async def main():
    recorded = RecordedOptimizer(tpe(), Storage(sys.argv[1]))
    resumed = await recorded.resume()
    calls = int(sys.argv[2])
    pending = [treatment for treatment, _ in resumed.pending]
    while calls:
        calls -= 1
        if len(pending) < 2:
            pending += await recorded.ask()
        else:
            treatment = pending.pop()
            await recorded.tell(Observation(treatment, {"loss": treatment.params["x"]}))
    os.kill(os.getpid(), signal.SIGKILL)

run_sync(main())
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no such signal")
def test_a_killed_process_loses_nothing(tmp_path: Path) -> None:
    """Two are pending, of which the last is told: as often as there are kills, and without one."""
    for name, calls in (("killed", [1, 2, 4, 1, 3]), ("whole", [11])):
        for count in calls:
            ran = subprocess.run(  # noqa: S603
                [sys.executable, "-c", KILLED, str(tmp_path / f"{name}.db"), str(count)],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                check=False,
            )
            assert (ran.returncode, ran.stderr) == (-signal.SIGKILL, "")

    histories = [History.load(tmp_path / f"{name}.db") for name in ("killed", "whole")]
    found = [[(o.treatment.name, dict(o)) for o in history] for history in histories]
    assert found[0] == found[1]
    assert len(found[0]) == 5
    assert points(histories[0].pending) == points(histories[1].pending)


# Abandoned ----------------------------------------------------------------------------------------


def course(driver: Driver, reopen: Callable[[Driver], Driver]) -> Driver:
    """Abandon two of three trials; one of them has a late outcome. Ask in between."""
    first, second, third = driver.ask(3)
    run_sync(driver.recorded.abandon(first))
    driver = reopen(driver)
    run_sync(driver.recorded.abandon(second.name))
    driver.tell(third)
    driver = reopen(driver)
    driver.tell(*driver.ask())
    driver = reopen(driver)
    driver.tell(first)  # late
    return reopen(driver)


@pytest.mark.parametrize("make", [lambda: RandomOptimizer(SPACE, LOSS, seed=0), tpe])
def test_abandoned_trials_and_late_outcomes_are_resumed_exactly(
    make: Callable[[], Any], tmp_path: Path
) -> None:
    def opened_anew(driver: Driver) -> Driver:
        driver.close()
        return Driver(make(), tmp_path / "parts.db")

    whole = course(Driver(make(), tmp_path / "whole.db"), lambda driver: driver)
    parts = course(Driver(make(), tmp_path / "parts.db"), opened_anew)

    assert parts.resumed.pending == []
    assert parts.resumed.count == 4
    outcomes = [
        ("trial_1", Status.ABANDONED),
        ("trial_2", Status.COMPLETED),
        ("trial_3", Status.COMPLETED),
        ("trial_0", Status.COMPLETED),
    ]
    for driver, name in ((whole, "whole"), (parts, "parts")):
        own = driver.recorded.optimizer.history
        stored = History.load(tmp_path / f"{name}.db")
        for history in (own, stored):
            assert [(o.treatment.name, o.status) for o in history] == outcomes
        assert stored.pending == []
        with contextlib.closing(sqlite3.connect(tmp_path / f"{name}.db")) as connection:
            rows = connection.execute("SELECT name, status FROM trials ORDER BY trial").fetchall()
        assert rows == sorted((name, str(status)) for name, status in outcomes)
    assert points(parts.ask(3)) == points(whole.ask(3))
    whole.close()
    parts.close()


def test_an_abandoned_trial_is_on_disk_also_if_the_optimizer_was_called(tmp_path: Path) -> None:
    driver = Driver(tpe(), tmp_path / "runs.db")
    first, second = driver.ask(2)
    optimizer: Any = driver.recorded.optimizer
    optimizer.abandon(first)
    driver.tell(first)
    with pytest.raises(TellError, match="already been told"):
        run_sync(driver.recorded.abandon(first))
    run_sync(driver.recorded.abandon(second))
    with pytest.raises(TellError, match="already been abandoned"):
        run_sync(driver.recorded.abandon(second))
    driver.close()

    again = Driver(tpe(), tmp_path / "runs.db")
    told = [(o.treatment.name, o.status) for o in again.recorded.optimizer.observations]
    again.close()
    assert told == [("trial_0", Status.COMPLETED), ("trial_1", Status.ABANDONED)]


def test_a_plain_optimizer_hears_of_an_abandoned_trial_as_of_a_failure(tmp_path: Path) -> None:
    driver = Driver(Plain(), tmp_path / "runs.db")
    second = driver.ask()[1]
    assert run_sync(driver.recorded.abandon(second)) == []  # The first one comes first.
    driver.close()
    driver = Driver(Plain(), tmp_path / "runs.db")
    with pytest.raises(TellError, match="not pending"):
        run_sync(driver.recorded.abandon(second))
    assert [o.status for o in driver.tell(driver.recorded.optimizer.pending[0])] == [
        Status.COMPLETED,
        Status.ABANDONED,
    ]
    assert driver.recorded.optimizer.optimizer.told[1] == float("inf")  # type: ignore[union-attr]
    driver.close()


def test_a_search_goes_on_with_another_optimizer_without_the_abandonment(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    driver = Driver(tpe(), path)
    (first,) = driver.ask()
    run_sync(driver.recorded.abandon(first))
    driver.tell(first)
    driver.close()

    driver = Driver(RandomOptimizer(SPACE, LOSS, seed=0), path, resume="attach")
    assert [o.status for o in driver.recorded.optimizer.observations] == [Status.COMPLETED]
    driver.close()


@pytest.mark.parametrize("make", [lambda: RandomOptimizer(SPACE, LOSS, seed=0), tpe])
def test_a_trial_expires_also_if_the_run_was_resumed_meanwhile(
    make: Callable[[], Any], tmp_path: Path
) -> None:
    now = 1000.0

    def opened() -> Driver:
        optimizer = make()
        optimizer.ledger.clock = lambda: now
        return Driver(optimizer, tmp_path / "runs.db")

    driver = opened()
    (lost,) = run_sync(driver.recorded.ask(ttl=60))
    (late,) = driver.ask()
    driver.close()

    driver = opened()
    assert [t.name for t, _ in driver.resumed.pending] == [lost.name, late.name]
    driver.close()
    now = 1060.0
    driver = opened()
    assert [t.name for t, _ in driver.resumed.pending] == [late.name]
    driver.ask()
    driver.close()
    now = 0.0  # The abandonment is in the record; it does not follow from the clock.
    driver = opened()
    assert [(o.treatment.name, o.status) for o in driver.resumed.observations] == [
        (lost.name, Status.ABANDONED)
    ]
    driver.tell(lost)
    driver.tell(late)
    whole = make()
    whole.replay(driver.recorded.optimizer.calls)
    assert points(driver.ask(3)) == points(whole.ask(3))
    driver.close()
    assert [o.treatment.name for o in History.load(tmp_path / "runs.db")] == [lost.name, late.name]


def test_a_batch_that_ends_a_finite_space_is_resumed_with_what_was_wanted(tmp_path: Path) -> None:
    def opened() -> Driver:
        return Driver(RandomOptimizer({"x": (1, 3)}, LOSS, seed=0), tmp_path / "runs.db")

    driver = opened()
    assert len(driver.ask(5)) == 3
    driver.close()
    driver = opened()
    (asked,) = driver.recorded.optimizer.calls
    assert isinstance(asked, Asked)
    assert (len(asked.treatments), asked.wanted) == (3, 5)
    driver.close()


def test_a_plain_optimizer_takes_no_time_to_live() -> None:
    driver = Driver(Plain())
    with pytest.raises(UsageError, match="needs a SpaceOptimizer"):
        run_sync(driver.recorded.ask(ttl=60))
