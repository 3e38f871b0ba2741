"""Searches in a real MLflow store, a SQLite file."""

import importlib
import logging
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crystallize_opt import (
    Categorical,
    Constraint,
    Float,
    FrozenContext,
    Objective,
    Observation,
    Treatment,
    Workers,
)
from crystallize_opt.adapters import GridOptimizer, RandomOptimizer
from crystallize_opt.errors import MissingExtraError, UsageError
from crystallize_opt.search.callbacks import (
    Event,
    RunStarted,
    RunStopped,
    TrialCompleted,
    TrialStarted,
)
from crystallize_opt.trials.best import Criterion
from tests.toy import PlainOptimizer, experiment_of

# MLflow's own use of SQLAlchemy.
pytestmark = pytest.mark.filterwarnings("ignore:.*noload")

LOSS = Objective("loss", "minimize")


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the URI of one store for all tests: MLflow takes seconds to create one."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'runs.db'}"


@pytest.fixture
def started(uri: str) -> Iterator[Any]:
    """Yield `mlflow` with this store as the global one, and end what the test leaves active."""
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    yield mlflow
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(before)


def callback(experiment: str | None, uri: str, **options: Any) -> Any:
    from crystallize_opt.integrations.mlflow import MLflowCallback

    return MLflowCallback(experiment, tracking_uri=uri, **options)


def runs_of(experiment: str, uri: str) -> tuple[list[Any], dict[str, Any]]:
    """Return the runs of searches, the newest first, and those of trials, by name."""
    from mlflow import MlflowClient

    client: Any = MlflowClient(tracking_uri=uri)
    runs = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    trials = {run.info.run_name: run for run in runs if "crystallize_opt.trial" in run.data.tags}
    searches = [run for run in runs if "stop_reason" in run.data.tags]
    assert len(trials) + len(searches) == len(runs)
    return searches, trials


def statuses(experiment: str, uri: str) -> dict[str, str]:
    searches, trials = runs_of(experiment, uri)
    found = {name: run.info.status for name, run in trials.items()}
    return {"search": searches[0].info.status, **found}


def record(data: Any, ctx: FrozenContext, *, x: float) -> Any:
    if x < 0:
        raise ValueError("boom")
    return data, {"loss": x}


def test_each_trial_is_a_run_nested_in_the_search(uri: str) -> None:
    limit = Constraint("loss", "<=", 150, relative_to_baseline=True)
    optimizer = GridOptimizer({"x": [2.0, -1.0, 1.0]}, LOSS, constraints=[limit])
    experiment_of(record).optimize(
        optimizer,
        3,
        baseline=Treatment("usual", {"x": 1.0}),
        callbacks=[callback("digits", uri)],
        workers=Workers("threads", 2),
    )

    (search,), trials = runs_of("digits", uri)
    assert search.info.run_name == "GridOptimizer"
    assert search.info.status == "FINISHED"
    assert search.data.tags["stop_reason"] == "3 trials have been run"
    assert search.data.params["objective.loss"] == "minimize"
    assert search.data.params["constraints"] == "loss <= baseline + 150 %"
    assert search.data.metrics == {"baseline.loss": 1.0, "loss": 1.0}
    parents = {run.data.tags["mlflow.parentRunId"] for run in trials.values()}
    assert parents == {search.info.run_id}
    assert {
        name: (run.info.status, run.data.params["x"], run.data.metrics.get("loss"))
        for name, run in trials.items()
    } == {
        "trial_0": ("FINISHED", "2.0", 2.0),
        "trial_1": ("FAILED", "-1.0", None),
        "trial_2": ("FINISHED", "1.0", 1.0),
    }
    assert "ValueError: boom" in trials["trial_1"].data.tags["error"]


