"""What ends a search at its start: errors of the program, unread parameters, ambiguous metrics."""

import asyncio
import contextlib
import copy
import logging
import math
import os
import pickle
import tempfile
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crystallize_opt import (
    Constraint,
    Experiment,
    Failures,
    FrozenContext,
    Objective,
    Pipeline,
    Status,
    Workers,
    pipeline_step,
)
from crystallize_opt.adapters import GridOptimizer
from crystallize_opt.errors import (
    NoCompletedTrialError,
    ObjectiveError,
    TrialsFailedError,
    UnreadParameterError,
)
from crystallize_opt.search.callbacks import LoggingCallback
from crystallize_opt.space.choices import Categorical
from crystallize_opt.trials.objective import Reduction
from crystallize_opt.trials.values import mean_of
from tests.search.grids import grid
from tests.toy import experiment_of, numbers

# The first bug ----------------------------------------------------------------------------------


def misspell(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
    return data, {"sum": dleta}  # type: ignore[name-defined]  # noqa: F821


def import_nothing(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
    import a_module_that_nobody_has  # type: ignore[import-not-found]  # noqa: F401


def evaluate(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
    return data, {"sum": eval("1 +")}  # noqa: S307


async def misspell_in_a_group(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
    async def child() -> None:
        await asyncio.sleep(0)
        misspell(data, ctx, delta=delta)

    async with asyncio.TaskGroup() as group:
        group.create_task(child())


def need_another(data: Any, ctx: FrozenContext, *, delta: float, epsilon: float) -> Any:
    return data, {"sum": delta + epsilon}


@pytest.mark.parametrize(
    ("step", "line", "workers"),
    [
        (misspell, 'return data, {"sum": dleta}', None),
        (misspell, 'return data, {"sum": dleta}', Workers("processes", 1)),
        (misspell_in_a_group, 'return data, {"sum": dleta}', None),
        (import_nothing, "import a_module_that_nobody_has", "threads"),
        (evaluate, 'return data, {"sum": eval("1 +")}', None),
        (need_another, "needs the parameter 'epsilon'", "threads"),
    ],
)
def test_an_error_of_the_program_ends_the_search_at_once(
    step: Callable[..., Any], line: str, workers: Any
) -> None:
    optimizer = grid(list(range(20)))

    with pytest.raises(TrialsFailedError) as caught:
        experiment_of(step).optimize(
            optimizer, 20, 3, workers=workers, failures=Failures(retries=2)
        )

    message = str(caught.value)
    assert line in message
    assert "crystallize_opt/" not in message, "frames of this package are hidden"
    assert [o.status for o in optimizer.observations].count(Status.FAILED) == 1


def test_an_error_of_the_program_in_a_rare_branch_does_not_end_the_search() -> None:
    def rarely(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        return data, {"sum": delta if delta != 3 else dleta}  # type: ignore[name-defined]  # noqa: F821

    optimizer = grid(list(range(6)))
    experiment_of(rarely).optimize(optimizer, 6)

    assert [o.status for o in optimizer.observations].count(Status.FAILED) == 1


def test_every_error_can_be_met_again_and_again() -> None:
    optimizer = grid(list(range(6)))

    with pytest.raises(NoCompletedTrialError):
        experiment_of(misspell).optimize(optimizer, 6, failures=Failures(give_up_after=None))

    assert len(optimizer.observations) == 6


@given(st.lists(st.integers(0, 2), min_size=3, max_size=9), st.integers(1, 4) | st.none())
def test_the_same_error_from_the_start_ends_the_search(places: list[int], limit: Any) -> None:
    """0: the trial completes; 1 and 2: it fails, at one of two lines."""

    def fail(data: Any, ctx: FrozenContext, *, delta: int) -> Any:
        if places[delta] == 1:
            raise ValueError(f"{delta} is odd")
        if places[delta] == 2:
            raise ValueError(f"{delta} is even")
        return data, {"sum": delta}

    optimizer = grid(list(range(len(places))))
    failures = Failures(give_up_after=100, give_up_after_same=limit)
    with contextlib.suppress(TrialsFailedError, NoCompletedTrialError):
        experiment_of(fail).optimize(optimizer, len(places), failures=failures)

    ends = limit is not None and limit <= len(places) and set(places[:limit]) in ({1}, {2})
    assert len(optimizer.observations) == (limit if ends else len(places))


def fail_alike(data: Any, ctx: FrozenContext, *, delta: int) -> Any:
    raise ValueError(f"{delta}: no such file")


async def fail_alike_in_a_group(data: Any, ctx: FrozenContext, *, delta: int) -> Any:
    async def child(number: int) -> Any:
        await asyncio.sleep(0)
        if number == delta % 2:
            raise KeyError(number)
        fail_alike(data, ctx, delta=delta)

    async with asyncio.TaskGroup() as group:
        group.create_task(child(2))
        group.create_task(child(delta % 2))


@given(
    st.builds(lambda same, rest: "a" * same + rest, st.integers(1, 4), st.text("abc", max_size=3)),
    st.integers(1, 5),
    st.integers(1, 3) | st.none(),
)
@settings(max_examples=10)
def test_a_resumed_search_gives_up_as_one_that_was_not_interrupted(
    places: str, stored: int, limit: Any
) -> None:
    """c: the trial completes; a and b: it fails, at one of two lines."""

    def fail(data: Any, ctx: FrozenContext, *, delta: int) -> Any:
        if places[delta] == "a":
            raise ValueError(delta)
        if places[delta] == "b":
            raise ValueError(delta)
        return data, {"sum": delta}

    stored = min(stored, len(places))
    run = 0
    with tempfile.TemporaryDirectory() as folder:
        for count in (stored, len(places)):
            optimizer = grid(list(range(len(places))))
            failures = Failures(give_up_after=100, give_up_after_same=limit)
            with contextlib.suppress(TrialsFailedError, NoCompletedTrialError):
                experiment_of(fail).optimize(
                    optimizer, count, failures=failures, storage=f"{folder}/runs.db"
                )
            # A search that has given up runs one more trial: the cause may have been mended.
            while run < count:
                run += 1
                if limit is not None and run >= limit and set(places[:run]) in ({"a"}, {"b"}):
                    break
            assert len(optimizer.observations) == run


@pytest.mark.parametrize(
    ("step", "workers"),
    [
        (fail_alike, Workers("processes", 1)),
        (fail_alike, Workers("threads", 1)),
        (fail_alike_in_a_group, None),
    ],
)
def test_a_resumed_search_knows_the_line_at_which_trials_failed(
    step: Callable[..., Any], workers: Any, tmp_path: Path
) -> None:
    optimizer = grid(list(range(20)))
    for count, expected in ((2, 2), (20, 3)):
        optimizer = grid(list(range(20)))
        with pytest.raises((TrialsFailedError, NoCompletedTrialError)) as caught:
            experiment_of(step).optimize(
                optimizer, count, workers=workers, storage=tmp_path / "runs.db"
            )
        assert len(optimizer.observations) == expected
    assert "The first 3 trials failed at the same line" in str(caught.value)


@pytest.mark.parametrize("workers", [None, "threads"])
def test_the_original_traceback_is_kept_where_a_failure_is_raised(workers: Any) -> None:
    def fail(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        local = delta + 1
        raise ValueError(local)

    with pytest.raises(TrialsFailedError) as caught:
        experiment_of(fail).optimize(grid([1.0]), 1, workers=workers, failures="raise")

    error = caught.value.__cause__
    assert isinstance(error, ValueError)
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    assert frames[-1].f_locals["local"] == 2.0


@pytest.mark.parametrize("workers", [None, "threads", Workers("processes", 1)])
def test_each_failure_is_logged_once(workers: Any, caplog: pytest.LogCaptureFixture) -> None:
    def fail(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        if delta:
            raise ValueError(f"no {delta}")
        return data, {"sum": delta}

    experiment_of(fail).optimize(grid([0, 1, 2]), 3, workers=workers, callbacks=[LoggingCallback()])

    warnings = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert [line.split("\\n")[0] for line in sorted(warnings)] == [
        "trial_1: failed: ValueError: no 1",
        "trial_2: failed: ValueError: no 2",
    ]


# Parameters that no step reads --------------------------------------------------------------------


def read_one(data: Any, ctx: FrozenContext, *, delta: float, learning_rate: float = 0.1) -> Any:
    return data, {"sum": delta + learning_rate}


@pytest.mark.parametrize("workers", [None, "threads", Workers("processes", 1)])
def test_a_parameter_that_no_step_reads_ends_the_search(workers: Any) -> None:
    space = {"delta": [0.0, 1.0, 2.0], "learning_rat": [0.1, 0.2, 0.3]}
    optimizer = GridOptimizer(space, Objective("sum", "minimize"))

    with pytest.raises(UnreadParameterError) as caught:
        experiment_of(read_one).optimize(optimizer, 6, workers=workers)

    message = str(caught.value)
    assert "No step read 'learning_rat' in 'trial_0'" in message
    assert "asked for: 'delta', 'learning_rate'" in message
    assert "Did you mean 'learning_rate'" in message
    assert optimizer.observations[0].status is Status.COMPLETED

    optimizer = GridOptimizer(space, Objective("sum", "minimize"))
    experiment_of(read_one).optimize(
        optimizer, 6, workers=workers, failures=Failures(unread="ignore")
    )
    assert len(optimizer.observations) == 6


def test_a_parameter_that_is_fixed_where_its_step_was_built_is_named() -> None:
    step = pipeline_step()(read_one)(learning_rate=0.5)
    space = {"delta": [1.0], "learning_rate": [0.1, 0.2, 0.3]}
    optimizer = GridOptimizer(space, Objective("sum", "minimize"))

    with pytest.raises(UnreadParameterError, match="fixed where its step was built: read_one"):
        Experiment(numbers(), Pipeline([step])).optimize(optimizer, 2)


@pytest.mark.parametrize(
    "how", ["item", "get", "in", "iteration", "dict", "copy", "pickle", "child"]
)
def test_every_way_to_read_counts(how: str) -> None:
    def read(data: Any, ctx: FrozenContext) -> Any:
        ways: dict[str, Callable[[], Any]] = {
            "item": lambda: ctx["delta"],
            "get": lambda: ctx.get("delta"),
            "in": lambda: "delta" in ctx,
            "iteration": lambda: list(ctx),
            "dict": ctx.as_dict,
            # Whoever gets the copy, such as a process that the step starts, may read it.
            "copy": lambda: copy.deepcopy(ctx),
            "pickle": lambda: pickle.dumps(ctx),
            "child": lambda: ctx.child()["delta"],
        }
        return data, {"sum": len(repr(ways[how]()))}

    experiment_of(read).optimize(grid([1.0, 2.0]), 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("workers", [None, "threads", Workers("processes", 1)])
@pytest.mark.parametrize("forks_in", ["every trial", "the first replicate"])
def test_a_parameter_that_only_a_forked_child_reads_is_no_mistake(
    workers: Any, forks_in: str
) -> None:
    """What the child asks for cannot be seen; a trial in which nothing forks is checked."""

    def train(data: Any, ctx: FrozenContext) -> Any:
        if forks_in == "every trial" or ctx["replicate"] == 0:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # Threads and forks.
                child = os.fork()
            if not child:
                os._exit(int(ctx["delta"]))
            return data, {"sum": os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}
        return data, {"sum": 0}

    experiment_of(train).optimize(grid([1, 2]), 2, 2, workers=workers)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("workers", [None, Workers("processes", 1)])
def test_a_trial_after_one_that_forked_is_checked(workers: Any) -> None:
    def train(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        if delta == 1 and not (child := os.fork()):
            os._exit(0)
        elif delta == 1:
            os.waitpid(child, 0)
        return data, {"sum": delta}

    optimizer = GridOptimizer({"delta": [1, 2], "typo": [0]}, Objective("sum", "minimize"))
    with pytest.raises(UnreadParameterError, match=r"'typo' in 'trial_1'"):
        experiment_of(train).optimize(optimizer, 2, workers=workers)


def test_a_conditional_parameter_is_checked_in_the_first_trial_that_has_it() -> None:
    space = {"delta": [0, 1], "child": Categorical([5]).when(delta=1)}
    optimizer = GridOptimizer(space, Objective("sum", "minimize"))

    with pytest.raises(UnreadParameterError, match=r"'child' in 'trial_1'"):
        experiment_of(read_one).optimize(optimizer, 2)


# Several values in one replicate ------------------------------------------------------------------


@pytest.mark.parametrize("workers", [None, Workers("processes", 1)])
@pytest.mark.parametrize("where", ["objective", "constraint"])
def test_a_metric_with_several_values_needs_a_reduction(where: str, workers: Any) -> None:
    def record(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        ctx.metrics.add(where, 1)
        ctx.metrics.add("other", 5)
        ctx.metrics.add("other", 6)
        return data, {where: 2, "objective" if where == "constraint" else "constraint": 1}

    constraints = [Constraint("constraint", "<=", 2.0)]
    optimizer = GridOptimizer(
        {"delta": [1, 2]}, Objective("objective", "minimize"), constraints=constraints
    )

    with pytest.raises(ObjectiveError, match=f"metric '{where}' 2 times"):
        experiment_of(record).optimize(optimizer, 2, workers=workers)

    assert [o.status for o in optimizer.observations] == [Status.ABANDONED]


@given(st.lists(st.floats(allow_infinity=False), min_size=1, max_size=5))
def test_several_values_are_reduced(values: list[float]) -> None:
    def record(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        for value in values:
            ctx.metrics.add("sum", value)

    expected = {"last": values[-1], "min": min(values), "max": max(values), "mean": mean_of(values)}
    for how in get_args(Reduction):
        objective = Objective("sum", "minimize", reduce=how)
        optimizer = GridOptimizer({"delta": [1]}, objective)
        with contextlib.suppress(NoCompletedTrialError):
            experiment_of(record).optimize(optimizer, 1)
        (observation,) = optimizer.observations
        counts = values[-1:] if how == "last" else values
        if any(map(math.isnan, counts)):
            assert observation.status is Status.INVALID
        else:
            assert observation["sum"] == expected[how]


@pytest.mark.parametrize("value", ["0.3", [1.0, 2.0], None])
def test_a_metric_that_is_never_a_number_ends_the_search(value: Any) -> None:
    def record(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        ctx.metrics.add("sum", f"{value} {delta}" if isinstance(value, str) else value)

    optimizer = grid(list(range(20)))
    with pytest.raises(TrialsFailedError, match="first 3 trials failed for the same reason"):
        experiment_of(record).optimize(optimizer, 20)


def test_nan_from_the_start_is_tried_ten_times() -> None:
    def record(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        ctx.metrics.add("sum", math.nan)

    optimizer = grid(list(range(20)))
    with pytest.raises(TrialsFailedError, match="first 10 trials failed"):
        experiment_of(record).optimize(optimizer, 20)
