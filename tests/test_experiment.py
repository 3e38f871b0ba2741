"""`Experiment.run` and `apply`: what they return, and what happens around the replicates."""

import asyncio
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from crystallize_opt import (
    BasePlugin,
    DataSource,
    Experiment,
    Float,
    FrozenContext,
    Hypothesis,
    Integer,
    Objective,
    Observation,
    Pipeline,
    PipelineStep,
    Search,
    SearchSpace,
    Treatment,
    pipeline_step,
)
from crystallize_opt.adapters import GridOptimizer, RandomOptimizer
from crystallize_opt.errors import (
    SpaceError,
    TeardownError,
    UnknownMetricError,
    UsageError,
)
from tests.toy import (
    DELTAS,
    PlainOptimizer,
    add_delta,
    exact,
    experiment_of,
    numbers,
    record_sum,
)
from tests.toy import toy_experiment as toy

PLUS_ONE = Treatment("plus one", {"delta": 1.0})
PLUS_TWO = Treatment("plus two", {"delta": 2.0})


def greater_mean(
    baseline: Mapping[str, Sequence[float]], treatment: Mapping[str, Sequence[float]]
) -> Mapping[str, float]:
    return {"p_value": sum(baseline["sum"]) / sum(treatment["sum"])}


# run ------------------------------------------------------------------------------------------


def test_metrics_are_lists_over_the_replicates() -> None:
    result = toy().run(treatments=[PLUS_ONE, PLUS_TWO], replicates=3)

    assert result.metrics.baseline.metrics == {"sum": [6.0, 6.0, 6.0]}
    assert {name: t.metrics for name, t in result.metrics.treatments.items()} == {
        "plus one": {"sum": [9.0, 9.0, 9.0]},
        "plus two": {"sum": [12.0, 12.0, 12.0]},
    }
    assert result.metrics.hypotheses == []
    assert result.errors == {}


def test_a_metric_recorded_twice_has_two_values_per_replicate() -> None:
    def record(data: Any, ctx: FrozenContext) -> Any:
        ctx.metrics.add("x", ctx["replicate"])
        return data, {"x": ctx["condition"]}

    result = experiment_of(record).run(replicates=2)

    assert result.metrics.baseline.metrics == {"x": [0, "baseline", 1, "baseline"]}


def test_treatment_called_baseline_replaces_the_baseline() -> None:
    result = toy().run(treatments=[Treatment("baseline", {"delta": 1.0}), PLUS_TWO])

    assert result.metrics.baseline.metrics == {"sum": [9.0]}
    assert list(result.metrics.treatments) == ["plus two"]


def test_treatment_made_from_a_function() -> None:
    result = toy().run(treatments=[Treatment("f", lambda ctx: ctx.add("delta", 1.0))])

    assert result.metrics.treatments["f"].metrics == {"sum": [9.0]}


def test_initial_context_is_seen_and_a_treatment_cannot_change_it() -> None:
    result = toy(initial_ctx={"delta": 1.0}).run(treatments=[PLUS_TWO])

    assert result.metrics.baseline.metrics == {"sum": [9.0]}
    assert "already set: 'delta'" in str(result.errors["plus two_rep_0"])


def test_a_failed_replicate_does_not_end_the_run() -> None:
    def fail_once(data: Any, ctx: FrozenContext, *, delta: float = 0.0) -> Any:
        if delta == 1.0 and ctx["replicate"] == 1:
            raise ValueError("boom")
        return data, {"replicate": ctx["replicate"]}

    result = experiment_of(fail_once).run(treatments=[PLUS_ONE, PLUS_TWO], replicates=3)

    assert result.metrics.treatments["plus one"].metrics == {"replicate": [0, 2]}
    assert result.metrics.treatments["plus two"].metrics == {"replicate": [0, 1, 2]}
    assert list(result.errors) == ["plus one_rep_1"]
    error = result.errors["plus one_rep_1"]
    assert isinstance(error, ValueError)
    assert error.__notes__ == ["In step 'fail_once'.", "In replicate 1 of 'plus one'."]
    assert error.__traceback__ is not None