def test_the_search_has_the_best_values_and_the_trials_standard_errors(uri: str) -> None:
    space = {"kind": Categorical(["b", "a"]), "z": Float(0, 1).when(kind="b"), "x": (0.0, 1.0)}

    def kinds(data: Any, ctx: FrozenContext, *, kind: str, x: float, z: Any = None) -> Any:
        return data, {"loss": {"b": 5.0, "a": 2.0}[kind] + ctx["replicate"], "seconds": 3.0}

    optimizer = RandomOptimizer(space, LOSS, seed=0)
    for kind in ("b", "a", "b"):
        optimizer.enqueue({"kind": kind, "x": 0.5, **({"z": 0.25} if kind == "b" else {})})
    experiment_of(kinds).optimize(optimizer, 3, 2, callbacks=[callback("best", uri)])

    (search,), trials = runs_of("best", uri)
    from mlflow import MlflowClient

    client: Any = MlflowClient(tracking_uri=uri)
    curve = client.get_metric_history(search.info.run_id, "loss")
    assert [(each.step, each.value) for each in curve] == [(1, 5.5), (2, 2.5)]
    assert search.data.metrics == {"loss": 2.5, "loss.sem": 0.5}
    tags = {name: tag for name, tag in search.data.tags.items() if name.startswith("best")}
    assert tags == {"best_trial": "trial_1", "best.kind": "a", "best.x": "0.5"}
    assert trials["trial_0"].data.metrics == {
        "loss": 5.5,
        "loss.sem": 0.5,
        "seconds": 3.0,
        "seconds.sem": 0.0,
    }


