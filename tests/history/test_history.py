"""`History`: the best, tables, notebooks; and warm starts from histories and tables."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crystallize_opt import (
    Categorical,
    Constant,
    Constraint,
    Float,
    History,
    Integer,
    Objective,
    Observation,
    Ordinal,
    SearchSpace,
    SpaceOptimizer,
    Status,
    Treatment,
)
from crystallize_opt.adapters import OptunaOptimizer, RandomOptimizer
from crystallize_opt.errors import InvalidParametersError, UnknownMetricError, UsageError

LOSS, GAIN = Objective("loss", "minimize"), Objective("gain", "maximize")
LAG = Constraint("lag", "<=", 1.0)
SPACE = SearchSpace(
    {
        "x": Float(0.0, 1.0),
        "step": Float(0.0, 1.0, step=0.1),
        "n": Integer(1, 9),
        "kind": Categorical(["x", 1, True, None, (1, 2), 'a,b\n"c"']),
        "size": Ordinal(["s", "m", "l"]),
        "child": Float(0.0, 1.0).when(kind=True),
        "whole": Integer(0, 5).when(kind=1),
        "none": Categorical([None, "x"]).when(kind="x"),
        "always": Constant((1, 2)),
    }
)


def trial(number: int, status: Status = Status.COMPLETED, **metrics: float) -> Observation:
    sem = dict.fromkeys(metrics, 0.125)
    treatment = Treatment(f"old {number}", SPACE.sample(number))
    error = None if status is Status.COMPLETED else 'boom, "quoted"\nand more'
    return Observation(
        treatment, metrics, status, sem, error=error, started_at=1e9 + 0.1, duration=0.1
    )


def several() -> list[Observation]:
    trials = [trial(i, loss=i * 0.1 + 0.1, gain=i % 4 / 3, lag=i % 3 / 2 * 1.5) for i in range(12)]
    return [*trials, *(trial(20 + i, status) for i, status in enumerate(Status) if i)]


def optimizer(space: SearchSpace = SPACE) -> SpaceOptimizer[Any]:
    return RandomOptimizer(space, [LOSS, GAIN], constraints=[LAG], seed=0)


def test_the_best_is_that_of_the_optimizer() -> None:
    found = optimizer()
    found.attach(several())
    history = found.history

    assert history.best is not None
    assert history.best.treatment is found.get_best_treatment()
    assert history.best.treatment.name == "old 1"
    assert History(several(), [LOSS], [LAG]).best.treatment.name == "old 0"  # type: ignore[union-attr]
    assert [id(o) for o in history.pareto_front] == [id(o) for o in found.pareto_front()]
    assert len(history.pareto_front) > 1
    assert (len(history), history[0], history[-1]) == (
        19,
        *[found.observations[i] for i in (0, -1)],
    )
    assert repr(history) == "<History: 19 trials>"


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=30))
def test_the_front_is_what_nothing_dominates(costs: list[tuple[int, int]]) -> None:
    trials = [
        Observation(Treatment(str(i), {}), {"loss": float(a), "gain": -float(b)})
        for i, (a, b) in enumerate(costs)
    ]

    front = History(trials, [LOSS, GAIN]).pareto_front

    better = [
        [
            o
            for o, (c, d) in zip(trials, costs, strict=True)
            if (c, d) != (a, b) and c <= a and d <= b
        ]
        for a, b in costs
    ]
    assert front == [o for o, others in zip(trials, better, strict=True) if not others]


def test_the_best_has_the_highest_fidelity() -> None:
    trials = [
        Observation(Treatment(f"t_{n}", {"n": n}), {"loss": loss, "gain": -loss})
        for n, loss in [(1, 0.1), (9, 0.5), (9, 0.4), (3, 0.2)]
    ]
    space = SearchSpace({"n": Integer(1, 9, fidelity=True)})

    for objectives in ([LOSS], [LOSS, GAIN]):
        history = History(trials, objectives, space=space)
        assert history.best is trials[2]
        assert history.pareto_front == [trials[2]]
        assert history.criterion.fidelity == "n"
        assert History(trials, objectives).best is trials[0]


def test_a_history_without_a_best() -> None:
    assert History([trial(0, Status.FAILED)], [LOSS]).best is None
    assert History([trial(0, loss=1.0, lag=2.0)], [LOSS], [LAG]).best is None
    with pytest.raises(UnknownMetricError, match="no objectives"):
        _ = History([trial(0, loss=1.0)]).best


def test_a_table_has_a_row_per_trial() -> None:
    found = optimizer()
    found.attach(several())

    frame = found.history.to_frame()

    assert list(frame["trial"]) == [o.treatment.name for o in found.observations]
    assert list(frame["params.x"]) == [o.treatment.params["x"] for o in found.observations]
    assert list(frame["metrics.loss"][:12]) == [o["loss"] for o in found.observations[:12]]
    assert list(frame["sem.loss"][:12]) == [0.125] * 12
    assert list(frame["status"]) == [str(o.status) for o in found.observations]
    assert list(frame.columns[-4:]) == ["status", "error", "started_at", "duration"]


def comparable(observation: Observation) -> tuple[Any, ...]:
    o = observation
    times = (o.started_at, o.duration)
    return (repr(o.treatment), dict(o), o.status, dict(o.sem), o.error, *times)


@pytest.mark.parametrize("way", ["history", "observations", "frame", "csv", "path"])
def test_a_warm_start_keeps_everything(way: str, tmp_path: Path) -> None:
    old, new = optimizer(), optimizer()
    old.attach(several())
    old.history.to_frame().to_csv(tmp_path / "old.csv", index=False)
    given_ways: dict[str, Any] = {
        "history": old.history,
        "observations": iter(old.observations),
        "frame": old.history.to_frame(),
        "csv": str(tmp_path / "old.csv"),
        "path": tmp_path / "old.csv",
    }

    assert new.attach(given_ways[way]) == 0

    assert [comparable(o) for o in new.observations] == [comparable(o) for o in old.observations]
    assert new.get_best_treatment().params == old.get_best_treatment().params


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=5, unique=True))
def test_a_table_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, seeds: list[int]
) -> None:
    path = tmp_path_factory.mktemp("table") / "table.csv"
    old, one, other = optimizer(), optimizer(), optimizer()
    old.attach([trial(seed, loss=seed / 7, gain=1e-300, lag=-0.1) for seed in seeds])
    frame = old.history.to_frame()
    frame.to_csv(path, index=False)

    one.attach(frame)
    other.attach(path)

    expected = [comparable(o) for o in old.observations]
    assert [comparable(o) for o in one.observations] == expected
    assert [comparable(o) for o in other.observations] == expected


def test_a_table_made_by_hand() -> None:
    space = SearchSpace({"x": Float(0.0, 1.0), "n": Integer(1, 9), "k": Categorical([1, 2])})
    frame = pd.DataFrame(
        {"x": [0.5, 1, 0.25], "n": [1.0, 2.0, 3.0], "k": [1, 2, 1], "loss": [1, 2, math.nan]}
    )
    found = OptunaOptimizer(space, LOSS, seed=0)

    found.attach(frame)

    assert [o.treatment.name for o in found.observations] == ["row_0", "row_1", "row_2"]
    assert [repr(dict(o.treatment.params)) for o in found.observations] == [
        "{'x': 0.5, 'n': 1, 'k': 1}",
        "{'x': 1.0, 'n': 2, 'k': 2}",
        "{'x': 0.25, 'n': 3, 'k': 1}",
    ]
    assert [str(o.status) for o in found.observations] == ["completed", "completed", "failed"]
    assert found.study.best_value == 1.0


def test_a_column_of_whole_numbers_with_gaps_holds_floats() -> None:
    space = SearchSpace(
        {"a": Categorical(["x", "y"]), "k": Categorical([1, 2, "z"]).when(a="x"), "n": (1, 9)}
    )
    frame = pd.DataFrame(
        {"a": ["x", "y", "x"], "k": [1.0, None, 2.0], "n": [3.0, 4.0, 5.0], "loss": 1}
    )
    assert frame["k"].dtype == float
    found = RandomOptimizer(space, LOSS, seed=0)

    found.attach(frame)

    assert [repr(dict(o.treatment.params)) for o in found.observations] == [
        "{'a': 'x', 'k': 1, 'n': 3}",
        "{'a': 'y', 'n': 4}",
        "{'a': 'x', 'k': 2, 'n': 5}",
    ]
    with pytest.raises(InvalidParametersError, match=r"'row_0': Parameter 'k': 1\.5 is not one of"):
        found.attach(frame.assign(k=[1.5, None, 2.0]))


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"x": [2.0, 0.5]}, InvalidParametersError, "'row_0': Parameter 'x': 2.0 is not in"),
        ({"x": ["a", 0.5]}, InvalidParametersError, "'row_0': Parameter 'x': 'a' is not in"),
        ({"x": [0.5, None]}, InvalidParametersError, "'row_1': Parameter 'x', .* is missing"),
        ({"k": ["b", "c"]}, InvalidParametersError, "'row_1': Parameter 'k': 'c' is not one of"),
        ({"loss": [1, "low"]}, UsageError, "'low' in the table is not a number"),
        ({"status": ["completed", "fine"]}, UsageError, "'fine' is not a status"),
    ],
)
def test_what_is_wrong_in_a_table_is_named(
    change: dict[str, Any], error: type[Exception], said: str, tmp_path: Path
) -> None:
    found = RandomOptimizer({"x": (0.0, 1.0), "k": ["a", "b"]}, LOSS, seed=0)
    frame = pd.DataFrame({"x": [0.5, 0.5], "k": ["a", "b"], "loss": [1, 2], **change})
    frame.to_csv(tmp_path / "table.csv", index=False)

    with pytest.raises(error, match=said):
        found.attach(frame)
    with pytest.raises(error, match=said.replace("2.0", "'2.0'")):
        found.attach(tmp_path / "table.csv")
    assert found.observations == []


def test_choices_that_look_the_same_in_a_file_are_refused(tmp_path: Path) -> None:
    found = RandomOptimizer({"k": ["1", 1]}, LOSS, seed=0)
    frame = pd.DataFrame({"k": pd.Series([1, "1"], dtype=object), "loss": [1, 2]})
    frame.to_csv(tmp_path / "table.csv", index=False)

    with pytest.raises(UsageError, match="'1' and 1 of 'k' look the same"):
        found.attach(tmp_path / "table.csv")
    found.attach(frame)
    assert [repr(o.treatment.params["k"]) for o in found.observations] == ["1", "'1'"]


def test_a_missing_column_is_named() -> None:
    found = RandomOptimizer({"x": (0.0, 1.0)}, LOSS, seed=0)
    with pytest.raises(UsageError, match=r"no column 'params\.x' or 'x'.*'y', 'loss'"):
        found.attach(pd.DataFrame({"y": [1], "loss": [1]}))
    with pytest.raises(UsageError, match=r"no column 'metrics\.loss' or 'loss'"):
        found.attach(pd.DataFrame({"x": [1]}))


def test_what_is_outside_can_be_left_out() -> None:
    found = OptunaOptimizer({"x": (0.0, 1.0)}, LOSS, seed=0)
    trials = [
        Observation(Treatment(f"{x}", {"x": x}), {"loss": x}) for x in (0.5, 2.0, 1.0, -1.0, 0.0)
    ]

    assert found.attach(trials, skip_outside=True) == 2
    assert [o.treatment.name for o in found.observations] == ["0.5", "1.0", "0.0"]
    assert len(found.study.trials) == 3


def test_a_history_shows_itself() -> None:
    found = RandomOptimizer({"x<": (0.0, 1.0)}, LOSS, seed=0)
    for number in range(20):
        found.ask()
        found.tell({"loss": abs(number - 3) + 0.5})
    found.ask()

    shown = found.history._repr_html_()

    assert "History: 20 trials, 1 pending" in shown
    assert shown.count("<tr>") == 1 + 1 + 10
    assert "best trial_3 completed 0.5" in " ".join(re.sub("<[^>]*>", " ", shown).split())
    assert "x&lt;" in shown
    assert History([], [LOSS])._repr_html_()


def test_a_history_needs_no_pandas() -> None:
    code = (
        "import sys\n"
        "from crystallize_opt import Objective, Observation, Treatment\n"
        "from crystallize_opt.history.history import History\n"
        "h = History([Observation(Treatment('a', {'x': 1}), {'loss': 1.0})], "
        "[Objective('loss', 'minimize')])\n"
        "h.best, h.pareto_front, h._repr_html_()\n"
        "print('pandas' in sys.modules, 'numpy' in sys.modules, 'sqlite3' in sys.modules)\n"
    )
    ran = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert ran.stdout.split() == ["False", "False", "False"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, "0.5"])
def test_what_is_not_a_finite_number_is_never_completed(value: Any) -> None:
    trials = [Observation(Treatment("a"), {"loss": value}), Observation(Treatment("b"), {})]
    trials.append(Observation(Treatment("c"), {"loss": 1.0}))
    history = History(trials, [Objective("loss", "minimize")])
    assert [o.status for o in history] == [Status.INVALID, Status.INVALID, Status.COMPLETED]
    assert history.best is trials[2]


@pytest.mark.parametrize("wrong", [[{"loss": 1.0}], {"loss": 1.0}, [Treatment("a")], None, 5])
def test_what_is_no_observation_is_refused(wrong: Any) -> None:
    loss = Objective("loss", "minimize")
    with pytest.raises(UsageError, match=r"Observation\(treatment, metrics\), not"):
        History(wrong, [loss])
    optimizer = RandomOptimizer({"x": (0.0, 1.0)}, loss, seed=0)
    for each in (wrong, optimizer):
        with pytest.raises(UsageError, match=r"Those of another optimizer are optimizer\.history"):
            optimizer.attach(each)


def test_one_observation_and_one_objective_need_no_list() -> None:
    observation = Observation(Treatment("a", {"x": 1.0}), {"loss": 1.0})
    history = History([observation], Objective("loss", "minimize"))
    assert history.best is observation
    assert "a" in history  # type: ignore[comparison-overlap]
    assert "b" not in history  # type: ignore[comparison-overlap]
    assert observation in history
