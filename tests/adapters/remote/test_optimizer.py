"""An optimizer in another process makes the suggestions, and has the record, that it has here."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crystallize_opt import (
    Categorical,
    Constant,
    Constraint,
    Experiment,
    Float,
    History,
    Integer,
    Objective,
    Observation,
    Ordinal,
    Search,
    SearchSpace,
    SpaceOptimizer,
    Status,
    Treatment,
)
from crystallize_opt.adapters import (
    GridOptimizer,
    OptunaOptimizer,
    RandomOptimizer,
    RemoteOptimizer,
    SMACOptimizer,
)
from crystallize_opt.errors import (
    ReplayDiverged,
    RunChanged,
    SpaceExhausted,
    UnsupportedSpaceError,
    UsageError,
)
from tests.adapters.remote import makers
from tests.strategies import spaces

LOSS = Objective("loss", "minimize")
LOSS_OF_FUNCTION = Objective("square", "minimize")
Make = Callable[..., SpaceOptimizer[Any]]


class Thing:
    """A choice that only this process knows; equal to nothing else."""


def outcome(treatment: Treatment, number: int) -> Observation:
    """Return the outcome of a trial; some fail, some are late, some have no finite value."""
    status = (Status.COMPLETED, Status.COMPLETED, *Status)[number % (len(Status) + 2)]
    value = math.fsum(hash(str(each)) % 97 for each in range(number))
    metrics = {"loss": value, "other": 3.0 - number, "note": math.nan}
    return Observation(treatment, metrics, status, error="boom")


def talk(optimizer: SpaceOptimizer[Any], trials: int) -> list[dict[str, Any]]:
    """Ask and tell, with pending trials, batches, enqueued, attached and abandoned ones."""
    space = optimizer.space
    points = []
    for number in range(trials):
        if number == 3:
            optimizer.enqueue(space.sample(number))
        if number == 5:
            treatment = Treatment("attached", space.sample(number))
            optimizer.attach(Observation(treatment, {"loss": 0.5, "other": 1.0}))
        try:
            asked = optimizer.ask(1 + number % 2)
        except SpaceExhausted:
            break
        points += [dict(each.params) for each in asked]
        if number == 6:
            optimizer.abandon(asked[0])
            optimizer.tell(outcome(asked[0], 0))
        while len(optimizer.pending) > 2:
            optimizer.tell(outcome(optimizer.pending[number % 3], number))
    return points


def same_record(one: SpaceOptimizer[Any], other: SpaceOptimizer[Any]) -> bool:
    """Whether two optimizers have the same events, settings, capabilities and versions."""
    return (
        repr(one.events) == repr(other.events)
        and one.settings == other.settings
        and one.capabilities == other.capabilities
        and one.versions == other.versions
        and one.libraries == other.libraries
    )


# Optuna warns of an enqueued value of a grid whose step is no short binary number.
@pytest.mark.filterwarnings("ignore:Fixed parameter")
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(spaces(), st.integers(0, 99), st.sampled_from([RandomOptimizer, OptunaOptimizer]))
def test_suggestions_and_record_are_those_of_the_optimizer_itself(
    space: SearchSpace, seed: int, kind: Any
) -> None:
    here, there = kind(space, LOSS, seed=seed), RemoteOptimizer(kind, space, LOSS, seed=seed)

    assert talk(here, 12) == talk(there, 12)
    assert same_record(here, there)
    assert there.history.best is None or there.history.best.params == here.history.best.params


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Fixed parameter")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    spaces(),
    st.integers(0, 2**32 - 1),
    st.sampled_from([RandomOptimizer, OptunaOptimizer, SMACOptimizer]),
)
def test_suggestions_are_the_same_in_many_spaces(space: SearchSpace, seed: int, kind: Any) -> None:
    def build(make: Any) -> SpaceOptimizer[Any] | str:
        try:
            optimizer: SpaceOptimizer[Any] = make(space, LOSS, seed=seed)
        except UnsupportedSpaceError as error:
            return str(error)
        return optimizer

    here, there = build(kind), build(partial(RemoteOptimizer, kind))

    if isinstance(here, str) or isinstance(there, str):
        assert here == there
    else:
        assert talk(here, 20) == talk(there, 20)
        assert same_record(here, there)


def test_objects_stay_here_and_keep_their_identity() -> None:
    first, second = Thing(), Thing()
    space = {
        "thing": Categorical([first, second, (1, first), None, 1, True, 1.0]),
        "size": Ordinal([second, "large"], default="large"),
        "x": Float(0.0, 1.0).when(thing={first, None}),
        "fixed": Constant(first).when(size=second),
    }
    optimizers: list[SpaceOptimizer[Any]] = [
        OptunaOptimizer(space, LOSS, seed=0),
        RemoteOptimizer(OptunaOptimizer, space, LOSS, seed=0),
    ]
    asked = []
    for optimizer in optimizers:
        optimizer.enqueue({"thing": (1, first)}, {"size": second})
        points = [treatment.params for treatment in optimizer.ask(30)]
        asked.append(
            [[(name, id(value)) for name, value in p.items() if name != "x"] for p in points]
        )
        assert any(point["thing"] is first for point in points)
        assert any(point.get("fixed") is first for point in points)

    assert asked[0] == asked[1]


def test_several_objectives_constraints_and_the_baseline() -> None:
    latency = Constraint("latency", "<=", 5, relative_to_baseline=True)
    goals = [LOSS, Objective("size", "maximize")]
    fronts = []
    makes: list[Make] = [OptunaOptimizer, partial(RemoteOptimizer, OptunaOptimizer)]
    for make in makes:
        optimizer = make({"x": (0.0, 1.0)}, goals, constraints=[latency], seed=1)
        with pytest.raises(UsageError, match="relative to a baseline"):
            optimizer.ask()
        optimizer.set_baseline({"loss": 1.0, "size": 1.0, "latency": 10.0})
        for _ in range(20):
            (treatment,) = optimizer.ask()
            x = treatment.params["x"]
            optimizer.tell({"loss": x, "size": x**2, "latency": 10 + x})
        fronts.append([dict(each.params) for each in optimizer.pareto_front])
    assert fronts[0] == fronts[1]
    assert all(point["x"] <= 0.5 for point in fronts[0])


@pytest.mark.parametrize("reports", ["curve", "replicates"])
def test_a_pruner_answers_as_it_does_here(reports: str) -> None:
    space = {"x": (0.0, 1.0)}
    optimizers: list[SpaceOptimizer[Any]] = [
        makers.Pruning(space, LOSS, seed=0),
        RemoteOptimizer(makers.Pruning, space, LOSS, seed=0),
    ]
    answers: list[list[bool]] = [[], []]
    for said, optimizer in zip(answers, optimizers, strict=True):
        for number in range(8):
            (treatment,) = optimizer.ask()
            for step in range(4):
                value = (7 * number + step) % 5 + treatment.params["x"]
                if reports == "curve":
                    said.append(optimizer.report(treatment, step, value))
                else:
                    said.append(optimizer.report_replicate(treatment, step, {"loss": value}))
            status = Status.PRUNED if said[-1] else Status.COMPLETED
            optimizer.tell(Observation(treatment, {"loss": float(number)}, status))
    assert answers[0] == answers[1]
    assert True in answers[0]
    assert same_record(*optimizers)


@pytest.mark.slow
def test_a_race_asks_for_replicates_as_it_does_here() -> None:
    space = {"x": Float(0.0, 1.0), "y": Integer(1, 5)}
    options: dict[str, Any] = {
        "race": True,
        "n_init": 3,
        "facade_options": {
            "acquisition_maximizer": {"challengers": 20, "local_search_iterations": 1}
        },
    }
    optimizers: list[SpaceOptimizer[Any]] = [
        SMACOptimizer(space, LOSS, seed=0, **options),
        RemoteOptimizer(SMACOptimizer, space, LOSS, seed=0, **options),
    ]
    names = []
    for optimizer in optimizers:
        assert optimizer.races
        optimizer.race_up_to(3)
        said = []
        for number in range(12):
            (treatment,) = optimizer.ask()
            said.append((treatment.name, dict(treatment.params), treatment.replicate))  # type: ignore[attr-defined]
            optimizer.tell(Observation(treatment, {"loss": treatment.params["x"] + number % 2}))
        names.append((said, [each.treatment.name for each in optimizer.observations]))
    assert names[0] == names[1]
    assert any(replicate > 0 for _, _, replicate in names[0][0])


# Stored runs ----------------------------------------------------------------------------------


def square(x: float) -> float:
    return (x - 0.3) ** 2


def experiment() -> Experiment:
    return Experiment.of(square)


def run(path: Path, optimizer: SpaceOptimizer[Any], trials: int) -> list[dict[str, Any]]:
    search = Search(experiment(), optimizer, trials, storage=path)
    search.run()
    return [dict(each.params) for each in search.history]


@pytest.mark.parametrize("first", ["here", "there"])
def test_a_run_goes_on_here_or_there(tmp_path: Path, first: str) -> None:
    space = {"x": (0.0, 1.0)}

    def make(where: str) -> SpaceOptimizer[Any]:
        if where == "here":
            return OptunaOptimizer(space, LOSS_OF_FUNCTION, seed=3)
        return RemoteOptimizer(OptunaOptimizer, space, LOSS_OF_FUNCTION, seed=3)

    whole = run(tmp_path / "whole.db", make("here"), 24)
    run(tmp_path / "parts.db", make(first), 13)
    parts = run(tmp_path / "parts.db", make("there" if first == "here" else "here"), 24)

    assert parts == whole
    assert History.load(tmp_path / "parts.db").about["optimizer"] == "OptunaOptimizer"


def test_a_run_of_another_class_is_not_continued(tmp_path: Path) -> None:
    space = {"x": (0.0, 1.0)}
    run(tmp_path / "runs.db", RemoteOptimizer(RandomOptimizer, space, LOSS_OF_FUNCTION, seed=3), 3)

    with pytest.raises(RunChanged, match="OptunaOptimizer"):
        run(
            tmp_path / "runs.db",
            RemoteOptimizer(OptunaOptimizer, space, LOSS_OF_FUNCTION, seed=3),
            6,
        )


def test_a_drawn_seed_is_that_of_the_stored_run(tmp_path: Path) -> None:
    space = {"x": (0.0, 1.0)}

    def make() -> RemoteOptimizer:
        return RemoteOptimizer(OptunaOptimizer, space, LOSS_OF_FUNCTION)

    first, second = make(), make()
    run(tmp_path / "runs.db", first, 3)
    run(tmp_path / "runs.db", second, 6)

    assert second.seed == first.seed


# What is refused ------------------------------------------------------------------------------


def test_what_the_optimizer_refuses_is_refused_with_its_words() -> None:
    with pytest.raises(UsageError) as here:
        GridOptimizer({"x": (0.0, 1.0)}, LOSS, levels=1)
    with pytest.raises(UsageError) as there:
        RemoteOptimizer(GridOptimizer, {"x": (0.0, 1.0)}, LOSS, levels=1)
    assert str(there.value) == str(here.value)


def local_class() -> type[RandomOptimizer]:
    class Local(RandomOptimizer):
        pass

    return Local


@pytest.mark.parametrize(
    ("what", "options", "message"),
    [
        (RandomOptimizer, {"python": "/no/such/python"}, "'/no/such/python'"),
        (RandomOptimizer, {"timeout": 0}, "timeout="),
        (RandomOptimizer, {"timeout": True}, "timeout="),
        (local_class(), {}, "put it into a module"),
        (lambda *_: None, {}, "put it into a module"),
        ("RandomOptimizer", {}, "module:name"),
        (3, {}, "3 is neither a class nor a function"),
        (OptunaOptimizer, {"sampler": Thing()}, "sampler="),
        (makers.make_other_seed, {}, "must pass on the space and the seed"),
    ],
)
def test_arguments_are_checked(what: Any, options: Any, message: str) -> None:
    with pytest.raises(UsageError) as error:
        RemoteOptimizer(what, {"x": (0.0, 1.0)}, LOSS, **options)
    assert message in str(error.value)


def test_a_replay_that_diverges_names_the_trial() -> None:
    recorded = RandomOptimizer({"x": (0.0, 1.0)}, LOSS, seed=0)
    recorded.ask()

    with pytest.raises(ReplayDiverged, match="trial_0"):
        RemoteOptimizer(RandomOptimizer, {"x": (0.0, 1.0)}, LOSS, seed=1).replay(recorded.events)


def test_settings_are_plain_data() -> None:
    optimizer = RemoteOptimizer(makers.make_tpe, {"x": (0.0, 1.0)}, LOSS, seed=0)

    assert json.loads(json.dumps(optimizer.settings)) == optimizer.settings
    assert optimizer.settings == makers.make_tpe({"x": (0.0, 1.0)}, LOSS, seed=0).settings
