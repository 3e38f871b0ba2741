"""Observations, treatments and metrics are read as they were written."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystallize_opt import (
    Adaptive,
    Experiment,
    Failures,
    Float,
    History,
    Objective,
    Observation,
    Replicate,
    Status,
    Treatment,
)
from crystallize_opt.adapters import OptunaOptimizer, RandomOptimizer
from crystallize_opt.plain_data import StoredObject
from crystallize_opt.storage.journal import read_run
from crystallize_opt.storage.records import (
    HeldCurves,
    read_observation,
    to_text,
    write_observation,
)
from tests.storage.searches import SUM, search
from tests.toy import exact, toy_experiment

numbers = st.floats() | st.sampled_from([math.nan, -0.0, 5e-324, 1.7976931348623157e308])
names = st.text(st.characters(codec=None, exclude_categories=()), min_size=1)  # surrogates, too
metrics = st.dictionaries(names, numbers, max_size=4)
texts = st.none() | st.text()
curves = st.dictionaries(
    names, st.dictionaries(st.integers(0, 9), numbers).map(lambda each: tuple(each.items()))
)
times = st.none() | st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def observations(draw: st.DrawFn) -> Observation:
    treatment = Treatment(draw(names), {})
    statuses = st.sampled_from(Status)
    several: list[Replicate] = []
    for index in range(draw(st.integers(0, 3))):
        seed = draw(st.none() | st.integers(0, 2**32 - 1))
        several.append(Replicate(index, seed, draw(metrics), draw(statuses), curves=draw(curves)))
    averaged: bool = draw(st.booleans())
    if several and averaged:
        return Observation.of_replicates(treatment, several)
    measured = draw(metrics)
    return Observation(
        treatment,
        measured,
        draw(statuses),
        {name: draw(st.none() | numbers.map(abs)) for name in measured if draw(st.booleans())},
        tuple(several),
        draw(texts),
        draw(texts),
        draw(times),
        draw(times),
        draw(texts),
        draw(st.booleans()),
        draw(texts),
        draw(st.booleans()),
    )


@given(observations(), st.data())
def test_an_observation_is_read_as_it_was_written(observation: Observation, data: Any) -> None:
    """Also if the run holds some of the curves already, or others."""
    import json

    held = HeldCurves()
    for replicate in observation.replicates:
        if data.draw(st.booleans()):
            held.replicates[replicate.index] = data.draw(st.just(replicate.curves) | curves)
        for metric, curve in replicate.curves.items():
            if data.draw(st.booleans()):
                held.points[data.draw(st.sampled_from([None, metric]))] = list(curve)
    text = to_text(write_observation(observation, held))
    read = read_observation(json.loads(text), observation.treatment, held)

    assert text.isascii()
    assert exact(read) == exact(observation)


@pytest.mark.parametrize("replicates", [1, 3, Adaptive(2, 3)], ids=str)
def test_each_point_of_a_curve_is_stored_once(replicates: int | Adaptive, tmp_path: Path) -> None:
    pruner = optuna.pruners.NopPruner()
    reported: list[float] = []

    def trains(x: Float(0.0, 1.0), ctx: Any) -> dict[str, float]:  # type: ignore[valid-type]
        for epoch in range(3):
            reported.append(1000.5 + len(reported))
            assert not ctx.report("loss", reported[-1], step=epoch)
        return {"loss": x}

    optimizer = OptunaOptimizer(
        {"x": (0.0, 1.0)}, Objective("loss", "minimize"), seed=0, pruner=pruner
    )
    file = tmp_path / "runs.db"
    Experiment.of(trains, seed=0).optimize(optimizer, 4, replicates, storage=file)

    (name,) = History.runs(file)
    texts = "".join(text for _, _, text in read_run(file, name)[1])
    assert [texts.count(repr(value)) for value in reported] == [1] * len(reported)
    assert len(reported) >= 12
    history = History.load(file)
    assert [exact(each) for each in history] == [exact(each) for each in optimizer.observations]
    again = OptunaOptimizer({"x": (0.0, 1.0)}, Objective("loss", "minimize"), seed=0, pruner=pruner)
    Experiment.of(trains, seed=0).optimize(again, 4, replicates, storage=file)
    assert [exact(each) for each in history] == [exact(each) for each in again.observations]


class Kernel:
    """A choice that is no plain data."""


def test_choices_that_are_objects_come_back_by_their_index(tmp_path: Path) -> None:
    kernels = [Kernel(), len, "x", 1, True]
    space = RandomOptimizer({"kernel": kernels}, SUM, seed=0).space
    found = RandomOptimizer(space, SUM, seed=0)
    failures = Failures(unread="ignore")
    toy_experiment(seed=0).optimize(found, 5, storage=tmp_path / "runs.db", failures=failures)

    read = History.load(tmp_path / "runs.db", space=space)
    described = History.load(tmp_path / "runs.db")

    expected = [o.treatment.params["kernel"] for o in found.observations]
    assert [o.treatment.params["kernel"] for o in read] == expected
    assert {type(o.treatment.params["kernel"]) for o in described} == {StoredObject, str, int, bool}


def test_the_history_of_a_run_is_that_of_the_optimizer(tmp_path: Path) -> None:
    found = search(tmp_path / "runs.db", replicates_per_trial=2)

    history = History.load(tmp_path / "runs.db")

    assert [exact(o) for o in history] == [exact(o) for o in found.observations]
    assert history.best is not None
    assert history.best.treatment.params == found.get_best_treatment().params
    assert (history.name, history.space, history.pending) == ("run", found.space, [])


def test_strange_metrics_are_stored(tmp_path: Path) -> None:
    name = "naïve 損失 \x00 \ud800"

    class Odd(RandomOptimizer):
        def ask(self, n: int = 1, *, ttl: float | None = None) -> list[Treatment]:
            asked = super().ask(n, ttl=ttl)
            point = {"delta": 0.5}
            odd = {"sum": 1.0, name: math.inf, "huge": 1e308, "nan": math.nan}
            self.attach(Observation(Treatment(f"odd {asked[0].name}", point), odd))
            return asked

    found = Odd({"delta": (0.0, 1.0)}, SUM, seed=0)
    toy_experiment(seed=0).optimize(found, 2, storage=tmp_path / "runs.db")

    read = History.load(tmp_path / "runs.db")

    assert [exact(o) for o in read] == [exact(o) for o in found.observations]
    assert read[0][name] == math.inf
