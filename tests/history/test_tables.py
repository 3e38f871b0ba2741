"""Tables: what is written is what is read, and what could be two things is refused."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crystallize_opt import (
    Categorical,
    Constraint,
    Float,
    History,
    Integer,
    Objective,
    Observation,
    Replicate,
    SearchSpace,
    Status,
    Treatment,
)
from crystallize_opt.adapters import RandomOptimizer
from crystallize_opt.errors import UnknownMetricError, UsageError

LOSS = Objective("loss", "minimize")
ALIKE: list[Any] = [
    None,
    math.nan,
    "",
    "\r",
    "nan",
    "None",
    "1",
    1,
    True,
    "True",
    1.0,
    "1.0",
    "NaN",
    "json:1",
]
ALIKE += [
    "=1+1",
    "'=1+1",
    "''=1+1",
    "+x",
    "-x",
    "@x",
    "\t",
    'json:"="',
    "json:",
    (1, "=x"),
    -1,
    " ",
]


def of_choices(choices: list[Any], depend: bool = False) -> tuple[SearchSpace, History]:
    parameter = Categorical(choices)
    space = SearchSpace(
        {"on": Categorical([1, 0]), "c": parameter.when(on=1) if depend else parameter}
    )
    points = [{"on": 1, "c": choice} for choice in choices]
    if depend:
        points.append({"on": 0})
    trials = [
        Observation(Treatment(f"t {i}", point), {"loss": float(i)})
        for i, point in enumerate(points)
    ]
    return space, History(trials, [LOSS], space=space)


def params_of(table: Any, space: SearchSpace) -> list[str]:
    optimizer = RandomOptimizer(space, LOSS, seed=0)
    optimizer.attach(table)
    return [repr(dict(each.treatment.params)) for each in optimizer.observations]


@settings(deadline=None, max_examples=60)
@example([13, 7], False)  # "json:1" and 1
@example([13, 7, 6], True)  # and "1"
@given(st.lists(st.sampled_from(range(len(ALIKE))), min_size=1, unique=True), st.booleans())
def test_choices_that_look_alike_stay_distinct(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int], depend: bool
) -> None:
    path = tmp_path_factory.mktemp("table") / "trials.csv"
    space, history = of_choices([ALIKE[number] for number in numbers], depend)
    expected = [repr(dict(each.treatment.params)) for each in history]

    history.to_csv(path)
    assert params_of(path, space) == expected
    frame = history.to_frame()
    assert params_of(frame, space) == expected
    # What pandas writes may be ambiguous, or broken by a bare "\r"; then it is refused.
    frame.to_csv(path, index=False)
    with contextlib.suppress(UsageError):
        assert params_of(path, space) == expected


def test_none_and_nan_in_a_column_of_floats_are_refused() -> None:
    space, history = of_choices([None, math.nan, 0.5])
    frame = history.to_frame()
    frame["params.c"] = frame["params.c"].astype(float)
    with pytest.raises(UsageError, match="the choices None and nan of 'c' look the same"):
        params_of(frame, space)
    only, _ = of_choices([None, 0.5])
    assert params_of(frame, only)[0] == "{'on': 1, 'c': None}"


def test_no_text_is_a_formula(tmp_path: Path) -> None:
    texts = ["=HYPERLINK(1)", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "'=1", "a=b", "'", "''"]
    trials = [
        Observation(Treatment(text, {"c": text, "x": -0.5}), {"loss": -1.0}, error=text)
        for text in texts
    ]
    space = SearchSpace({"c": Categorical(texts), "x": Float(-1.0, 1.0)})
    History(trials, [LOSS], space=space).to_csv(tmp_path / "trials.csv")

    with (tmp_path / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        assert (row["params.x"], row["metrics.loss"]) == ("-0.5", "-1.0")
        for column in ("trial", "params.c", "error"):
            assert not row[column].startswith(("=", "+", "-", "@", "\t", "\r"))
    optimizer = RandomOptimizer(space, LOSS, seed=0)
    optimizer.attach(tmp_path / "trials.csv")
    read = [(o.treatment.name, o.treatment.params["c"], o.error) for o in optimizer.observations]
    assert read == [(text, text, text) for text in texts]


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=5))
@settings(deadline=None, max_examples=30)
def test_large_whole_numbers_survive(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int]
) -> None:
    path = tmp_path_factory.mktemp("table") / "trials.csv"
    space = SearchSpace({"on": Categorical([1, 0]), "n": Integer(0, 2**63 - 1).when(on=1)})
    points: list[dict[str, int]] = [{"on": 1, "n": number} for number in numbers]
    points.append({"on": 0})
    trials = [Observation(Treatment(f"t {i}", p), {"loss": 0.5}) for i, p in enumerate(points)]
    history = History(trials, [LOSS], space=space)
    expected = [repr(point) for point in points]

    history.to_csv(path)
    assert params_of(path, space) == expected
    assert params_of(history.to_frame(), space) == expected
    history.to_frame().to_csv(path, index=False)
    assert params_of(path, space) == expected


def test_whole_numbers_that_were_rounded_are_refused() -> None:
    space = SearchSpace({"n": Integer(0, 2**60)})
    frame = pd.DataFrame({"n": [2.0**53 + 2, 1.0], "loss": 1.0})
    with pytest.raises(UsageError, match="holds floats, which do not hold every whole number"):
        params_of(frame, space)
    assert params_of(frame.assign(n=[2.0**53, 1.0]), space)[1] == "{'n': 1}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x,loss\n0.1,0.2,\n", "line 2: 3 fields, but the header has 2: 'x', 'loss'"),
        ("x,loss\n0.1,0.2\n0.3\n", "line 3: 1 fields"),
        ("x,x,loss\n0.1,0.2,0.3\n", "two columns 'x'"),
        ('x,loss\n0.1,"0.2\n', "is no CSV file, line 2"),
        ('x,loss\n"0.1"5,0.2\n', "is no CSV file, line 2"),
    ],
)
def test_a_crooked_file_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "trials.csv").write_text(content)
    optimizer = RandomOptimizer({"x": (0.0, 1.0)}, LOSS, seed=0)
    with pytest.raises(UsageError, match=message):
        optimizer.attach(tmp_path / "trials.csv")
    assert optimizer.observations == []


def test_what_spreadsheets_and_pandas_write_is_read(tmp_path: Path) -> None:
    """A mark at the beginning, blank lines, a column without a name."""
    (tmp_path / "trials.csv").write_bytes(b"\xef\xbb\xbf,x,loss,\r\n0,0.25,0.5,\r\n\r\n1,1,2,\r\n")
    optimizer = RandomOptimizer({"x": (0.0, 1.0)}, LOSS, seed=0)
    optimizer.attach(tmp_path / "trials.csv")
    assert [o["loss"] for o in optimizer.observations] == [0.5, 2.0]


def test_two_columns_of_one_name_are_refused() -> None:
    frame = pd.DataFrame([[0.1, 0.2, 0.3]], columns=["x", "x", "loss"])
    with pytest.raises(UsageError, match="two columns 'x'"):
        params_of(frame, SearchSpace({"x": Float(0.0, 1.0)}))


@pytest.mark.parametrize("url", ["https://example.org/t.csv", "s3://b/t.csv", "file:///t.csv"])
def test_a_url_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="is a URL"):
        RandomOptimizer({"x": (0.0, 1.0)}, LOSS, seed=0).attach(url)


def test_nan_is_never_a_completed_value(tmp_path: Path) -> None:
    space = SearchSpace({"x": Float(0.0, 1.0)})
    frame = pd.DataFrame({"x": 0.5, "loss": [math.inf, 1.0], "status": "completed"})
    frame.to_csv(tmp_path / "pandas.csv", index=False)
    (tmp_path / "ours.csv").write_text("x,loss,status\n0.5,nan,completed\n0.5,1,\n")
    for table in (frame, tmp_path / "pandas.csv", tmp_path / "ours.csv"):
        optimizer = RandomOptimizer(space, LOSS, seed=0)
        optimizer.attach(table)
        statuses = [each.status for each in optimizer.observations]
        assert statuses == [Status.INVALID, Status.COMPLETED]
        assert optimizer.history.best is optimizer.observations[1]
    # In a DataFrame nan is an empty cell.
    with pytest.raises(UnknownMetricError, match="'row_0': It has no metric 'loss'"):
        params_of(frame.assign(loss=[math.nan, 1.0]), space)


@pytest.mark.parametrize("status", [Status.FAILED, Status.PRUNED])
def test_a_table_without_a_completed_trial_is_read(status: Status, tmp_path: Path) -> None:
    space, limit = SearchSpace({"x": (0.0, 1.0)}), Constraint("lag", "<=", 1.0)
    told = [Observation(Treatment("t", {"x": 0.5}), {"acc": 1.0}, status)]
    for trials in (told, []):
        history = History(trials, [LOSS], [limit], space=space)
        history.to_csv(tmp_path / "trials.csv")
        for table in (tmp_path / "trials.csv", history.to_frame()):
            optimizer = RandomOptimizer(space, LOSS, constraints=[limit], seed=0)
            optimizer.attach(table)
            assert [(dict(o), o.status) for o in optimizer.observations] == [
                (dict(o), o.status) for o in trials
            ]


def raced(name: str, losses: list[float]) -> Observation:
    replicates = [Replicate(i, i, {"loss": loss}) for i, loss in enumerate(losses)]
    trial = Observation.of_replicates(Treatment(name, {"x": losses[0]}), replicates)
    return dataclasses.replace(trial, raced=True)


def test_a_table_of_a_race_never_changes_the_best_trial(tmp_path: Path) -> None:
    space = SearchSpace({"x": (0.0, 1.0)})
    history = History([raced("lucky", [0.0]), raced("good", [1.0, 1.0])], [LOSS], space=space)
    equal = History([raced("good", [1.0, 1.0]), raced("bad", [1.0, 0.5])], [LOSS], space=space)
    for trials in (history, equal):
        trials.to_csv(tmp_path / "trials.csv")
        for table in (tmp_path / "trials.csv", trials.to_frame()):
            optimizer = RandomOptimizer(space, LOSS, seed=0)
            if trials is history:
                with pytest.raises(UsageError, match="'lucky' has 1, 'good' has 2"):
                    optimizer.attach(table)
                continue
            optimizer.attach(table)
            assert [each.raced for each in optimizer.observations] == [True, True]
            assert optimizer.get_best_treatment().name == "bad"
    optimizer = RandomOptimizer(space, LOSS, seed=0)  # Both ways of the error's advice.
    optimizer.attach(history)
    assert optimizer.get_best_treatment().name == "good"
    optimizer = RandomOptimizer(space, LOSS, seed=0)
    optimizer.attach(history.to_frame().drop(columns="raced"))
    assert optimizer.get_best_treatment().name == "lucky"


def test_curves_have_a_row_for_each_point() -> None:
    def replicates(shift: float) -> list[Replicate]:
        return [
            Replicate(
                index,
                None,
                {"loss": 0.5},
                curves={"loss": ((2, shift), (0, math.nan)), "accuracy": ((1, index),)},
            )
            for index in range(2)
        ]

    trials = [
        Observation.of_replicates(Treatment("a", {"x": 1}), replicates(0.25)),
        Observation(Treatment("none", {"x": 2}), {"loss": 1.0}),
        Observation.of_replicates(Treatment("b", {"x": 3}), replicates(-0.25)),
    ]
    frame = History(trials).curves()

    assert list(frame.columns) == ["trial", "replicate", "metric", "step", "value"]
    assert [str(kind) for kind in frame.dtypes] == ["object", "int64", "object", "int64", "float64"]
    assert repr(frame.iloc[:3].values.tolist()) == repr(
        [["a", 0, "loss", 2, 0.25], ["a", 0, "loss", 0, math.nan], ["a", 0, "accuracy", 1, 0.0]]
    )
    assert len(frame) == 12
    assert frame.query("trial == 'b' and metric == 'loss' and step == 2").value.tolist() == [
        *(-0.25, -0.25)
    ]
    reference = Observation.of_replicates(Treatment("baseline", {"x": 0}), replicates(0.5)[:1])
    whole = History(trials, baseline=reference).curves()
    assert whole["trial"][:3].tolist() == ["baseline"] * 3
    assert whole[3:].reset_index(drop=True).equals(frame)
    empty = History(trials[1:2]).curves()
    assert (len(empty), list(empty.dtypes)) == (0, list(frame.dtypes))