@pytest.mark.parametrize("culprit", ["datasource", "treatment", "exit"])
def test_whatever_fails_in_a_replicate_is_caught(culprit: str) -> None:
    class Source(DataSource):
        def fetch(self, ctx: FrozenContext) -> Any:
            if culprit == "datasource" and ctx["condition"] == "bad":
                raise OSError("no such file")

    @pipeline_step()
    def step(data: Any, ctx: FrozenContext) -> Any:
        if culprit == "exit" and ctx["condition"] == "bad":
            sys.exit(3)
        return data, {"x": 1}

    def apply(ctx: Any) -> None:
        if culprit == "treatment":
            raise KeyError("no such key")

    result = Experiment(Source(), Pipeline([step()])).run(treatments=[Treatment("bad", apply)])

    expected = {"datasource": OSError, "treatment": KeyError, "exit": SystemExit}[culprit]
    assert [type(error) for error in result.errors.values()] == [expected]
    assert result.metrics.baseline.metrics == {"x": [1]}
    assert result.metrics.treatments["bad"].metrics == {}


def test_hypotheses_are_checked_and_treatments_ranked() -> None:
    result = toy().run(
        treatments=[PLUS_ONE, PLUS_TWO],
        hypotheses=[Hypothesis(greater_mean, "sum", name="greater")],
        replicates=2,
    )

    hypothesis = result.get_hypothesis("greater")
    assert hypothesis is not None
    assert hypothesis.results == {"plus one": {"p_value": 6 / 9}, "plus two": {"p_value": 0.5}}
    assert hypothesis.ranking == {
        "best": "plus two",
        "ranked": [("plus two", 0.5), ("plus one", 6 / 9)],
    }
    assert result.get_hypothesis("smaller") is None


@pytest.mark.parametrize(
    ("failing", "compared"), [("plus one", ["plus two"]), ("baseline", []), ("no", ["plus one"])]
)
def test_what_failed_in_every_replicate_is_not_compared(failing: str, compared: list[str]) -> None:
    def fail(data: Any, ctx: FrozenContext, *, delta: float = 0.0) -> Any:
        if ctx["condition"] == failing:
            raise ValueError("boom")
        return data, {"sum": 1.0}

    result = experiment_of(fail).run(
        treatments=[PLUS_ONE] if failing == "no" else [PLUS_ONE, PLUS_TWO],
        hypotheses=[Hypothesis(greater_mean, name="greater")],
        replicates=2,
    )

    hypothesis = result.get_hypothesis("greater")
    assert hypothesis is not None
    assert list(hypothesis.results) == compared
    assert hypothesis.ranking["best"] == (compared[0] if compared else None)
    assert len(result.errors) == (0 if failing == "no" else 2)


def test_missing_metric_of_a_hypothesis_lists_the_recorded_ones() -> None:
    with pytest.raises(UnknownMetricError, match=r"no metric 'loss'. Recorded: 'sum'"):
        toy().run(treatments=[PLUS_ONE], hypotheses=[Hypothesis(greater_mean, "loss")])


@pytest.mark.parametrize("replicates", [0, -1, True, 2.0, "3", None])
def test_replicates_that_are_no_count_are_refused(replicates: Any) -> None:
    with pytest.raises(UsageError, match=f"at least 1, not {replicates!r}"):
        toy().run(replicates=replicates)


def test_two_treatments_of_one_name_are_refused() -> None:
    with pytest.raises(UsageError, match=r"same name.*'plus one'"):
        toy().run(treatments=[PLUS_ONE, Treatment("plus one", {"delta": 5.0})])


@pytest.mark.parametrize("treatments", [[], [Treatment("baseline", {"delta": 1.0})]])
def test_hypothesis_without_a_treatment_is_refused(treatments: list[Treatment]) -> None:
    with pytest.raises(UsageError, match="give treatments="):
        toy().run(treatments=treatments, hypotheses=[Hypothesis(greater_mean)])


def test_what_is_no_treatment_is_refused() -> None:
    with pytest.raises(TypeError, match=r"list of Treatment, but \{'delta': 1.0\} is not one"):
        toy().run(treatments=[{"delta": 1.0}])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"Treatment, but \{'delta': 1.0\} is not one.* a name"):
        toy().apply({"delta": 1.0})  # type: ignore[arg-type]


def test_an_experiment_in_place_of_its_space_is_refused_with_a_hint() -> None:
    with pytest.raises(SpaceError, match=r"mapping of names .* Give its search_space\(\)"):
        GridOptimizer(toy(), Objective("total", "minimize"))  # type: ignore[arg-type]


