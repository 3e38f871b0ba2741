"""How trials fail, what the optimizer is told then, and when a search gives up."""

import gc
import math
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from crystallize_opt import (
    Constraint,
    Experiment,
    FrozenContext,
    Objective,
    Pipeline,
    Status,
    pipeline_step,
)
from crystallize_opt.adapters import GridOptimizer
from crystallize_opt.errors import NoCompletedTrialError, TrialsFailedError
from crystallize_opt.pipeline.result import Result
from crystallize_opt.pipeline.seeding import BasePlugin
from tests.search.grids import MAXIMIZE, MINIMIZE, grid
from tests.toy import DELTAS, PlainOptimizer, experiment_of, numbers


def raise_error(error: BaseException) -> Any:
    raise error


# How one trial goes wrong -> its status, and what its error says.
CAUSES: dict[str, tuple[Callable[[], Any], Status, str]] = {
    "exception": (lambda: raise_error(OSError("boom")), Status.FAILED, "OSError: boom"),
    "exit": (lambda: raise_error(SystemExit(3)), Status.FAILED, "SystemExit: 3"),
    "memory": (lambda: raise_error(MemoryError()), Status.OUT_OF_MEMORY, "MemoryError"),
    "nan": (lambda: {"sum": math.nan}, Status.INVALID, "'sum' is nan, not a finite"),
    "inf": (lambda: {"sum": math.inf}, Status.INVALID, "'sum' is inf, not a finite"),
    "-inf": (lambda: {"sum": -math.inf}, Status.INVALID, "'sum' is -inf, not a finite"),
    "missing": (lambda: {"loss": 1.0}, Status.INVALID, "'sum' was not.*numbers: 'loss'"),
    "none": (lambda: {"sum": None}, Status.INVALID, "'sum' was not recorded as a number"),
    "text": (lambda: {"sum": "0.5"}, Status.INVALID, "'sum' was not recorded as a number"),
    "array": (lambda: {"sum": np.zeros(2)}, Status.INVALID, "'sum' was not recorded"),
    "complex": (lambda: {"sum": np.complex64(1j)}, Status.INVALID, "'sum' was not recorded"),
}


