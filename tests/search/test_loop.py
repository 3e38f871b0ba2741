"""The trial loop: what is asked, run, told and returned."""

import gc
import math
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from crystallize_opt import (
    BaseOptimizer,
    Constraint,
    Experiment,
    FrozenContext,
    Objective,
    Observation,
    Pipeline,
    Search,
    SearchSpace,
    Status,
    Treatment,
    pipeline_step,
)
from crystallize_opt.adapters import GridOptimizer, RandomOptimizer
from crystallize_opt.errors import (
    NoCompletedTrialError,
    ObjectiveError,
    SpaceExhausted,
    TrialsFailedError,
    UsageError,
)
from crystallize_opt.pipeline.result import Result
from crystallize_opt.pipeline.seeding import BasePlugin
from tests.toy import DELTAS, SUMS, PlainOptimizer, experiment_of, numbers, toy_experiment

MINIMIZE = Objective("sum", "minimize")
MAXIMIZE = Objective("sum", "maximize")


def grid(values: list[Any], objective: Any = MINIMIZE, name: str = "delta") -> GridOptimizer:
    return GridOptimizer({name: values}, objective)


# The mean, and what is told -------------------------------------------------------------------


@pytest.mark.parametrize(("objective", "best"), [(MINIMIZE, 0.0), (MAXIMIZE, 2.0)])
@pytest.mark.parametrize("optimizer_of", [grid, PlainOptimizer])
def test_returns_the_best_treatment(
    optimizer_of: Callable[..., Any], objective: Objective, best: float
) -> None:
    assert toy_experiment().optimize(optimizer_of(DELTAS, objective), 3).params == {"delta": best}


