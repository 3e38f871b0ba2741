"""When a search ends, what it reports on the way, and asynchronous trials side by side."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest

from crystallize_opt import (
    Categorical,
    Constraint,
    Failures,
    FrozenContext,
    MaxTime,
    NoImprovement,
    Objective,
    Observation,
    Search,
    SearchState,
    Status,
    TargetValue,
    Treatment,
    Workers,
)
from crystallize_opt.adapters import GridOptimizer
from crystallize_opt.errors import TrialsFailedError, UsageError
from crystallize_opt.search.callbacks import (
    Event,
    LoggingCallback,
    RunStarted,
    RunStopped,
    TrialAsked,
    TrialCompleted,
    TrialFailed,
    TrialStarted,
    TrialStored,
    TrialTold,
)
from crystallize_opt.trials.best import Criterion
from tests.toy import PlainOptimizer, experiment_of

LOSS = Objective("loss", "minimize")
GAIN = Objective("loss", "maximize")


def grid(values: list[Any], objective: Any = LOSS) -> GridOptimizer:
    return GridOptimizer({"x": Categorical(values)}, objective)


def record(data: Any, ctx: FrozenContext, *, x: float) -> Any:
    if x < 0:
        raise ValueError("boom")
    return data, {"loss": x}


@pytest.mark.parametrize("kind", [None, "threads"])
@pytest.mark.parametrize(
    ("stop", "objective", "trials", "reason"),
    [
        ([], LOSS, 6, r"6 trials have been run"),
        ([TargetValue(2.0)], LOSS, 3, r"TargetValue\(value=2.0\) is reached: 'loss' is 1.0"),
        ([TargetValue(5.0)], GAIN, 2, r"TargetValue\(value=5.0\) is reached: 'loss' is 5.0"),
        ([NoImprovement(2)], LOSS, 5, r"NoImprovement.*the last 2 trials were not better"),
        ([NoImprovement(3), TargetValue(1.0)], LOSS, 3, r"TargetValue"),
        (lambda state: len(state.observations) == 4, LOSS, 4, r"<lambda> said so"),
        (lambda state: "enough" if state.best else None, LOSS, 1, r"enough"),
        ([MaxTime(1e-9)], LOSS, 0, r"MaxTime\(seconds=1e-09\) has passed"),
        (MaxTime(1e9), LOSS, 6, r"6 trials have been run"),
    ],
)
def test_a_condition_ends_the_search_and_is_the_reason(
    stop: Any, objective: Objective, trials: int, reason: str, kind: Any
) -> None:
    optimizer = grid([3.0, 5.0, 1.0, 2.0, 4.0, 0.0], objective)
    search = Search(experiment_of(record), optimizer, 6, stop=stop, workers=Workers(kind, 1))

    if trials:
        search.run()
    else:
        with pytest.raises(RuntimeError, match="nothing has been told yet"):
            search.run()

    assert len(optimizer.observations) == trials
    assert re.match(reason, str(search.stop_reason))


def test_a_condition_sees_the_search() -> None:
    seen: list[Any] = []

    def look(state: SearchState) -> None:
        best = state.best and state.best["loss"]
        seen.append((len(state.observations), best, state.trials_since_best, state.elapsed >= 0))

    experiment_of(record).optimize(grid([3.0, -1.0, 4.0, 1.0]), 4, stop=look)

    assert seen == [(0, None, 0, True), (1, 3.0, 0, True), (2, 3.0, 1, True), (3, 3.0, 2, True)]


def trial(loss: float, lag: float = 0.0, epochs: int = 1, gain: float = 0.0) -> Observation:
    metrics = {"loss": loss, "lag": lag, "gain": gain}
    return Observation(Treatment(f"{metrics}", {"epochs": epochs}), metrics)


def test_the_best_is_within_the_constraints() -> None:
    state = SearchState(Criterion((LOSS,), (Constraint("lag", "<=", 1.0),)))
    seen = []
    for each in (trial(0.5, lag=2.0), trial(3.0), trial(1.0, lag=1.5), trial(2.0, lag=1.0)):
        state.add(each)
        reached = bool(TargetValue(2.5)(state)), bool(NoImprovement(1)(state))
        seen.append((state.best and state.best["loss"], state.trials_since_best, *reached))

    assert seen == [
        (None, 1, False, True),
        (3.0, 0, False, False),
        (3.0, 1, False, True),
        (2.0, 0, True, False),
    ]


def test_the_best_is_of_the_highest_fidelity() -> None:
    state = SearchState(Criterion((LOSS,), (), "epochs"))
    seen = []
    for each in (trial(1.0), trial(0.5), trial(3.0, epochs=9), trial(0.1), trial(2.0, epochs=9)):
        state.add(each)
        seen.append((state.best and state.best["loss"], state.trials_since_best))

    assert seen == [(1.0, 0), (0.5, 0), (0.5, 1), (0.1, 0), (2.0, 0)]


def test_with_several_objectives_the_front_counts() -> None:
    state = SearchState(Criterion((LOSS, Objective("gain", "maximize"))))
    trials = [
        trial(1.0, gain=1.0),
        trial(2.0, gain=1.0),
        trial(2.0, gain=2.0),
        trial(1.4, gain=1.8),
    ]
    since = []
    for each in trials:
        state.add(each)
        since.append(state.trials_since_best)

    assert since == [0, 1, 0, 0]
    assert state.best is trials[3]


def test_a_used_up_space_is_a_reason() -> None:
    search = Search(experiment_of(record), grid([3.0]), 10)
    search.run()

    assert str(search.stop_reason).startswith("the search space is exhausted")


@pytest.mark.parametrize(
    ("stop", "message"),
    [
        (["soon"], "stop= takes conditions"),
        ([MaxTime], "stop= takes conditions"),
        (7, "stop= takes conditions"),
    ],
)
def test_what_is_no_condition_is_refused(stop: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        experiment_of(record).optimize(grid([1.0]), 1, stop=stop)


@pytest.mark.parametrize("stop", [TargetValue(1.0), NoImprovement(2)])
def test_several_objectives_have_no_target(stop: Any) -> None:
    several = grid([1.0], [LOSS, Objective("time", "minimize")])
    with pytest.raises(UsageError, match="needs a single objective; there are 2"):
        experiment_of(record).optimize(several, 1, stop=stop)


@pytest.mark.parametrize(
    "make",
    [
        *(lambda: MaxTime(0), lambda: MaxTime(True), lambda: TargetValue(float("nan"))),
        *(lambda: NoImprovement(0), lambda: NoImprovement(2.5)),  # type: ignore[arg-type]
    ],
)
def test_conditions_that_make_no_sense_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(UsageError, match="number"):
        make()


# Failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [None, "threads", "processes"])
def test_the_first_failure_ends_the_search_where_wanted(kind: Any) -> None:
    optimizer = grid([2.0, -1.0, 1.0])
    workers = Workers(kind, 1)
    search = Search(experiment_of(record), optimizer, 3, failures="raise", workers=workers)

    message = r"(?s)'trial_1', \{'x': -1.0\}: failed.*boom"
    with pytest.raises(TrialsFailedError, match=message) as error:
        search.run()

    assert "boom" in str(error.value.__cause__)
    assert [o.status for o in optimizer.observations] == [Status.COMPLETED, Status.FAILED]
    assert "TrialsFailedError" in str(search.stop_reason)


@pytest.mark.parametrize(("limit", "trials"), [(3, 3), (None, 12), (20, 12)])
def test_the_number_of_first_failures_can_be_chosen(limit: int | None, trials: int) -> None:
    optimizer = grid([-float(x) for x in range(1, 13)])
    failures = Failures(give_up_after=limit, give_up_after_same=None)

    with pytest.raises(RuntimeError, match="boom"):
        experiment_of(record).optimize(optimizer, 12, failures=failures)

    assert len(optimizer.observations) == trials


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"then": "ignore"}, "Failures: then= is 'tell' or 'raise', not 'ignore'"),
        ({"give_up_after": 0}, "Failures: give_up_after is a whole number, at least 1, not 0"),
        ({"retries": -1}, "Failures: retries is a whole number, at least 0, not -1"),
        ({"retries": True}, "retries is a whole number, at least 0, not True"),
    ],
)
def test_failures_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Failures(**options)


def test_short_forms_of_failures() -> None:
    assert Failures.of(None) == Failures("tell", 10, 0)
    assert Failures.of("raise") == Failures("raise")
    assert Failures.of(Failures(retries=1)).retries == 1
    for wrong, message in (("ignore", "not 'ignore'"), (3, "give_up_after=3")):
        with pytest.raises(UsageError, match=message):
            experiment_of(record).optimize(grid([1.0]), 1, failures=wrong)  # type: ignore[arg-type]


def test_an_argument_that_a_search_does_not_have_is_refused() -> None:
    """Those that earlier versions had are not silently ignored."""
    for name in ("executor", "max_concurrency", "limits", "on_failure", "run"):
        options: Any = {name: None}
        with pytest.raises(TypeError, match=f"no argument '{name}'; it takes workers, storage"):
            experiment_of(record).optimize(grid([1.0]), 1, **options)


class Four(PlainOptimizer):
    """Asks for four trials at once."""

    def ask(self) -> list[Treatment]:
        return self.treatments[len(self.told) : len(self.told) + 4]


def test_the_trials_of_one_ask_are_one_step_of_giving_up() -> None:
    """A batch whose last trial succeeds is no reason to give up; a batch of failures is."""
    optimizer = Four([-1.0, -2.0, -3.0, 4.0, 5.0], LOSS, "x")
    failures = Failures(give_up_after=3, give_up_after_same=None)
    best = experiment_of(record).optimize(optimizer, 5, failures=failures)

    assert best.params == {"x": 4.0}

    optimizer = Four([-1.0, -2.0, -3.0, -4.0, 5.0], LOSS, "x")
    with pytest.raises(TrialsFailedError, match="first 4 trials failed"):
        experiment_of(record).optimize(optimizer, 5, failures=failures)

    assert len(optimizer.told) == 4


# Events ---------------------------------------------------------------------------------------


def test_events_come_in_order() -> None:
    events: list[Event] = []
    optimizer = grid([2.0, -1.0])
    best = experiment_of(record).optimize(optimizer, 2, callbacks=[events.append])

    assert [type(event) for event in events] == [
        RunStarted,
        *(TrialAsked, TrialStarted, TrialCompleted, TrialTold),
        *(TrialAsked, TrialStarted, TrialFailed, TrialTold),
        RunStopped,
    ]
    first, last = events[0], events[-1]
    assert first == RunStarted(
        "GridOptimizer", (LOSS,), 2, 1, 1, (), Criterion((LOSS,)), "GridOptimizer"
    )
    assert last == RunStopped("2 trials have been run", best)


def test_an_exception_in_a_callback_is_reported_and_loses_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(event: Event) -> None:
        raise KeyError(type(event).__name__)

    events: list[Event] = []
    optimizer = grid([2.0, 1.0])
    experiment_of(record).optimize(optimizer, 2, callbacks=[fail, events.append])

    assert len(optimizer.observations) == 2
    assert len(events) == 10
    assert len([r for r in caplog.records if r.exc_info and "callback" in r.message]) == 10


def test_the_end_is_an_event_also_where_it_is_an_error() -> None:
    events: list[Event] = []
    with pytest.raises(TrialsFailedError) as error:
        experiment_of(record).optimize(grid([-1.0]), 1, failures="raise", callbacks=[events.append])

    last = events[-1]
    assert isinstance(last, RunStopped)
    assert (last.best, last.error) == (None, error.value)


def test_what_is_no_callback_is_refused() -> None:
    wrong: Any
    for wrong in (LoggingCallback, [LoggingCallback], None, 5, [None], "log", iter([print, None])):
        with pytest.raises(UsageError, match="callbacks= takes functions of one event"):
            experiment_of(record).optimize(grid([1.0]), 1, callbacks=wrong)


def test_callbacks_are_called_however_they_are_given() -> None:
    several: list[Event] = []
    ways: list[Any] = [
        several.append,
        [several.append],
        (each for each in [several.append]),
        {several.append},
    ]
    for callbacks in ways:
        several.clear()
        experiment_of(record).optimize(grid([1.0]), 1, callbacks=callbacks)
        assert isinstance(several[-1], RunStopped)


def test_events_can_be_logged(caplog: pytest.LogCaptureFixture) -> None:
    to = logging.getLogger("tests.events")
    with caplog.at_level(logging.INFO, "tests.events"):
        experiment_of(record).optimize(grid([2.0, -1.0]), 2, callbacks=[LoggingCallback(to)])

    lines = [r.getMessage() for r in caplog.records if r.name == "tests.events"]
    assert lines[0] == "GridOptimizer: a search of 2 trials begins."
    assert lines[3] == "trial_0: completed, {'loss': 2.0}"
    assert lines[-1] == "The search has ended: 2 trials have been run. Best: {'x': 2.0}"
    (warning,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert "trial_1: failed: ValueError: boom" in warning.getMessage()


def test_a_stored_trial_can_be_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "crystallize_opt"):
        LoggingCallback()(TrialStored(Observation(Treatment("trial_3"), {"loss": 1.0})))

    assert caplog.messages == ["trial_3: stored, {'loss': 1.0}"]


# Asynchronous trials --------------------------------------------------------------------------


def meeting(number: int) -> Callable[..., Any]:
    """Make a step that waits until so many trials are in it."""
    here = 0
    all_here = asyncio.Event()

    async def step(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        nonlocal here
        here += 1
        if here == number:
            all_here.set()
        await asyncio.wait_for(all_here.wait(), 60)
        return data, {"loss": x}

    return step


def test_asynchronous_trials_run_side_by_side() -> None:
    optimizer = grid([3.0, 1.0, 2.0])
    best = experiment_of(meeting(3)).optimize(optimizer, 3, workers=Workers(None, 3))

    assert best.params == {"x": 1.0}
    assert {o.status for o in optimizer.observations} == {Status.COMPLETED}


def test_asynchronous_trials_run_side_by_side_in_a_running_loop() -> None:
    optimizer = grid([3.0, 1.0, 2.0])
    experiment = experiment_of(meeting(3))

    best = asyncio.run(experiment.aoptimize(optimizer, 3, workers=Workers(None, 3)))

    assert best.params == {"x": 1.0}


def test_synchronous_trials_side_by_side_need_an_executor() -> None:
    with pytest.raises(UsageError, match="needs asynchronous steps"):
        experiment_of(record).optimize(grid([1.0]), 1, workers=Workers(None, 2))


@pytest.mark.parametrize("count", [1, 2])
def test_a_cancelled_search_tells_what_ran(count: int) -> None:
    optimizer = grid([1.0, 2.0, 3.0])

    async def main() -> None:
        began = asyncio.Event()

        async def step(data: Any, ctx: FrozenContext, *, x: float) -> Any:
            if x == 1.0:
                return data, {"loss": x}
            began.set()
            return await asyncio.Event().wait()

        task = asyncio.ensure_future(
            experiment_of(step).aoptimize(optimizer, 3, workers=Workers(None, count))
        )
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    assert optimizer.pending == []
    assert optimizer.observations[0].status is Status.COMPLETED
    assert {o.status for o in optimizer.observations[1:]} == {Status.ABANDONED}


@pytest.mark.parametrize("workers", [Workers("threads", 1), 1])
def test_a_running_loop_goes_on_while_executors_work(workers: Any) -> None:
    async def main() -> int:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0)
                ticks += 1

        ticking = asyncio.ensure_future(tick())
        await experiment_of(record).aoptimize(grid([1.0, 2.0]), 2, workers=workers)
        ticking.cancel()
        return ticks

    assert asyncio.run(main()) > 0


def test_a_plain_optimizer_is_told_of_trials_that_were_given_up() -> None:
    def interrupt(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        if x == 1.0:
            raise KeyboardInterrupt
        return data, {"loss": x}

    optimizer = PlainOptimizer([2.0, 1.0, 3.0], LOSS, "x")

    assert experiment_of(interrupt).optimize(optimizer, 3).params == {"x": 2.0}
    assert [told["loss"] for told in optimizer.told] == [2.0, float("inf")]
