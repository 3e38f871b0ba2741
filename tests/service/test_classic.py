"""SigOpt's classic API through its client: experiments, suggestions, observations and results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crystallize_opt import History

pytestmark = pytest.mark.filterwarnings(
    "ignore:The .data field:RuntimeWarning", "ignore:This field has been:DeprecationWarning"
)
Connect = Callable[..., Any]

X = {"name": "x", "type": "double", "bounds": {"min": 0.0, "max": 1.0}}
EVERYTHING: dict[str, Any] = {
    "name": "Everything",
    "parameters": [
        {**X, "default_value": 0.5},
        {
            "name": "rate",
            "type": "double",
            "transformation": "log",
            "bounds": {"min": 1e-4, "max": 1},
        },
        {"name": "n", "type": "int", "bounds": {"min": 1, "max": 9}},
        {"name": "y", "type": "double", "bounds": {"min": 0.0, "max": 1.0}},
        {"name": "size", "type": "int", "grid": [8, 2, 4]},
        {"name": "kind", "type": "categorical", "categorical_values": ["a", "b"]},
        {
            "name": "depth",
            "type": "int",
            "bounds": {"min": 1, "max": 3},
            "conditions": {"model": ["tree"]},
        },
    ],
    "conditionals": [{"name": "model", "values": ["tree", "line"]}],
    "linear_constraints": [
        {
            "type": "less_than",
            "threshold": 1.2,
            "terms": [{"name": "x", "weight": 1}, {"name": "y", "weight": 1}],
        }
    ],
    "metrics": [
        {"name": "score"},
        {"name": "loss", "objective": "minimize"},
        {"name": "seconds", "objective": "minimize", "strategy": "constraint", "threshold": 3},
        {"name": "note", "strategy": "store"},
    ],
    "observation_budget": 30,
    "parallel_bandwidth": 2,
    "metadata": {"who": "Ann", "optimizer": "RandomOptimizer", "seed": 1},
}


def made(connection: Any, **changes: Any) -> Any:
    simple = {"name": "Simple", "parameters": [X], "metrics": [{"name": "m"}]}
    return connection.experiments().create(**{**simple, **changes})


def refused(status: int, call: Callable[..., Any], **arguments: Any) -> str:
    from sigopt.exception import ApiException

    with pytest.raises(ApiException) as error:
        call(**arguments)
    assert error.value.status_code == status
    return str(error.value)


def values(score: float) -> list[dict[str, Any]]:
    return [
        {"name": "score", "value": score, "value_stddev": 0.5},
        {"name": "loss", "value": -score},
        {"name": "seconds", "value": 2.0},
    ]


def test_every_field_of_an_experiment_comes_back(connect: Connect) -> None:
    connection = connect()
    experiment = connection.experiments().create(**EVERYTHING)

    assert connection.experiments(experiment.id).fetch() == experiment
    assert experiment.type == "offline"
    assert experiment.state == "active"
    assert experiment.metadata["who"] == "Ann"
    by_name = {each.name: each for each in experiment.parameters}
    assert by_name["rate"].transformation == "log"
    assert by_name["x"].default_value == 0.5
    assert by_name["size"].grid == [2.0, 4.0, 8.0]
    assert [each.name for each in by_name["kind"].categorical_values] == ["a", "b"]
    assert by_name["depth"].conditions.to_json() == {"model": ["tree"]}
    assert experiment.conditionals[0].values == ["tree", "line"]
    assert experiment.linear_constraints[0].terms[1].weight == 1
    assert [each.objective for each in experiment.metrics] == [
        *("maximize", "minimize", "minimize", "maximize"),
    ]
    assert experiment.metrics[2].threshold == 3
    assert experiment.progress.observation_count == 0


def test_suggestions_are_points_of_the_space_and_observations_reach_the_run(
    connect: Connect, tmp_path: Path
) -> None:
    path = tmp_path / "service.db"
    connection = connect(storage=path)
    experiment = connection.experiments().create(**EVERYTHING)
    suggestions = connection.experiments(experiment.id).suggestions()
    observations = connection.experiments(experiment.id).observations()
    for number in range(12):
        suggestion = suggestions.create(metadata={"number": number})
        given = suggestion.assignments
        assert given["x"] + given["y"] <= 1.2
        assert isinstance(given["n"], int)
        assert given["size"] in (2, 4, 8)
        assert ("depth" in given) == (given["model"] == "tree")
        outcome = {"failed": True} if number == 3 else {"values": values(given["x"])}
        observation = observations.create(suggestion=suggestion.id, **outcome)
        assert observation.suggestion == suggestion.id
        assert observation.assignments == given
    assert suggestions.fetch(limit=1).data[0].metadata["number"] == 11
    connection.impl.driver.close()

    history = History.load(path, run=experiment.id)
    assert len(history) == 12
    assert [each.status.value for each in history].count("failed") == 1
    assert history[0].sem["score"] == 0.5
    assert [each.metric for each in history.objectives] == ["score", "loss"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": ""}, "`name`"),
        ({"parameters": []}, "at least one parameter"),
        ({"parameters": [{**X, "type": "real"}]}, "'double', 'int', 'categorical'"),
        ({"parameters": [{**X, "bounds": {"min": 1, "max": 0}}]}, "`min` below `max`"),
        ({"parameters": [X, X]}, "twice"),
        ({"parameters": [{**X, "precision": 2}]}, "`precision`"),
        ({"metrics": [{"name": "m", "objective": "up"}]}, "'maximize', 'minimize'"),
        ({"metrics": [{"name": "m", "strategy": "store"}]}, "'optimize' or 'constraint'"),
        ({"metrics": [{"name": "a"}, {"name": "b"}]}, "`observation_budget` is required"),
        ({"metadata": {"optimizer": "Nobody"}}, "RandomOptimizer"),
        ({"metadata": {"optimizer.noise": 1}}, "cannot search"),
        ({"metadata": {"a": [1]}}, "metadata"),
        ({"metadata": {"ttl": "soon"}}, "`ttl` in the metadata"),
        ({"tasks": [{"name": "t", "cost": 1}]}, "fidelity"),
        ({"project": "nowhere"}, "no project"),
        ({"size": 3}, "Unknown: `size`"),
    ],
)
def test_what_breaks_a_rule_is_refused_by_name(
    connect: Connect, change: dict[str, Any], words: str
) -> None:
    connection = connect()

    message = refused(400, made, connection=connection, **change)

    assert words in message
    assert connection.experiments().fetch().count == 0


def test_an_observation_that_breaks_a_rule_is_refused(connect: Connect) -> None:
    connection = connect()
    observations = connection.experiments(made(connection).id).observations()
    inside, good = {"x": 0.5}, [{"name": "m", "value": 1}]
    for arguments in (
        {"values": good},
        {"assignments": inside},
        {"assignments": inside, "values": good, "failed": True},
        {"assignments": {"x": "a"}, "values": good},
        {"assignments": {"x": 0.5, "z": 1}, "values": good},
        {"assignments": inside, "values": [{"name": "other", "value": 1}]},
        {"assignments": inside, "values": [*good, *good]},
        {"assignments": inside, "values": [{"name": "m", "value": float("nan")}]},
        {"assignments": inside, "values": [{"name": "m", "value": 1, "value_stddev": -1}]},
        {"suggestion": "99", "values": good},
    ):
        refused(400, observations.create, **arguments)
    refused(404, connection.experiments("12").observations().create, suggestion="1", values=good)
    assert observations.fetch().count == 0


def test_a_point_outside_of_the_bounds_is_data_but_no_suggestion(connect: Connect) -> None:
    connection = connect()
    experiment = connection.experiments(made(connection).id)

    observation = experiment.observations().create(assignments={"x": 3.0}, value=1.0)
    refused(400, experiment.suggestions().create, assignments={"x": 3.0})

    assert observation.assignments.to_json() == {"x": 3.0}
    assert experiment.fetch().progress.observation_count == 1
    assert experiment.suggestions().create().assignments["x"] <= 1.0


def test_a_repeated_request_is_one_observation(connect: Connect) -> None:
    connection = connect()
    experiment = connection.experiments(made(connection).id)
    suggestion = experiment.suggestions().create()

    several = [
        experiment.observations().create(suggestion=suggestion.id, values=[{"value": 1.0}])
        for _ in range(3)
    ]

    assert len({each.id for each in several}) == 1
    assert experiment.fetch().progress.observation_count == 1
    assert experiment.suggestions(suggestion.id).fetch().state == "closed"


def test_own_and_queued_suggestions_come_first(connect: Connect) -> None:
    connection = connect()
    experiment = connection.experiments(made(connection, parallel_bandwidth=2).id)
    for x in (0.25, 0.75):
        experiment.queued_suggestions().create(assignments={"x": x})
    experiment.queued_suggestions(
        experiment.queued_suggestions().create(assignments={"x": 0.5}).id
    ).delete()

    found = [
        experiment.suggestions().create(**own).assignments["x"]
        for own in ({}, {"assignments": {"x": 0.1}}, {"assignments": {"x": 0.1}}, {})
    ]

    assert found == [0.25, 0.1, 0.1, 0.75]
    assert experiment.queued_suggestions().fetch().count == 0
    assert experiment.suggestions().create().assignments["x"] not in found


def test_a_queued_suggestion_that_is_out_of_bounds_waits_and_holds_up_no_other(
    connect: Connect,
) -> None:
    connection = connect()
    experiment = connection.experiments(made(connection).id)
    for x in (0.9, 0.8, 0.4):
        experiment.queued_suggestions().create(assignments={"x": x})

    experiment.update(parameters=[{"name": "x", "bounds": {"min": 0, "max": 0.5}}])
    found = [experiment.suggestions().create().assignments["x"] for _ in range(3)]

    assert found[0] == 0.4
    assert all(x <= 0.5 for x in found)
    waiting = [each.assignments["x"] for each in experiment.queued_suggestions().fetch().data]
    assert waiting == [0.8, 0.9]  # The newest first.
    experiment.update(parameters=[{"name": "x", "bounds": {"min": 0, "max": 1}}])
    assert [experiment.suggestions().create().assignments["x"] for _ in range(2)] == [0.9, 0.8]
    assert experiment.queued_suggestions().fetch().count == 0


def test_a_queued_suggestion_is_completed_for_the_parameters_of_today(connect: Connect) -> None:
    connection = connect()
    y = {**X, "name": "y"}
    experiment = connection.experiments(made(connection, parameters=[X, y]).id)
    experiment.queued_suggestions().create(assignments={"x": 0.25, "y": 0.75})
    new = {"name": "n", "type": "int", "bounds": {"min": 1, "max": 9}, "default_value": 4}

    experiment.update(parameters=[{"name": "x"}, new])

    assert experiment.suggestions().create().assignments.to_json() == {"x": 0.25, "n": 4}
    assert experiment.queued_suggestions().fetch().count == 0


def test_deleting_and_editing_observations_begins_the_run_anew(
    connect: Connect, tmp_path: Path
) -> None:
    path = tmp_path / "service.db"
    connection = connect(storage=path)
    experiment = connection.experiments(made(connection).id)
    left = experiment.suggestions().create()
    first, second, third = [
        experiment.observations().create(
            suggestion=experiment.suggestions().create().id, value=float(value)
        )
        for value in range(3)
    ]
    assert experiment.fetch().progress.best_observation.id == third.id

    experiment.observations(third.id).delete()
    experiment.observations(first.id).update(values=[{"value": 9.0}])
    experiment.observations(second.id).update(failed=True, values=None)

    assert experiment.fetch().progress.observation_count == 2
    assert experiment.best_assignments().fetch().data[0].id == first.id
    late = experiment.observations().create(suggestion=left.id, value=4.0)
    connection.impl.driver.close()
    history = History.load(path, run="1")
    assert sorted(each.metrics.get("m", -1.0) for each in history) == [-1.0, 4.0, 9.0]
    assert history.best is not None
    assert history.best["m"] == 9.0
    assert late.assignments == left.assignments


@pytest.mark.parametrize("ttl", ["soon", -5, 0])
def test_a_ttl_that_is_no_time_is_refused_also_by_an_update(connect: Connect, ttl: Any) -> None:
    connection = connect()
    experiment = connection.experiments(made(connection, metadata={"ttl": 60}).id)

    message = refused(400, experiment.update, metadata={"ttl": ttl, "note": "n"})

    assert f"`ttl` in the metadata is a number of seconds above 0, not {ttl!r}" in message
    assert experiment.fetch().metadata.to_json() == {"ttl": 60}
    experiment.suggestions().create()


def test_a_ttl_that_an_earlier_version_took_is_named_and_can_be_changed(connect: Connect) -> None:
    connection = connect()
    experiment = connection.experiments(made(connection).id)
    store = connection.impl.driver.handler.service.store
    with store.writing():
        record = store.get("experiment", 1)
        store.put("experiment", record._replace(data={**record.data, "metadata": {"ttl": "soon"}}))

    assert "`ttl` in the metadata" in refused(400, experiment.suggestions().create)
    experiment.update(metadata={"ttl": 60})
    experiment.suggestions().create()


@pytest.mark.parametrize("is_of_an_earlier_version", [False, True])
def test_an_edit_of_an_observation_leaves_how_long_its_trial_took(
    connect: Connect, tmp_path: Path, is_of_an_earlier_version: bool
) -> None:
    path = tmp_path / "service.db"
    connection = connect(storage=path)
    experiment = connection.experiments(made(connection).id)
    suggestions = [experiment.suggestions().create() for _ in range(3)]
    first, second, third = (
        experiment.observations().create(suggestion=each.id, value=1.0) for each in suggestions
    )
    experiment.suggestions().create()
    before = sorted(each.duration or 0.0 for each in History.load(path))
    assert all(before)
    store = connection.impl.driver.handler.service.store
    if is_of_an_earlier_version:
        with store.writing():
            for record in store.page("observation", 1):
                data = {key: value for key, value in record.data.items() if key != "ended"}
                store.put("observation", record._replace(data=data))

    experiment.observations(first.id).update(metadata={"note": "seen by Ann"})
    experiment.observations(second.id).update(value=2.0)
    experiment.observations(second.id).update(suggestion=suggestions[1].id, value=3.0)
    experiment.observations(third.id).update(failed=True, values=None)
    experiment.suggestions().create()

    assert sorted(each.duration or 0.0 for each in History.load(path, run="1")) == before
    experiment.observations(third.id).update(
        suggestion=None, assignments={"x": 0.5}, value=1.0, failed=False
    )
    experiment.suggestions().create()
    durations = {each.params["x"]: each.duration for each in History.load(path, run="1")}
    assert durations[0.5] is None  # Nobody asked for it.


def test_a_new_parameter_has_its_default_in_earlier_observations(connect: Connect) -> None:
    connection = connect()
    experiment = connection.experiments(made(connection).id)
    experiment.observations().create(suggestion=experiment.suggestions().create().id, value=1.0)
    more = {"name": "n", "type": "int", "bounds": {"min": 1, "max": 9}}

    refused(400, experiment.update, parameters=[{"name": "x"}, more])
    experiment.update(
        name="Wider",
        parameters=[{"name": "x", "bounds": {"min": 0, "max": 2}}, {**more, "default_value": 4}],
    )

    assert {*experiment.suggestions().create().assignments} == {"x", "n"}
    live = connection.impl.driver.handler.service.lives._open[1]
    (learned,) = live._run.optimizer.observations
    assert learned.params["n"] == 4
    assert experiment.fetch().name == "Wider"


def test_lists_have_pages_both_ways(connect: Connect) -> None:
    connection = connect()
    experiment = connection.experiments(made(connection).id)
    experiment.observations().create_batch(
        observations=[
            {"assignments": {"x": x / 10}, "values": [{"value": (x - 4) ** 2}]} for x in range(9)
        ]
    )
    every = [each.id for each in experiment.observations().fetch().data]
    assert len(every) == 9
    assert every == sorted(every, key=int, reverse=True)
    for options in ({}, {"ascending": True, "after": "0"}, {"sort": "value"}):
        page = experiment.observations().fetch(limit=2, **options)
        assert page.count == 9
        ids = [each.id for each in page.iterate_pages()]
        assert sorted(ids) == sorted(every)
    best = experiment.observations().fetch(limit=1, sort="value", ascending=True).data[0]
    assert best.value == 0.0


def test_the_best_assignments(connect: Connect) -> None:
    connection = connect()
    experiment = connection.experiments(connection.experiments().create(**EVERYTHING).id)
    rest = {"rate": 0.1, "n": 1, "size": 2, "kind": "a", "model": "line"}
    for x, y, seconds in ((0.1, 0.9, 1.0), (0.9, 0.1, 1.0), (0.0, 0.0, 1.0), (1.0, 0.0, 9.0)):
        experiment.observations().create(
            assignments={"x": x, "y": y, **rest},
            values=[
                {"name": "score", "value": x},
                {"name": "loss", "value": -y},
                {"name": "seconds", "value": seconds},
            ],
        )

    front = experiment.best_assignments().fetch().data

    assert [each.assignments["x"] for each in front] == [0.9, 0.1]
    assert [each.value for each in front[0].values] == [0.9, -0.1, 1.0]


def test_importances_and_when_to_stop(connect: Connect) -> None:
    connection = connect()
    two = [X, {**X, "name": "y"}]
    experiment = connection.experiments(made(connection, parameters=two, observation_budget=9).id)
    refused(422, experiment.metric_importances().fetch)
    assert not experiment.stopping_criteria().fetch().should_stop
    experiment.observations().create_batch(
        observations=[
            {"assignments": {"x": x / 4, "y": y / 4}, "values": [{"value": float(x)}]}
            for x in reversed(range(4))
            for y in range(4)
        ]
    )

    (importances,) = experiment.metric_importances().fetch().data

    assert importances.importances["x"] > 0.9 > importances.importances["y"]
    assert experiment.stopping_criteria().fetch().reasons == [
        *("possible_stagnation", "observation_budget_reached"),
    ]


@pytest.mark.parametrize(
    ("noted", "expected"),
    [([], ["m"]), ([1.0, 2.0, 3.0], ["m"]), ([7.0] * 6, ["m"]), ([1.0, 1.0, 2.0, 3.0], None)],
)
def test_metrics_with_too_few_values_or_only_equal_ones_have_no_importances(
    connect: Connect, noted: list[float], expected: list[str] | None
) -> None:
    connection = connect()
    metrics = [{"name": "m"}, {"name": "note", "strategy": "store"}]
    two = [X, {**X, "name": "y"}]
    experiment = connection.experiments(made(connection, parameters=two, metrics=metrics).id)
    refused(422, experiment.metric_importances().fetch)
    for number in range(6):
        given = {"m": float(number)} | ({"note": noted[number]} if number < len(noted) else {})
        experiment.observations().create(
            assignments={"x": number / 5, "y": (number % 3) / 2},
            values=[{"name": name, "value": value} for name, value in given.items()],
        )

    found = experiment.metric_importances().fetch().data

    assert [each.metric for each in found] == (expected or ["m", "note"])


def test_random_and_grid_are_ours(connect: Connect) -> None:
    connection = connect(optimizer="OptunaOptimizer")
    grid = made(
        connection,
        type="grid",
        parameters=[
            {"name": "n", "type": "int", "grid": [1, 2]},
            {"name": "k", "type": "categorical", "categorical_values": ["a", "b"]},
        ],
    )
    assert grid.observation_budget == 4
    found = [
        tuple(connection.experiments(grid.id).suggestions().create().assignments.values())
        for _ in range(5)
    ]
    assert len({*found}) == 4
    random = connection.experiments(made(connection, type="random", metadata={"seed": 1}).id)
    live = connection.impl.driver.handler.service.lives
    random.suggestions().create()
    assert type(live._open[2]._run.optimizer).__name__ == "RandomOptimizer"


def test_priors_are_where_the_first_suggestions_are(connect: Connect) -> None:
    connection = connect()
    prior = {"name": "normal", "mean": 0.7, "scale": 0.01}
    experiment = connection.experiments(made(connection, parameters=[{**X, "prior": prior}]).id)

    found = [experiment.suggestions().create().assignments["x"] for _ in range(12)]

    assert all(abs(x - 0.7) < 0.06 for x in found[:4])
    assert any(abs(x - 0.7) > 0.06 for x in found[4:])


def test_the_suggestions_are_those_of_the_optimizer_in_a_loop_of_its_own(connect: Connect) -> None:
    from crystallize_opt import Objective
    from crystallize_opt.adapters import OptunaOptimizer

    connection = connect(optimizer="OptunaOptimizer")
    experiment = connection.experiments(made(connection, metadata={"seed": 3}).id)
    optimizer = OptunaOptimizer({"x": (0.0, 1.0)}, Objective("m", "maximize"), seed=3)
    for _ in range(15):
        suggestion = experiment.suggestions().create()
        (treatment,) = optimizer.ask()
        assert suggestion.assignments.to_json() == treatment.params
        value = -((suggestion.assignments["x"] - 0.3) ** 2)
        experiment.observations().create(suggestion=suggestion.id, value=value)
        optimizer.tell({"m": value})


def test_an_expired_suggestion_is_not_pending_and_its_late_result_is_taken(
    connect: Connect,
) -> None:
    connection = connect(ttl=1e-9)
    experiment = connection.experiments(made(connection).id)
    late = experiment.suggestions().create()
    experiment.suggestions().create()
    optimizer = connection.impl.driver.handler.service.lives._open[1]._run.optimizer
    assert [each.name for each in optimizer.pending] == ["trial_1"]

    experiment.observations().create(suggestion=late.id, value=1.0)
    experiment.suggestions().create()

    assert experiment.fetch().progress.observation_count == 1
    completed = [each for each in optimizer.observations if each.status.value == "completed"]
    assert [each.treatment.name for each in completed] == ["trial_0"]


def test_deleted_experiments_and_suggestions(connect: Connect) -> None:
    connection = connect()
    experiment = connection.experiments(made(connection).id)
    first, second = experiment.suggestions().create(), experiment.suggestions().create()
    experiment.suggestions(first.id).delete()
    assert [each.id for each in experiment.suggestions().fetch().data] == [second.id]
    assert experiment.suggestions().fetch(deleted=True).count == 1
    experiment.delete()

    refused(400, experiment.suggestions().create)
    assert experiment.fetch().state == "deleted"
    assert connection.experiments().fetch().count == 0
    assert connection.experiments().fetch(state="all").count == 1
    experiment.update(state="active")
    experiment.suggestions().create()