def test_an_observation_is_told_for_each_trial() -> None:
    def record(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        ctx.metrics.add("sum", delta + ctx["replicate"])
        ctx.metrics.add("note", "text")
        return data, {"size": 3}

    optimizer = grid([1.0, 2.0])
    experiment_of(record, seed=5).optimize(optimizer, 2, 3)

    first, second = optimizer.observations
    assert first.treatment.params == {"delta": 1.0}
    assert dict(first) == {"sum": 2.0, "size": 3.0}
    assert dict(second) == {"sum": 3.0, "size": 3.0}
    assert first.sem == {"sum": pytest.approx(1.0 / math.sqrt(3)), "size": 0.0}
    assert first.status is Status.COMPLETED
    assert first.error is None
    assert [dict(replicate) for replicate in first.replicates] == [
        {"sum": 1.0, "size": 3.0},
        {"sum": 2.0, "size": 3.0},
        {"sum": 3.0, "size": 3.0},
    ]
    assert [r.seed for r in first.replicates] == [r.seed for r in second.replicates]
    assert [r.index for r in first.replicates] == [0, 1, 2]
    assert first.started_at is not None
    assert second.started_at is not None
    assert first.started_at <= second.started_at
    assert first.duration is not None
    assert first.duration >= 0.0
    assert all(type(value) is float for value in first.values())


def test_the_mean_is_exact() -> None:
    """A plain sum of these loses the ones: 1e16 + 1 is 1e16."""
    values = [1e16, 1.0, 1.0, -1e16]

    def record(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        return data, {"sum": values[ctx["replicate"]]}

    optimizer = grid([1.0])
    experiment_of(record).optimize(optimizer, 1, 4)

    assert optimizer.observations[0]["sum"] == 0.5


def test_several_values_in_one_replicate_are_averaged() -> None:
    def record(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        ctx.metrics.add("sum", 1)
        return data, {"sum": 2}

    optimizer = grid([1.0])
    experiment_of(record).optimize(optimizer, 1)

    assert dict(optimizer.observations[0]) == {"sum": 1.5}


def test_a_plain_optimizer_is_told_just_its_metric() -> None:
    def record(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        return data, {"size": 3.0, "sum": delta + ctx["replicate"], "time": 1.0}

    optimizer = PlainOptimizer([1.0, 2.0])
    experiment_of(record).optimize(optimizer, 2, 2)

    assert [dict(told) for told in optimizer.told] == [{"sum": 1.5}, {"sum": 2.5}]
    assert all(isinstance(told, Observation) for told in optimizer.told)


def test_a_plain_optimizer_may_have_several_objectives() -> None:
    def record(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        if delta == 0.0:
            raise ValueError("boom")
        return data, {"loss": delta, "gain": 2 * delta, "time": 1.0}

    class Several(PlainOptimizer):
        def get_best_treatment(self) -> Treatment:
            return self.treatments[0]

    optimizer = Several(DELTAS, [Objective("loss", "minimize"), Objective("gain", "maximize")])
    experiment_of(record).optimize(optimizer, 3)

    assert [dict(told) for told in optimizer.told] == [
        {"loss": 2.0, "gain": 4.0},
        {"loss": math.inf, "gain": -math.inf},
        {"loss": 1.0, "gain": 2.0},
    ]


def test_every_treatment_of_one_ask_is_a_trial_of_its_own() -> None:
    class Pairs(PlainOptimizer):
        def ask(self) -> list[Treatment]:
            return self.treatments[len(self.told) : len(self.told) + 2]

    optimizer = Pairs([2.0, 0.0, 1.0, 3.0])

    assert toy_experiment().optimize(optimizer, 4).params == {"delta": 0.0}
    assert [told["sum"] for told in optimizer.told] == [12.0, 6.0, 9.0, 15.0]


# Failures -------------------------------------------------------------------------------------


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

    optimizer = grid([0.0, 1.0])
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
        {"delta": [0.0, 1.0]}, MINIMIZE, constraints=[Constraint("time", "<=", 1.0)]
    )

    assert experiment_of(record).optimize(optimizer, 2).params == {"delta": 1.0}
    assert optimizer.observations[0].status is Status.INVALID
    assert "'time'" in str(optimizer.observations[0].error)


def fail_before(count: int) -> Experiment:
    def fail(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        if delta < count:
            raise ValueError("boom" if delta else "first")
        return data, {"sum": delta}

    return experiment_of(fail)


@pytest.mark.parametrize("optimizer_of", [grid, PlainOptimizer])
def test_ten_failures_at_the_start_end_the_search(optimizer_of: Callable[..., Any]) -> None:
    optimizer = optimizer_of(list(range(20)))

    with pytest.raises(TrialsFailedError) as caught:
        fail_before(10).optimize(optimizer, 20)

    message = str(caught.value)
    assert message.startswith("Every one of the first 10 trials failed:\n")
    assert "1 x failed: ValueError: first" in message
    assert "9 x failed: ValueError: boom" in message
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
    with pytest.raises(NoCompletedTrialError, match="ValueError: boom"):
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


# Pruning --------------------------------------------------------------------------------------


class Pruning(GridOptimizer):
    """Ends every trial whose first replicate has a positive sum."""

    def report(self, treatment: Treatment, replicate: int, metrics: Mapping[str, float]) -> bool:
        self.reported = [*getattr(self, "reported", []), (treatment.name, replicate, dict(metrics))]
        return metrics["sum"] > 0.0


def test_an_optimizer_can_end_a_trial_between_its_replicates() -> None:
    def record(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        return data, {"sum": delta}

    optimizer = Pruning({"delta": [1.0, 0.0]}, MAXIMIZE)
    best = experiment_of(record).optimize(optimizer, 2, 3)

    assert best.params == {"delta": 0.0}
    assert [o.status for o in optimizer.observations] == [Status.PRUNED, Status.COMPLETED]
    assert [len(o.replicates) for o in optimizer.observations] == [1, 3]
    assert optimizer.reported == [
        ("trial_0", 0, {"sum": 1.0}),
        ("trial_1", 0, {"sum": 0.0}),
        ("trial_1", 1, {"sum": 0.0}),
    ]


def test_pruned_trials_are_no_failures() -> None:
    optimizer = Pruning({"delta": list(range(12, -1, -1))}, MINIMIZE)

    def record(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        return data, {"sum": delta}

    assert experiment_of(record).optimize(optimizer, 13, 2).params == {"delta": 0}


# The ends of a search -------------------------------------------------------------------------


def test_a_used_up_space_ends_the_search() -> None:
    optimizer = grid(DELTAS)

    assert toy_experiment().optimize(optimizer, 100).params == {"delta": 0.0}
    assert [observation["sum"] for observation in optimizer.observations] == SUMS
    with pytest.raises(SpaceExhausted):
        toy_experiment().optimize(optimizer, 1)


def test_a_second_search_goes_on_where_the_first_ended() -> None:
    experiment, optimizer = toy_experiment(), grid([2.0, 1.0, 0.0])

    assert experiment.optimize(optimizer, 2).params == {"delta": 1.0}
    assert experiment.optimize(optimizer, 1).params == {"delta": 0.0}
    assert [o.treatment.name for o in optimizer.observations] == ["trial_0", "trial_1", "trial_2"]


def test_the_same_experiment_serves_two_optimizers() -> None:
    experiment = toy_experiment(seed=0)
    results = []
    for _ in range(2):
        optimizer = RandomOptimizer({"delta": (0.0, 1.0)}, MINIMIZE, seed=1)
        experiment.optimize(optimizer, 5)
        results.append([(dict(o.treatment.params), dict(o)) for o in optimizer.observations])

    assert results[0] == results[1]


def test_an_error_of_the_optimizer_ends_the_search() -> None:
    class Broken(PlainOptimizer):
        def tell(self, objective_values: Mapping[str, float]) -> None:
            raise KeyError("no such trial")

    with pytest.raises(KeyError, match="no such trial"):
        toy_experiment().optimize(Broken(DELTAS), 3)


# What is refused before anything runs ---------------------------------------------------------


class Refuse(BasePlugin):
    def before_run(self, experiment: Experiment) -> None:
        raise AssertionError("something ran")


def never_run(**options: Any) -> Experiment:
    return toy_experiment(plugins=[Refuse()], **options)


class NoOptimizer:
    objective = MINIMIZE

    def ask(self) -> list[Treatment]:
        return []


@pytest.mark.parametrize("number", [0, -1, True, 2.0, "3", None])
@pytest.mark.parametrize("argument", ["num_trials", "replicates_per_trial"])
def test_what_is_no_count_is_refused(argument: str, number: Any) -> None:
    counts = {"num_trials": 1, "replicates_per_trial": 1, argument: number}

    with pytest.raises(UsageError, match=f"{argument} is a whole.*at least 1, not {number!r}"):
        never_run().optimize(grid(DELTAS), **counts)


def test_numpys_whole_numbers_are_counts() -> None:
    count: Any = np.int64(2)
    optimizer = grid(DELTAS)
    toy_experiment().optimize(optimizer, count, count)

    assert [len(o.replicates) for o in optimizer.observations] == [2, 2]


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (GridOptimizer, "is a class; build it first"),
        (None, r"without \['ask', 'tell', 'get_best_treatment', 'objective'\]"),
        (NoOptimizer(), r"without \['tell', 'get_best_treatment'\]"),
    ],
)
def test_what_is_no_optimizer_is_refused(optimizer: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        never_run().optimize(optimizer, 1)


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ("sum", "has a metric and a direction.*'sum' has not"),
        ([], "At least one objective"),
        (type("Objective", (), {"metric": "sum", "direction": "max"})(), "direction 'max'"),
        (type("Objective", (), {"metric": ["sum"], "direction": "maximize"})(), "one metric"),
    ],
)
def test_an_objective_without_metric_or_direction_is_refused(objective: Any, message: str) -> None:
    """A failed trial must be told the infinity that loses; a wrong guess would make it the best."""
    with pytest.raises(ObjectiveError, match=message):
        never_run().optimize(PlainOptimizer(DELTAS, objective), 1)


@pytest.mark.parametrize("name", ["replicate", "condition", "seed_used", "size"])
def test_a_parameter_that_is_a_key_of_the_context_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"parameter '{name}'.*has that key already"):
        never_run(initial_ctx={"size": 1}).optimize(grid([1, 2], name=name), 1)


@pytest.mark.parametrize("asked", [[], None, Treatment("a", {}), [{"delta": 1.0}]])
def test_an_ask_without_treatments_is_refused(asked: Any) -> None:
    class Wrong(PlainOptimizer):
        def ask(self) -> list[Treatment]:
            return asked  # type: ignore[no-any-return]

    with pytest.raises(TypeError, match="list with at least one Treatment, not"):
        toy_experiment().optimize(Wrong(DELTAS), 1)


# Context --------------------------------------------------------------------------------------


def test_trials_see_the_initial_context_and_their_own_name() -> None:
    seen = []

    def look(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        seen.append((ctx["condition"], ctx["replicate"], ctx["offset"]))
        return data, {"sum": delta}

    experiment_of(look, initial_ctx={"offset": 3.0}).optimize(grid([1.0, 2.0]), 2, 2)

    assert seen == [("trial_0", 0, 3.0), ("trial_0", 1, 3.0), ("trial_1", 0, 3.0),
                    ("trial_1", 1, 3.0)]  # fmt: skip


def test_a_fitted_choice_object_is_fresh_in_every_replicate() -> None:
    """A choice that a step changes (fits, sorts) is not changed for the next one."""

    def fit(data: Any, ctx: FrozenContext, *, model: list[float]) -> Any:
        model.append(1.0)
        return data, {"sum": len(model)}

    optimizer = GridOptimizer(SearchSpace({"model": [[], [0.0]]}), MINIMIZE)
    experiment_of(fit).optimize(optimizer, 2, 2)

    assert [observation["sum"] for observation in optimizer.observations] == [1.0, 2.0]


# The progress bar -----------------------------------------------------------------------------


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


# Interruption ---------------------------------------------------------------------------------


def test_an_interrupt_gives_the_trial_up_and_returns_the_best_so_far() -> None:
    def interrupt(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        if delta == 1.0:
            raise KeyboardInterrupt
        return data, {"sum": delta}

    optimizer = grid([2.0, 0.0, 1.0, 3.0])
    search = Search(experiment_of(interrupt), optimizer, 4)

    assert search.run().params == {"delta": 0.0}
    assert [o.status for o in optimizer.observations] == [Status.COMPLETED] * 2 + [Status.ABANDONED]
    assert optimizer.pending == []
    assert search.stop_reason == "interrupted by SIGINT"


def test_an_interrupt_before_a_trial_completed_is_raised() -> None:
    def interrupt(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        raise KeyboardInterrupt

    optimizer = grid(DELTAS)
    with pytest.raises(KeyboardInterrupt):
        experiment_of(interrupt).optimize(optimizer, 3)

    assert [o.status for o in optimizer.observations] == [Status.ABANDONED]


def test_a_pipeline_of_a_step_without_metrics_says_so() -> None:
    @pipeline_step()
    def nothing(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        return data

    with pytest.raises(
        NoCompletedTrialError, match=r"'sum' was not recorded.*Recorded numbers: no"
    ):
        Experiment(numbers(), Pipeline([nothing()])).optimize(grid(DELTAS), 3)