# apply ----------------------------------------------------------------------------------------


def test_apply_runs_once_and_returns_the_data() -> None:
    assert toy().apply() == [1.0, 2.0, 3.0]
    assert toy().apply(PLUS_ONE) == [2.0, 3.0, 4.0]
    assert toy().apply(PLUS_ONE, data=[0.0]) == [1.0]
    assert toy(initial_ctx={"delta": 5.0}).apply() == [6.0, 7.0, 8.0]


@pytest.mark.parametrize("data", [None, [], 0])
def test_apply_takes_any_data(data: Any) -> None:
    def same(data: Any, ctx: FrozenContext) -> Any:
        return data

    assert experiment_of(same).apply(data=data) is data


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_apply_runs_with_the_given_seed(seed: int) -> None:
    def seed_used(data: Any, ctx: FrozenContext) -> Any:
        return ctx["seed_used"]

    assert experiment_of(seed_used, seed=3).apply(seed=seed) == seed
    assert experiment_of(seed_used, seed=3).apply() == 3


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, True, "1"])
def test_apply_refuses_what_is_no_seed(seed: Any) -> None:
    with pytest.raises(UsageError, match=f"not {seed!r}"):
        toy().apply(seed=seed)


def test_apply_raises_what_a_step_raised() -> None:
    error = ValueError("boom")

    def fail(data: Any, ctx: FrozenContext) -> Any:
        raise error

    with pytest.raises(ValueError, match="boom") as caught:
        experiment_of(fail).apply(PLUS_ONE)
    assert caught.value is error


# Set-up and tear-down -------------------------------------------------------------------------


class Recorder(PipelineStep):
    """Writes down when it is set up, called and torn down, and raises where it is told to."""

    def __init__(self, name: str, calls: list[str], fails: Mapping[str, BaseException]) -> None:
        self.label, self.calls, self.fails = name, calls, fails

    def setup(self, ctx: FrozenContext) -> None:
        ctx.add(f"set up {self.label}", True)
        self.note("setup")

    def __call__(self, data: Any, ctx: FrozenContext) -> Any:
        assert ctx[f"set up {self.label}"]
        self.note("call")
        return data, {self.label: ctx.get("delta", 0.0)}

    def teardown(self, ctx: FrozenContext) -> None:
        assert ctx[f"set up {self.label}"]
        self.note("teardown")

    def note(self, event: str) -> None:
        self.calls.append(f"{event} {self.label}")
        if error := self.fails.get(f"{event} {self.label}"):
            raise error


def recording(
    fails: Mapping[str, BaseException] | None = None,
) -> tuple[Experiment, list[str]]:
    calls: list[str] = []
    steps = [Recorder(name, calls, fails or {}) for name in ("a", "b")]
    return Experiment(numbers(), Pipeline(steps)), calls


RUNS: dict[str, Callable[[Experiment], Any]] = {
    "run": lambda experiment: experiment.run(treatments=[PLUS_ONE]),
    "apply": lambda experiment: experiment.apply(PLUS_ONE),
    "optimize": lambda experiment: experiment.optimize(
        PlainOptimizer(DELTAS[:2], Objective("a", "minimize")), 2
    ),
}
each_run = pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)


@pytest.mark.parametrize(("how", "replicates"), [("run", 2), ("apply", 1), ("optimize", 2)])
def test_steps_are_set_up_once_and_torn_down_once(how: str, replicates: int) -> None:
    experiment, calls = recording()

    RUNS[how](experiment)

    assert calls == [
        *("setup a", "setup b"),
        *(["call a", "call b"] * replicates),
        *("teardown b", "teardown a"),
    ]


@each_run
@pytest.mark.parametrize("error", [ValueError("boom"), KeyboardInterrupt("boom")])
def test_steps_are_torn_down_when_one_raises(
    run: Callable[[Experiment], Any], error: BaseException
) -> None:
    experiment, calls = recording({"call b": error})

    with pytest.raises((type(error), RuntimeError), match="boom"):
        run(experiment)

    assert calls[:4] == ["setup a", "setup b", "call a", "call b"]
    assert calls[-2:] == ["teardown b", "teardown a"]
    assert len([call for call in calls if call.startswith("teardown")]) == 2