def test_the_code_of_the_page_runs(uri: str) -> None:
    text = (Path(__file__).parents[2] / "docs" / "mlflow.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)

    exec(block.replace("sqlite:///mlflow.db", uri), {})  # noqa: S102

    assert len(runs_of("distances", uri)[1]) == 5
    assert "`acc@5 (%)` becomes `acc_5 _-9b1f991037b1`" in text


# Names and values -------------------------------------------------------------------------------

REFUSED = ["acc@5 (%)", "C=1, gamma", "", ".", "..", "../x", "/x", "a//b", "a/", "a\n", "x" * 300]


def test_what_mlflow_refuses_is_recorded_without_loss(
    uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    names = [*REFUSED, "точность", "a b", "loss/train", "plain"]

    long = "a" * 9000

    class Broken:
        def __str__(self) -> str:
            raise TypeError("no text")

    from crystallize_opt.integrations.mlflow_names import safe_name

    params = {name: f"value of {name}" for name in names} | {"long": long, "broken": Broken()}
    treatment = Treatment("trial \0 0", params)
    metrics = {name: float(number) for number, name in enumerate(names)}
    observation = Observation(treatment, {**metrics, "loss": 1.0}, error="e" * 20_000)
    recorder = callback("names", uri)
    for event in (
        RunStarted("A", [LOSS], 1, 1, 1, (), Criterion((LOSS,)), "A"),
        TrialStarted(treatment),
        TrialCompleted(observation),
        RunStopped("done", treatment),
    ):
        recorder(event)

    (search,), trials = runs_of("names", uri)
    (trial,) = trials.values()
    data = trial.data
    assert (search.info.status, trial.info.status) == ("FINISHED", "FINISHED")
    assert not caplog.records
    for number, name in enumerate(names):
        key = safe_name(name)
        assert data.metrics[key] == number
        assert data.params[key] == f"value of {name}"
        assert data.tags.get(f"crystallize_opt.name.{key}", key) == name
    whole = (
        data.tags["crystallize_opt.value.long"]
        + data.tags["crystallize_opt.1.crystallize_opt.value.long"]
    )
    assert whole == long
    error = [
        data.tags[name] for name in ("error", "crystallize_opt.1.error", "crystallize_opt.2.error")
    ]
    assert "".join(error) == "e" * 20_000


@settings(max_examples=40)
@given(st.lists(st.text() | st.sampled_from(REFUSED), unique=True))
@example(["acc@5", "acc#5", "acc_5"])
@example(["acc@5", "acc_5-7d7ba0d4ae0b"])
def test_every_name_becomes_one_that_mlflow_takes_and_distinct_names_stay_distinct(
    names: list[str],
) -> None:
    validation: Any = importlib.import_module("mlflow.utils.validation")

    from crystallize_opt.integrations.mlflow_names import original_names, safe_name

    mapped = [safe_name(name) for name in names]
    again = [safe_name(name) for name in mapped]
    assert len({*names, *mapped}) >= len(set(mapped)) == len(names)
    assert all(a != b for a, b in zip(mapped, again, strict=True) if a not in names)
    for name in mapped:
        validation._validate_param_name(name)
        validation._validate_metric_name(name)
    for tag, text in original_names(names).items():
        validation._validate_tag(tag, text)


# Every run ends ---------------------------------------------------------------------------------


def test_runs_end_if_a_callback_or_the_search_fails(uri: str) -> None:
    def broken(event: Event) -> None:
        raise RuntimeError("a callback")

    def leave(event: Event) -> None:
        if isinstance(event, TrialStarted) and event.treatment.params["x"] == 1.0:
            raise SystemExit("left")

    optimizer = GridOptimizer({"x": [2.0, -1.0, 1.0]}, LOSS)
    experiment_of(record).optimize(optimizer, 2, callbacks=[broken, callback("broken", uri)])
    assert statuses("broken", uri) == {
        "search": "FINISHED",
        "trial_0": "FINISHED",
        "trial_1": "FAILED",
    }

    optimizer = GridOptimizer({"x": [2.0, -1.0, 1.0]}, LOSS)
    with pytest.raises(Exception, match="boom"):
        experiment_of(record).optimize(
            optimizer, 3, callbacks=[callback("raise", uri)], failures="raise"
        )
    assert statuses("raise", uri) == {
        "search": "FAILED",
        "trial_0": "FINISHED",
        "trial_1": "FAILED",
    }

    optimizer = GridOptimizer({"x": Categorical([2.0, 1.0])}, LOSS)
    with pytest.raises(SystemExit):
        experiment_of(record).optimize(optimizer, 2, callbacks=[callback("exit", uri), leave])
    assert statuses("exit", uri) == {"search": "KILLED", "trial_0": "FINISHED", "trial_1": "KILLED"}


def test_after_an_interruption_the_runs_are_killed_and_a_resume_continues_them(
    uri: str, tmp_path: Path
) -> None:
    interrupts = True

    def step(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        if interrupts and x == 1.0:
            signal.raise_signal(signal.SIGINT)
        return data, {"loss": x}

    def search(num_trials: int, **options: Any) -> None:
        optimizer = GridOptimizer({"x": [3.0, 1.0, 2.0, 0.0]}, LOSS)
        experiment_of(step).optimize(
            optimizer,
            num_trials,
            storage=tmp_path / "runs.db",
            callbacks=[callback("resumed", uri)],
            **options,
        )

    search(3)
    assert statuses("resumed", uri) == {
        "search": "KILLED",
        "trial_0": "FINISHED",
        "trial_1": "KILLED",
    }

    interrupts = False
    (tmp_path / "moved").mkdir()
    (tmp_path / "runs.db").rename(tmp_path / "moved" / "runs.db")
    tmp_path /= "moved"
    search(4)
    (run,), trials = runs_of("resumed", uri)
    assert {run.info.status, *(each.info.status for each in trials.values())} == {"FINISHED"}
    assert [*sorted(trials)] == ["trial_0", "trial_1", "trial_2", "trial_3"]
    assert run.data.tags["best_trial"] == "trial_3"
    assert run.data.metrics == {"loss": 0.0}
    assert (run.data.params["num_trials"], run.data.tags["num_trials"]) == ("3", "4")


def test_a_stored_search_that_is_recorded_later_is_recorded_whole(uri: str, tmp_path: Path) -> None:
    def search(num_trials: int, *callbacks: Any) -> None:
        optimizer = GridOptimizer({"x": [1.0, -1.0, 2.0]}, LOSS)
        storage, usual = tmp_path / "runs.db", Treatment("usual", {"x": 2.5})
        experiment_of(record).optimize(
            optimizer, num_trials, storage=storage, baseline=usual, callbacks=callbacks
        )

    search(2)
    search(3, callback("later", uri))

    assert statuses("later", uri) == {
        "search": "FINISHED",
        "trial_0": "FINISHED",
        "trial_1": "FAILED",
        "trial_2": "FINISHED",
    }
    (run,), trials = runs_of("later", uri)
    assert (run.data.metrics["loss"], run.data.tags["best_trial"]) == (1.0, "trial_0")
    assert run.data.metrics["baseline.loss"] == 2.5
    assert trials["trial_1"].data.params["x"] == "-1.0"

    search(3, callback("later", uri))  # Everything is recorded: nothing is added.
    (_,), again = runs_of("later", uri)
    assert {each.info.run_id for each in again.values()} == {
        each.info.run_id for each in trials.values()
    }


def test_the_trials_of_an_optimizer_that_reuses_names_have_runs_of_their_own(uri: str) -> None:
    class SameName(PlainOptimizer):
        def ask(self) -> list[Treatment]:
            return [Treatment("it", super().ask()[0].params)]

    def loss(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        return data, {"sum": delta}

    optimizer = SameName([3.0, 1.0, 2.0])
    experiment_of(loss).optimize(optimizer, 3, callbacks=[callback("same", uri)])

    from mlflow import MlflowClient

    client: Any = MlflowClient(tracking_uri=uri)
    runs = client.search_runs([client.get_experiment_by_name("same").experiment_id])
    trials = [run for run in runs if run.info.run_name == "it"]
    assert sorted(run.data.metrics["sum"] for run in trials) == [1.0, 2.0, 3.0]
    assert {run.info.status for run in runs} == {"FINISHED"}


# The user's own runs, and failures of MLflow ----------------------------------------------------


def test_the_search_is_nested_in_the_active_run_which_stays_active(started: Any) -> None:
    started.set_experiment("the user's own")
    with started.start_run() as outer:
        optimizer = GridOptimizer({"x": [1.0]}, LOSS)
        experiment_of(record).optimize(
            optimizer, 1, callbacks=[callback(None, started.get_tracking_uri())]
        )
        assert started.active_run().info.run_id == outer.info.run_id
        assert started.get_run(outer.info.run_id).info.status == "RUNNING"
        started.log_metric("mine", 1.0)
    client = started.MlflowClient()
    runs = {run.info.run_name: run for run in client.search_runs([outer.info.experiment_id])}
    search, trial = runs["GridOptimizer"], runs["trial_0"]
    assert search.data.tags["mlflow.parentRunId"] == outer.info.run_id
    assert trial.data.tags["mlflow.parentRunId"] == search.info.run_id
    assert {run.info.status for run in runs.values()} == {"FINISHED"}


def stored_search(storage: Path, uri: str, num_trials: int, experiment: str | None = None) -> None:
    optimizer = GridOptimizer({"x": Categorical([2.0, 1.0])}, LOSS)
    recorder = callback(experiment, uri)
    experiment_of(record).optimize(optimizer, num_trials, storage=storage, callbacks=[recorder])


@pytest.mark.parametrize("now", ["no run is active", "another run is active"])
def test_a_resumed_search_continues_its_run_although_the_outer_run_is_not_active_again(
    started: Any, tmp_path: Path, now: str
) -> None:
    def everywhere() -> dict[str, Any]:
        found = client.search_runs([each.experiment_id for each in client.search_experiments()])
        return {run.info.run_id: run for run in found}

    client, uri = started.MlflowClient(), started.get_tracking_uri()
    mine = client.create_experiment(f"mine, {now}")
    before = everywhere().keys()
    with started.start_run(experiment_id=mine) as outer:
        stored_search(tmp_path / "runs.db", uri, 1)
    if now == "another run is active":
        started.start_run(experiment_id=client.create_experiment("of another run"))
    stored_search(tmp_path / "runs.db", uri, 2)

    known = {*before, outer.info.run_id, getattr(started.active_run(), "info", outer.info).run_id}
    new = [run for run_id, run in everywhere().items() if run_id not in known]
    runs = {run.info.run_name: run for run in new}
    assert sorted(run.info.run_name for run in new) == ["GridOptimizer", "trial_0", "trial_1"]
    assert {run.info.experiment_id for run in new} == {mine}
    assert {run.info.status for run in new} == {"FINISHED"}
    assert runs["GridOptimizer"].data.tags["mlflow.parentRunId"] == outer.info.run_id


def test_a_run_that_was_deleted_or_is_in_another_experiment_is_not_continued(
    started: Any, tmp_path: Path
) -> None:
    client, uri = started.MlflowClient(), started.get_tracking_uri()
    for experiment in ("one", "two"):
        stored_search(tmp_path / "runs.db", uri, 1, experiment)
    ((one,), _), ((two,), _) = runs_of("one", uri), runs_of("two", uri)
    client.delete_run(one.info.run_id)
    client.delete_experiment(two.info.experiment_id)

    with started.start_run(experiment_id=client.create_experiment("three")) as outer:
        stored_search(tmp_path / "runs.db", uri, 1)

    names = [run.info.run_name for run in client.search_runs([outer.info.experiment_id])]
    assert sorted(names) == sorted(["GridOptimizer", "trial_0", outer.info.run_name])


def test_a_search_in_an_event_loop_is_nested_too(started: Any) -> None:
    import asyncio

    async def step(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        await asyncio.sleep(0)
        return data, {"loss": x}

    async def main() -> None:  # As in a notebook: the search runs in another thread.
        optimizer = GridOptimizer({"x": [1.0]}, LOSS)
        experiment_of(step).optimize(
            optimizer, 1, callbacks=[callback("loop", started.get_tracking_uri())]
        )

    with started.start_run() as outer:
        asyncio.run(main())
    (search,), _ = runs_of("loop", started.get_tracking_uri())
    assert search.data.tags["mlflow.parentRunId"] == outer.info.run_id


def test_a_server_that_is_down_never_ends_the_search_and_is_named_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    optimizer = GridOptimizer({"x": Categorical([2.0, 1.0])}, LOSS)
    with caplog.at_level(logging.WARNING, "crystallize_opt"):
        best = experiment_of(record).optimize(
            optimizer, 2, callbacks=[callback("down", "http://127.0.0.1:9")]
        )
    assert best.params["x"] == 1.0
    first, last = (each.getMessage() for each in caplog.records if each.name == "crystallize_opt")
    assert first.startswith("MLflow fails, and the search continues: MlflowException: ")
    assert last == "MLflow still fails: 8 records of the search are missing."


def test_what_mlflow_could_not_record_is_recorded_once_it_works(
    uri: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = callback("repaired", uri)
    store = type(recorder._client._tracking_client.store)
    works = store.log_batch

    def down(*arguments: Any, **named: Any) -> None:
        raise OSError("the disk is full")

    def repair(event: Event) -> None:
        if isinstance(event, TrialCompleted):
            monkeypatch.setattr(store, "log_batch", works)

    monkeypatch.setattr(store, "log_batch", down)
    optimizer = GridOptimizer({"x": Categorical([2.0, 1.0])}, LOSS)
    experiment_of(record).optimize(optimizer, 2, callbacks=[recorder, repair])

    (search,), trials = runs_of("repaired", uri)
    assert search.data.params["num_trials"] == "2"
    assert {name: run.data.metrics["loss"] for name, run in trials.items()} == {
        "trial_0": 2.0,
        "trial_1": 1.0,
    }
    assert statuses("repaired", uri) == {
        "search": "FINISHED",
        "trial_0": "FINISHED",
        "trial_1": "FINISHED",
    }
    assert [each.getMessage() for each in caplog.records if each.name == "crystallize_opt"] == [
        "MLflow fails, and the search continues: OSError: the disk is full"
    ]


def test_an_experiment_has_a_name() -> None:
    with pytest.raises(UsageError, match="name of an experiment"):
        callback("", "sqlite://")


def test_mlflow_that_is_missing_is_named_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "crystallize_opt.integrations.mlflow", raising=False)

    with pytest.raises(MissingExtraError, match=re.escape('pip install "crystallize-opt[mlflow]"')):
        importlib.import_module("crystallize_opt.integrations.mlflow")


def test_learning_curves_are_metrics_with_steps(uri: str) -> None:
    def train(data: Any, ctx: FrozenContext, *, x: float) -> Any:
        for epoch in range(3):
            ctx.report("loss", x - epoch, step=10 * epoch)
            ctx.report("val@1", x + epoch, step=epoch)
        return data, {"loss": 7.0 + x}

    from mlflow import MlflowClient

    for replicates in (1, 2):
        name = f"curves {replicates}"
        optimizer = GridOptimizer({"x": Categorical([1.0, 2.0])}, LOSS)
        experiment_of(train).optimize(optimizer, 2, replicates, callbacks=[callback(name, uri)])
        _, trials = runs_of(name, uri)
        run = trials["trial_1"]
        client: Any = MlflowClient(tracking_uri=uri)

        def points(metric: str, run: Any = run, client: Any = client) -> list[tuple[int, float]]:
            history = client.get_metric_history(run.info.run_id, metric)
            return [(each.step, each.value) for each in history]

        curve = [(0, 2.0), (10, 1.0), (20, 0.0)]
        if replicates == 1:
            assert points("loss") == [*curve, (20, 9.0)]
        else:
            assert points("loss") == [(0, 9.0)]
            assert points("loss.replicate_0") == points("loss.replicate_1") == curve
        assert run.data.metrics["loss"] == 9.0  # the trial's own value is the one shown
        original = [key for key, value in run.data.tags.items() if value.startswith("val@1")]
        assert len(original) == replicates
        shown = original[0].removeprefix("crystallize_opt.name.")
        assert points(shown) == [(0, 2.0), (1, 3.0), (2, 4.0)]
