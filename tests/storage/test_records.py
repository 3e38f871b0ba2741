"""Observations, treatments and metrics are read as they were written."""

from __future__ import annotations

import math
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from crystallize_opt import Failures, History, Observation, Replicate, Status, Treatment
from crystallize_opt.adapters import RandomOptimizer
from crystallize_opt.plain_data import StoredObject
from crystallize_opt.storage.records import read_observation, to_text, write_observation
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
    return Observation(
        treatment,
        draw(metrics),
        draw(statuses),
        draw(st.dictionaries(names, st.none() | numbers, max_size=2)),
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


@given(observations())
def test_an_observation_is_read_as_it_was_written(observation: Observation) -> None:
    import json

    text = to_text(write_observation(observation))
    read = read_observation(json.loads(text), observation.treatment)

    assert text.isascii()
    assert exact(read) == exact(observation)


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