@each_run
def test_steps_are_torn_down_when_a_setup_raises(run: Callable[[Experiment], Any]) -> None:
    experiment, calls = recording({"setup b": ValueError("boom")})

    with pytest.raises(ValueError, match="boom"):
        run(experiment)

    assert calls == ["setup a", "setup b", "teardown b", "teardown a"]


class AfterRun(BasePlugin):
    """Records `after_run`, and raises there."""

    def __init__(self, calls: list[str], error: BaseException | None = None) -> None:
        self.calls, self.error = calls, error

    def after_run(self, experiment: Any, result: Any) -> None:
        self.calls.append("after_run")
        if self.error is not None:
            raise self.error


async def _in_a_loop(experiment: Experiment) -> Any:
    return await experiment.aoptimize(PlainOptimizer(DELTAS[:2], Objective("a", "minimize")), 2)


def _by_hand(experiment: Experiment) -> Any:
    search = Search(experiment, PlainOptimizer(DELTAS[:2], Objective("a", "minimize")), 2)
    for _ in search:
        pass
    assert search.best is not None
    return search.best.treatment


RESULTS: dict[str, Callable[[Experiment], Any]] = {
    **RUNS,
    "aoptimize": lambda experiment: asyncio.run(_in_a_loop(experiment)),
    "by hand": _by_hand,
    "confirm": lambda experiment: experiment.confirm(
        PLUS_ONE, 2, objective=Objective("a", "minimize"), test="t"
    ),
}


def _name_and_params(treatment: Treatment) -> Any:
    return treatment.name, treatment.params


SHOWN: dict[str, Callable[[Any], Any]] = {
    "run": lambda result: result.metrics.treatments["plus one"].metrics["a"],
    "apply": lambda data: data,
    "confirm": lambda confirmation: [confirmation.effect, confirmation.verdict],
}


@pytest.mark.parametrize("how", RESULTS)
@pytest.mark.parametrize("where", ["teardown", "after_run"])
def test_an_error_at_the_end_keeps_the_result(how: str, where: str) -> None:
    """Whoever calls `run` hears of every error, once, and has what was measured."""
    first, second = ValueError("first"), OSError("second")
    fails = {"teardown b": first, "teardown a": second} if where == "teardown" else {}
    shown: Callable[[Any], Any] = SHOWN.get(how, _name_and_params)
    right = shown(RESULTS[how](recording()[0]))
    experiment, calls = recording(fails)
    experiment.plugins += [
        AfterRun(calls, None if fails else first),
        AfterRun(calls, None if fails else second),
    ]

    with pytest.raises(TeardownError, match=r"(?s)first.*second.*error\.result") as caught:
        RESULTS[how](experiment)

    assert caught.value.errors == (first, second)
    assert caught.value.__cause__ is first
    assert shown(caught.value.result) == right
    assert calls[-4:] == ["teardown b", "teardown a", "after_run", "after_run"]


def test_a_best_treatment_that_an_error_at_the_end_has_can_be_confirmed() -> None:
    experiment, _ = recording({"teardown a": OSError("gone")})

    with pytest.raises(TeardownError) as caught:
        RUNS["optimize"](experiment)
    best = caught.value.result
    with pytest.raises(TeardownError) as confirmed:
        experiment.confirm(best, 2, test="t")  # The objective is that of the search.

    assert [each.metric for each in confirmed.value.result[best.name]] == ["a"]


@each_run
def test_an_error_of_a_teardown_does_not_hide_the_error_that_ended_the_run(
    run: Callable[[Experiment], Any], caplog: pytest.LogCaptureFixture
) -> None:
    experiment, calls = recording({"setup b": ValueError("boom"), "teardown a": OSError("gone")})

    with pytest.raises(ValueError, match="boom"):
        run(experiment)

    assert calls[-1] == "teardown a"
    assert [record.exc_info[1].args for record in caplog.records if record.exc_info] == [  # type: ignore[union-attr]
        ("gone",)
    ]


