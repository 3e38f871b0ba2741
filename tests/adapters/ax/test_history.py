"""`history_from_ax`: nothing of a client is lost, or a note says what is."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
from ax.api.client import Client
from ax.api.configs import ChoiceParameterConfig, DerivedParameterConfig, RangeParameterConfig
from ax.core.arm import Arm
from ax.service.ax_client import AxClient
from ax.service.utils.instantiation import ObjectiveProperties
from hypothesis import given, settings
from hypothesis import strategies as st

from crystallize_opt import (
    Categorical,
    Constraint,
    Float,
    History,
    Integer,
    LinearConstraint,
    Objective,
    Observation,
    SearchSpace,
    Status,
    Treatment,
)
from crystallize_opt.adapters import AxOptimizer
from crystallize_opt.errors import StorageError, UsageError
from crystallize_opt.interchange import history_from_ax
from crystallize_opt.space.parameter import same_value
from tests.adapters.parity import exactly
from tests.strategies import spaces

LOSS = Objective("loss", "minimize")
# Ax warns of its own deprecated calls.
pytestmark = pytest.mark.filterwarnings("ignore")


def floats(*names: str) -> list[Any]:
    return [
        RangeParameterConfig(name=name, bounds=(0.0, 1.0), parameter_type="float") for name in names
    ]


def client_of(
    parameters: list[Any],
    objective: str = "-loss",
    outcome_constraints: tuple[str, ...] = (),
    **more: Any,
) -> Any:
    client = Client(random_seed=0)
    client.configure_experiment(parameters, **more)
    client.configure_optimization(objective, list(outcome_constraints))
    return client


def complete(client: Any, params: dict[str, Any], **metrics: Any) -> int:
    index: int = client.attach_trial(params)
    client.complete_trial(index, metrics)
    return index


def test_the_space_has_its_constraints_and_conditions() -> None:
    kernel = ChoiceParameterConfig(
        name="kernel",
        values=["rbf", "linear"],
        parameter_type="str",
        is_ordered=False,
        dependent_parameters={"rbf": ["gamma"]},
    )
    derived = DerivedParameterConfig(name="z", expression_str="1 - x", parameter_type="float")
    parameters = [*floats("x", "y", "gamma"), kernel, derived]
    client = client_of(parameters, parameter_constraints=["x + y <= 1.5", "x >= y"])
    complete(client, {"x": 0.5, "y": 0.25, "kernel": "linear", "z": 0.5}, loss=1.0)

    history = history_from_ax(client)

    assert history.space == SearchSpace(
        {
            "x": Float(0.0, 1.0),
            "y": Float(0.0, 1.0),
            "kernel": Categorical(["rbf", "linear"]),
            "gamma": Float(0.0, 1.0).when(kernel="rbf"),
        },
        [LinearConstraint({"x": 1.0, "y": 1.0}, 1.5), LinearConstraint({"x": -1.0, "y": 1.0}, 0.0)],
    )
    assert history[0].treatment.params == {"x": 0.5, "y": 0.25, "kernel": "linear"}
    assert [note for note in history.notes if "DerivedParameter(name='z'" in note]


def test_a_sum_is_a_metric_of_its_name() -> None:
    client = client_of(floats("x"), "2*acc - lat", ("mem + 0.5*disk <= 1",))
    complete(client, {"x": 0.1}, acc=1.0, lat=0.5, mem=0.75, disk=1.0)
    complete(client, {"x": 0.2}, acc=0.5, lat=0.25, mem=0.5, disk=1.0)

    history = history_from_ax(client)

    assert history.objectives == (Objective("2.0*acc + -1.0*lat", "maximize"),)
    assert [o["2.0*acc + -1.0*lat"] for o in history] == [1.5, 0.75]
    assert history.constraints == (Constraint("mem + 0.5*disk", "<=", 1.0),)
    assert [o["mem + 0.5*disk"] for o in history] == [1.25, 1.0]
    assert history.best is history[1]
    assert history[0]["disk"] == 1.0


@pytest.mark.parametrize("base", [2.0, -2.0])
def test_a_relative_constraint_compares_with_the_baseline(base: float) -> None:
    client = client_of(floats("x"), outcome_constraints=("lag <= 0.5*baseline",))
    client.complete_trial(client.attach_baseline({"x": 0.5}), {"loss": 1.0, "lag": base})
    complete(client, {"x": 0.1}, loss=0.0, lag=base)
    complete(client, {"x": 0.2}, loss=0.5, lag=base - 1.5)

    history = history_from_ax(client)

    (constraint,) = history.constraints
    assert constraint.bound == -50.0
    assert [o[constraint.metric] for o in history] == [0.0, 0.0, -75.0]
    assert history.best is history[2]
    assert any("lag <= 0.5*baseline" in note for note in history.notes)


def test_a_relative_constraint_without_a_measured_baseline_is_noted() -> None:
    client = client_of(floats("x"), outcome_constraints=("lag <= 0.5*baseline",))
    complete(client, {"x": 0.1}, loss=0.0, lag=1.0)

    history = history_from_ax(client)

    assert history.constraints == ()
    assert any("the baseline has no value of 'lag'" in note for note in history.notes)


def test_thresholds_of_objectives_are_constraints() -> None:
    client = client_of(floats("x"), "acc, -loss", ("acc >= 0.5", "loss <= 0.9", "lag <= 1"))
    for x in (0.25, 0.75, 0.95):
        complete(client, {"x": x}, acc=x, loss=x, lag=x)

    history = history_from_ax(client)

    assert [each.text for each in history.constraints] == [
        "lag <= 1.0",
        "acc >= 0.5",
        "loss <= 0.9",
    ]
    assert [o["acc"] for o in history.pareto_front] == [0.75]


def test_what_is_not_a_number_never_completes() -> None:
    client = client_of(floats("x"), outcome_constraints=("lag <= 1",))
    complete(client, {"x": 0.1}, loss=math.nan, lag=0.0)
    complete(client, {"x": 0.2}, loss=0.0)
    complete(client, {"x": 0.3}, loss=1.0, lag=0.5)

    history = history_from_ax(client)

    assert [o.status for o in history] == [Status.INVALID, Status.INVALID, Status.COMPLETED]
    assert history.best is history[2]


def test_a_learning_curve_is_kept_and_its_end_is_the_value() -> None:
    client = client_of(floats("x"))
    index = client.attach_trial({"x": 0.5})
    for step in (3, 1, 2):
        client.attach_data(index, {"loss": float(step)}, progression=step)
    client.complete_trial(index)

    history = history_from_ax(client)

    assert history[0].metrics == {"loss": 3.0}
    (replicate,) = history[0].replicates
    assert replicate.curves == {"loss": ((1, 1.0), (2, 2.0), (3, 3.0))}
    assert history.notes == []


def test_each_arm_of_a_batch_is_a_trial(tmp_path: Path) -> None:
    client = client_of(floats("x"))
    complete(client, {"x": 0.9}, loss=3.0)
    experiment = client._experiment
    batch = experiment.new_batch_trial()
    for x in (0.1, 0.2, 0.3):
        batch.add_arm(Arm({"x": x}))
    batch.mark_running(no_runner_required=True)
    values = {f"1_{number}": {"loss": (2.0 - number, 0.0)} for number in range(2)}
    batch.attach_batch_trial_data(values)
    batch.mark_arm_abandoned("1_2", reason="broken")
    batch.mark_completed()
    experiment.new_trial()
    running = client.attach_trial({"x": 0.5})
    client.attach_data(running, {"loss": 0.125})
    client.save_to_json_file(str(tmp_path / "ax.json"))

    history = history_from_ax(client)

    assert [(o.treatment.name, str(o.status), o.treatment.params["x"]) for o in history] == [
        ("ax_0", "completed", 0.9),
        ("ax_1_0", "completed", 0.1),
        ("ax_1_1", "completed", 0.2),
        ("ax_1_2", "abandoned", 0.3),
    ]
    assert [o.metrics.get("loss") for o in history] == [3.0, 2.0, 1.0, None]
    assert history[3].error == "broken"
    assert [dict(t.params) for t in history.pending] == [{"x": 0.5}]
    notes = " ".join(history.notes)
    assert "Trial 2 has no parameters yet" in notes
    assert "values so far of the pending trial 'ax_3'" in notes
    again = history_from_ax(tmp_path / "ax.json")
    assert [dict(o) for o in again] == [dict(o) for o in history]


def test_the_experiment_of_a_client_and_an_older_client_are_read_alike() -> None:
    client = client_of(floats("x"))
    complete(client, {"x": 0.9}, loss=3.0)
    older = AxClient(random_seed=0, verbose_logging=False)
    older.create_experiment(
        parameters=[{"name": "x", "type": "range", "bounds": [0.0, 1.0]}],
        objectives={"loss": ObjectiveProperties(minimize=True)},
    )
    _, index = older.attach_trial({"x": 0.9})
    older.complete_trial(index, {"loss": 3.0})

    expected = history_from_ax(client)
    for other in (client._experiment, older):
        history = history_from_ax(other)
        assert (history.space, history.objectives) == (expected.space, expected.objectives)
        assert [dict(each) for each in history] == [{"loss": 3.0}]
    with pytest.raises(UsageError, match="takes an Ax client, an experiment"):
        history_from_ax({"x": 0.9})


def test_other_files_and_unfinished_clients(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("{}")
    for name in ("other.json", "missing.json"):
        with pytest.raises(StorageError, match="does not hold an Ax client"):
            history_from_ax(tmp_path / name)
    assert [each.name for each in tmp_path.iterdir()] == ["other.json"]
    client = Client(random_seed=0)
    client.configure_experiment(floats("x"))
    history = history_from_ax(client)
    assert (len(history), history.objectives) == (0, ())
    assert "configure_optimization" in history.notes[0]


@settings(max_examples=12, deadline=None)
@given(spaces(objects=False), st.integers(0, 99), st.booleans())
def test_the_client_of_an_optimizer_is_the_history_of_it(
    space: SearchSpace, seed: int, several: bool
) -> None:
    objectives = [LOSS, Objective("acc", "maximize")][: 1 + several]
    constraints = [Constraint("lag", "<=", 0.5), Constraint("loss", "<=", 0.9)]
    optimizer = AxOptimizer(space, objectives, constraints=constraints, seed=0)
    rng = random.Random(seed)
    told = [
        Observation(
            Treatment(f"t_{number}", space.sample(rng)),
            {name: rng.random() for name in ("loss", "acc", "lag")},
            rng.choice([Status.COMPLETED, *Status]),
        ).checked(optimizer.required_metrics)
        for number in range(4)
    ]
    optimizer.attach(told)

    read: History = history_from_ax(optimizer.client)

    assert read.space == space
    assert (read.objectives, read.constraints) == (optimizer.objectives, optimizer.constraints)
    for one, other in zip(read, told, strict=True):
        assert list(one.treatment.params) == list(other.treatment.params)
        for name, value in one.treatment.params.items():
            # Ax has some ranges as a position, from which an attached float comes back rounded.
            expected, parameter = other.treatment.params[name], space[name]
            if isinstance(parameter, Float):
                width = parameter.high - parameter.low
                assert value == pytest.approx(expected, rel=1e-9, abs=1e-9 * width)
            else:
                assert same_value(value, expected)
    assert [o.status for o in read] == [o.status for o in told]
    kept = read.criterion.metrics
    assert [o.metrics for o in read if o.status.has_value] == [
        {name: o[name] for name in dict.fromkeys(kept)} for o in told if o.status.has_value
    ]
    fronts = [{id(o) for o in each} for each in (read.pareto_front, optimizer.pareto_front())]
    assert [id(o) in fronts[0] for o in read] == [id(o) in fronts[1] for o in optimizer.history]


def test_what_the_optimizer_discarded_is_no_trial() -> None:
    space = SearchSpace({"a": Float(1.0, 2.0, log=True), "b": (1.0, 2.0)}, ["a + b <= 2.5"])
    optimizer = AxOptimizer(space, LOSS, seed=0)  # Ax takes no constraint on a log scale.
    for treatment in optimizer.ask(4):
        optimizer.tell(Observation(treatment, {"loss": treatment.params["a"]}))
    assert len(optimizer.client._experiment.trials) > 4

    history = history_from_ax(optimizer.client)

    # A random point that took the place of discarded ones has a later number in Ax than the rest of
    # its batch.
    assert sorted(exactly(o.treatment.params for o in history)) == sorted(
        exactly(o.treatment.params for o in optimizer.history)
    )
    assert history.notes == ["Suggestions that AxOptimizer discarded are left out."]


def test_positions_in_a_narrow_region_are_read_as_points() -> None:
    space = SearchSpace(
        {"a": (0.0, 1.0), "b": (0.0, 1.0), "n": Integer(0, 5)}, constraints=["a + b == 1"]
    )
    optimizer = AxOptimizer(space, Objective("loss", "minimize"), seed=0)
    assert optimizer.searched is not optimizer.space
    for treatment in optimizer.ask(3):
        optimizer.tell(Observation(treatment, {"loss": treatment.params["a"]}))

    history = history_from_ax(optimizer.client)
    assert history.space == space
    assert [o.params for o in history] == [o.params for o in optimizer.observations]