def going_wrong(cause: str, *, in_replicate: int = 0) -> Experiment:
    """Make an experiment that goes wrong where `delta` is 0, the best value."""

    def step(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        if delta == 0.0 and ctx["replicate"] == in_replicate:
            return data, CAUSES[cause][0]()
        return data, {"sum": delta}

    return experiment_of(step)


@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.parametrize("in_replicate", [0, 1])
def test_a_trial_that_goes_wrong_has_a_status_and_is_never_the_best(
    cause: str, in_replicate: int
) -> None:
    _, status, error = CAUSES[cause]
    optimizer = grid([0.0, 2.0, 1.0])

    best = going_wrong(cause, in_replicate=in_replicate).optimize(optimizer, 3, 2)

    assert best.params == {"delta": 1.0}
    wrong, *others = optimizer.observations
    assert wrong.status is status
    assert wrong.error is not None
    assert pytest.raises(AssertionError, match=error).matches(AssertionError(wrong.error))
    assert [other.status for other in others] == [Status.COMPLETED] * 2
    if status is not Status.INVALID:
        assert wrong.traceback is not None
        assert "raise_error" in wrong.traceback
        assert len(wrong.replicates) == in_replicate + 1


@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.parametrize(("objective", "losing"), [(MINIMIZE, math.inf), (MAXIMIZE, -math.inf)])
def test_a_plain_optimizer_is_told_the_infinity_that_loses(
    cause: str, objective: Objective, losing: float
) -> None:
    optimizer = PlainOptimizer([0.0, 2.0, 1.0], objective)

    best = going_wrong(cause).optimize(optimizer, 3)

    assert [dict(told) for told in optimizer.told] == [{"sum": losing}, {"sum": 2.0}, {"sum": 1.0}]
    assert best.params == {"delta": 1.0 if objective is MINIMIZE else 2.0}


def test_a_failed_replicate_fails_the_trial_and_does_not_leave_the_mean() -> None:
    """The mean of what is left would make the trial with the failure the best."""

    def record(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        if delta == 0.0 and ctx["replicate"] == 2:
            raise ValueError("boom")
        return data, {"sum": delta}

    optimizer = grid([0, 1])
    best = experiment_of(record).optimize(optimizer, 2, 4)

    assert best.params == {"delta": 1.0}
    failed = optimizer.observations[0]
    assert failed.status is Status.FAILED
    assert [replicate.status for replicate in failed.replicates] == [
        Status.COMPLETED,
        Status.COMPLETED,
        Status.FAILED,
    ]
    assert "In replicate 2 of 'trial_0'." in str(failed.error)


def test_a_metric_that_one_replicate_lacks_makes_the_trial_invalid() -> None:
    def record(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        return data, {"sum" if ctx["replicate"] else "loss": 1.0}

    optimizer = grid([0.0])
    with pytest.raises(NoCompletedTrialError):
        experiment_of(record).optimize(optimizer, 1, 2)

    assert optimizer.observations[0].status is Status.INVALID
    assert "as a number in replicate 0. Recorded numbers: 'loss'" in str(
        optimizer.observations[0].error
    )


def test_a_metric_of_a_constraint_is_required_too() -> None:
    def record(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        return data, {"sum": delta, "time": 0.5} if delta else {"sum": delta}

    optimizer = GridOptimizer(
        {"delta": [0, 1]}, MINIMIZE, constraints=[Constraint("time", "<=", 1.0)]
    )

    assert experiment_of(record).optimize(optimizer, 2).params == {"delta": 1.0}
    assert optimizer.observations[0].status is Status.INVALID
    assert "'time'" in str(optimizer.observations[0].error)


def fail_before(count: int) -> Experiment:
    def fail(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        if delta < count:
            raise (ValueError if delta % 2 else KeyError)("boom" if delta else "first")
        return data, {"sum": delta}

    return experiment_of(fail)


@pytest.mark.parametrize("optimizer_of", [grid, PlainOptimizer])
def test_ten_failures_at_the_start_end_the_search(optimizer_of: Callable[..., Any]) -> None:
    optimizer = optimizer_of(list(range(20)))

    with pytest.raises(TrialsFailedError) as caught:
        fail_before(10).optimize(optimizer, 20)

    message = str(caught.value)
    assert message.startswith("Every one of the first 10 trials failed:\n")
    assert "1 x failed: KeyError: 'first'" in message
    assert "5 x failed: ValueError: boom" in message
    assert "In replicate 0 of <trial>" in message
    told = optimizer.told if isinstance(optimizer, PlainOptimizer) else optimizer.observations
    assert len(told) == 10


@pytest.mark.parametrize("optimizer_of", [grid, PlainOptimizer])
def test_nine_failures_at_the_start_do_not(optimizer_of: Callable[..., Any]) -> None:
    assert fail_before(9).optimize(optimizer_of(list(range(20))), 20).params == {"delta": 9}


def test_failures_after_a_success_never_end_the_search() -> None:
    def fail(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        if delta:
            raise ValueError("boom")
        return data, {"sum": delta}

    optimizer = grid(list(range(30)))

    assert experiment_of(fail).optimize(optimizer, 30).params == {"delta": 0}
    assert len(optimizer.observations) == 30


@pytest.mark.parametrize("optimizer_of", [grid, PlainOptimizer])
def test_without_a_completed_trial_there_is_no_best(optimizer_of: Callable[..., Any]) -> None:
    with pytest.raises(NoCompletedTrialError, match="boom"):
        fail_before(3).optimize(optimizer_of([0, 1, 2]), 3)


def test_a_failed_trial_keeps_no_data_alive() -> None:
    class Data:
        pass

    alive: list[weakref.ref[Data]] = []
    errors: list[BaseException] = []

    def fail(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        big = Data()
        alive.append(weakref.ref(big))
        try:
            raise KeyError(big)
        except KeyError:
            raise ValueError("boom") from None

    class KeepErrors(BasePlugin):
        def after_run(self, experiment: Experiment, result: Result) -> None:
            errors.extend(result.errors.values())

    def succeed_at_last(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        return (data, {"sum": 1.0}) if delta == 3.0 else fail(data, ctx, delta=delta)

    optimizer = grid([1.0, 2.0, 3.0])
    experiment_of(succeed_at_last, plugins=[KeepErrors()]).optimize(optimizer, 3)

    gc.collect()
    assert [str(error) for error in errors] == ["boom", "boom"]
    assert [ref() for ref in alive] == [None, None]


def test_a_pipeline_of_a_step_without_metrics_says_so() -> None:
    @pipeline_step()
    def nothing(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        return data

    with pytest.raises(TrialsFailedError, match=r"'sum' was not recorded.*Recorded numbers: no"):
        Experiment(numbers(), Pipeline([nothing()])).optimize(grid(DELTAS), 9)
