"""The newer face of SigOpt's client: experiments that take training runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crystallize_opt import History
from tests.service.test_classic import X, refused

pytestmark = pytest.mark.filterwarnings("ignore:The .data field:RuntimeWarning")

Connect = Callable[..., Any]


def factory_of(connection: Any) -> Any:
    from sigopt.factory import SigOptFactory

    factory = SigOptFactory("night", connection=connection)
    factory.create_project(name="Night")
    return factory


def test_the_loop_over_runs_learns_and_ends_with_the_budget(
    connect: Connect, tmp_path: Path
) -> None:
    path = tmp_path / "service.db"
    connection = connect(storage=path, optimizer="OptunaOptimizer")
    experiment = factory_of(connection).create_experiment(
        name="Runs",
        parameters=[X],
        metrics=[{"name": "loss", "objective": "minimize"}, {"name": "size", "strategy": "store"}],
        budget=12,
    )
    for number, run in enumerate(experiment.loop()):
        with run:
            run.log_model("a line")
            run.log_metadata("number", number)
            run.log_checkpoint({"loss": 1.0})
            if number == 4:
                run.log_failure()
            else:
                run.log_metric("loss", (run.params.x - 0.3) ** 2, stddev=0.1)

    assert number == 11
    assert experiment.progress.finished_run_count == 12
    assert experiment.progress.remaining_budget == 0
    runs = [*experiment.get_runs()]
    assert len(runs) == 12
    assert [each.state for each in runs].count("failed") == 1
    assert runs[0].metadata["number"] == 11
    assert runs[0].checkpoint_count == 1
    (best,) = experiment.get_best_runs()
    assert best.values["loss"].value == min(
        each.values["loss"].value for each in runs if "loss" in each.values
    )
    connection.impl.driver.close()
    history = History.load(path, run=experiment.id)
    assert history.best is not None
    assert history.best.params["x"] == best.assignments["x"]
    assert history.best.sem["loss"] == 0.1


def test_a_run_that_raises_is_a_failed_observation(connect: Connect) -> None:
    experiment = factory_of(connect()).create_experiment(
        name="Runs", parameters=[X], metrics=[{"name": "loss"}], budget=3
    )
    with pytest.raises(ZeroDivisionError), experiment.create_run() as run:
        run.log_metric("loss", 1 / 0)

    (known,) = experiment.get_runs()

    assert known.state == "failed"
    assert known.observation is not None
    assert experiment.progress.finished_run_count == 0  # As it was when it was fetched.
    experiment.refresh()
    assert experiment.progress.finished_run_count == 1


def test_a_run_with_a_missing_metric_failed(connect: Connect) -> None:
    connection = connect()
    experiment = factory_of(connection).create_experiment(
        name="Runs", parameters=[X], metrics=[{"name": "loss"}], budget=3
    )
    run = experiment.create_run()
    run.log_metric("other", 3)
    run.end()

    (observation,) = connection.experiments(experiment.id).observations().fetch().data

    assert observation.failed
    refused(403, connection.training_runs(run.id).checkpoints().create, values=[])
    refused(403, connection.experiments(experiment.id).suggestions().create)


def test_runs_with_assignments_of_their_own(connect: Connect) -> None:
    connection = connect()
    experiment = factory_of(connection).create_experiment(
        name="Runs", parameters=[X], metrics=[{"name": "loss"}], budget=9
    )
    runs = connection.aiexperiments(experiment.id).training_runs()

    own = runs.create(name="own", assignments={"x": 0.25, "other": "seen"})
    done = runs.create(
        name="done", assignments={"x": 0.5}, values={"loss": {"value": 1.0}}, state="completed"
    )

    assert own.assignments.to_json() == {"x": 0.25, "other": "seen"}
    assert own.suggestion is not None
    assert done.observation is not None
    connection.training_runs(own.id).update(values={"loss": {"value": 2}}, state="completed")
    (best,) = experiment.get_best_runs()
    assert best.id == own.id


def test_projects_and_runs_without_an_experiment(connect: Connect) -> None:
    connection = connect()
    factory = factory_of(connection)
    refused(409, connection.clients("1").projects().create, id="night", name="again")
    refused(404, connection.clients("1").projects("day").fetch)
    with factory.create_run(name="alone") as run:
        run.set_parameter("x", 3)
        run.log_metric("loss", 0.5)
        run.log_dataset("digits")
    factory.upload_runs([{"name": f"old {n}", "values": {"loss": {"value": n}}} for n in range(3)])

    listed = connection.clients("1").projects("night").training_runs()

    filters = '[{"field": "values.loss.value", "operator": ">=", "value": 1}]'
    assert [each.name for each in listed.fetch(filters=filters).data] == ["old 2", "old 1"]
    assert listed.fetch(search="alone").data[0].assignments.to_json() == {"x": 3}
    assert connection.clients("1").projects("night").fetch().to_json()["training_run_count"] == 4
    factory.archive_run(run.id)
    assert factory.get_run(run.id).deleted


def test_what_is_left_out_says_so(connect: Connect) -> None:
    connection = connect()
    run = factory_of(connection).create_run(name="alone")

    message = refused(
        501,
        connection.impl.request,
        method="POST",
        path=["training_runs", run.id, "files"],
        data={},
        headers=None,
    )

    assert "keeps no files" in message
    assert "no accounts" in refused(501, connection.organizations().fetch)