# Construction ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((numbers, Pipeline([record_sum()])), r"Did you mean numbers\(\)\?"),
        ((3, Pipeline([record_sum()])), "takes a DataSource, not 3"),
        ((numbers(), [record_sum()]), "takes a Pipeline"),
        ((numbers(), Pipeline([record_sum()]), ["seed"]), "BasePlugin, not 'seed'"),
    ],
)
def test_what_is_no_part_of_an_experiment_is_refused(
    arguments: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        Experiment(*arguments)


@pytest.mark.parametrize("key", ["replicate", "condition", "seed_used"])
def test_initial_context_cannot_hold_what_every_replicate_gets(key: str) -> None:
    with pytest.raises(UsageError, match=f"cannot set '{key}'"):
        toy(initial_ctx={key: 1})


def test_callers_initial_context_is_not_shared() -> None:
    given = {"delta": 1.0}
    experiment = toy(initial_ctx=given)
    given["delta"] = 100.0

    assert experiment.apply() == [2.0, 3.0, 4.0]


# Side effects and pickling --------------------------------------------------------------------


def test_no_file_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    experiment = toy(name="toy")

    experiment.run(treatments=[PLUS_ONE], replicates=2)
    experiment.apply(PLUS_ONE)
    experiment.optimize(PlainOptimizer(DELTAS), 3)
    space = SearchSpace({"delta": Float(0.0, 1.0)})
    experiment.optimize(RandomOptimizer(space, Objective("sum", "minimize")), 3)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "value",
    [
        Treatment("a", {"x": 1, "y": None}),
        Observation(Treatment("a", {"x": 1}), {"loss": 0.5}, error="ValueError: boom"),
        SearchSpace(
            {"k": ["a", "b", None], "g": Float(0.0, 1.0).when(k="a"), "n": Integer(1, 3)},
            ["g + n <= 3"],
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_can_be_pickled(value: Any) -> None:
    copy = pickle.loads(pickle.dumps(value))  # noqa: S301

    assert type(copy) is type(value)
    assert repr(copy) == repr(value)


def test_a_real_observation_can_be_pickled() -> None:
    optimizer = RandomOptimizer({"delta": (0.0, 1.0)}, Objective("sum", "minimize"), seed=0)
    toy(seed=0).optimize(optimizer, 1, 2)

    (observation,) = optimizer.observations
    copy = pickle.loads(pickle.dumps(observation))  # noqa: S301

    assert exact(copy) == exact(observation)
    assert dict(copy) == dict(observation)


def test_an_experiment_of_module_level_steps_can_be_pickled() -> None:
    experiment = pickle.loads(pickle.dumps(toy(initial_ctx={"delta": 1.0})))  # noqa: S301

    assert experiment.apply() == [2.0, 3.0, 4.0]


def test_an_experiment_of_local_steps_runs_in_another_process(tmp_path: Path) -> None:
    """As a worker runs one that was written in a notebook: by value, with cloudpickle."""
    offset = 10.0

    @pipeline_step()
    def shift(data: list[float], ctx: FrozenContext, *, factor: float = 1.0) -> Any:
        return [offset + factor * x for x in data]

    def source(ctx: FrozenContext) -> list[float]:
        return [1.0, 2.0]

    class Source(DataSource):
        def fetch(self, ctx: FrozenContext) -> list[float]:
            return source(ctx)

    experiment = Experiment(Source(), Pipeline([shift(factor=2.0)]))
    (tmp_path / "experiment.pickle").write_bytes(cloudpickle.dumps(experiment))
    script = (
        "import cloudpickle, pathlib\n"
        "experiment = cloudpickle.loads(pathlib.Path('experiment.pickle').read_bytes())\n"
        "print(experiment.apply())\n"
    )

    shown = subprocess.run(  # noqa: S603
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (shown.stdout, shown.stderr) == ("[12.0, 14.0]\n", "")


def test_the_same_steps_serve_several_experiments() -> None:
    step = add_delta()
    first = Experiment(numbers(), Pipeline([step]), initial_ctx={"delta": 1.0})
    second = Experiment(numbers(), Pipeline([step]), initial_ctx={"delta": 2.0})

    assert first.apply() == [2.0, 3.0, 4.0]
    assert second.apply() == [3.0, 4.0, 5.0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (5, "takes a function of parameters, not 5"),
        (None, "takes a function of parameters, not None"),
        (add_delta, r"add_delta\(\) is a step.*Pipeline\(\[add_delta\(\)\]\)"),
        (add_delta(), r"is a step, which gets data.*Experiment\(source\(\), Pipeline"),
        (max, "does not tell the names of its parameters"),
    ],
)
def test_the_experiment_of_something_else_than_a_function_is_refused(
    wrong: Any, message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        Experiment.of(wrong)
