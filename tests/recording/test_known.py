"""Which outcomes a search knows: of the same point, on the same seeds, completed."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from crystallize_opt import Categorical, Observation, Replicate, SearchSpace, Status, Treatment
from crystallize_opt.recording.known import KnownOutcomes

SPACE = SearchSpace({"a": (0, 9), "b": Categorical([1, 1.0, True, "1"])})


def seed_of(replicate: int) -> int:
    return 100 + replicate


def outcome(name: str, params: Any, *, seeds: Any = (100, 101)) -> Observation:
    replicates = [Replicate(i, seed, {"loss": 1.0}) for i, seed in enumerate(seeds)]
    return Observation.of_replicates(Treatment(name, params), replicates)


def repeated(known: KnownOutcomes, params: Any) -> str | None:
    """Return the name of the trial whose outcome is known for a point."""
    found = known.of(Treatment("again", params))
    return None if found is None else found.treatment.name


@pytest.mark.parametrize("space", [None, SPACE], ids=["plain", "space"])
def test_the_first_trial_of_a_point_is_the_known_one(space: SearchSpace | None) -> None:
    """Two trials of a point that ran side by side have both run."""
    known = KnownOutcomes(space, seed_of, ["loss"])
    first, second = ({"a": 1, "b": "1"}, {"a": 2, "b": "1"})
    asked = [Treatment(name, p) for name, p in (("one", first), ("two", second), ("both", first))]
    assert list(map(known.of, asked)) == [None, None, None]
    for treatment in asked:  # They are looked up in one order, and finish in any other.
        known.add(outcome(treatment.name, treatment.params))

    assert repeated(known, first) == "one"
    assert repeated(known, second) == "two"
    assert repeated(known, {"a": 3, "b": "1"}) is None


@pytest.mark.parametrize("space", [None, SPACE], ids=["plain", "space"])
def test_values_of_other_types_are_other_points(space: SearchSpace | None) -> None:
    known = KnownOutcomes(space, seed_of, ["loss"])
    for value in (1, 1.0, True, "1"):
        assert repeated(known, {"a": 1, "b": value}) is None
        known.add(outcome(f"{value!r}", {"a": 1, "b": value}))
        assert repeated(known, {"a": 1, "b": value}) == f"{value!r}"


def test_the_order_of_plain_parameters_does_not_matter() -> None:
    known = KnownOutcomes(None, seed_of, ["loss"])
    known.add(outcome("one", {"a": 1, "b": 2}))

    assert repeated(known, {"b": 2, "a": 1}) == "one"


@pytest.mark.parametrize("params", [{}, {"a": [1]}, {"a": 1, "b": object()}])
def test_plain_parameters_that_may_differ_unseen_are_never_known(params: Any) -> None:
    """A treatment without parameters may be a function; a list may change."""
    known = KnownOutcomes(None, seed_of, ["loss"])
    known.add(outcome("one", params))

    assert repeated(known, params) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"status": Status.FAILED},
        {"status": Status.PRUNED},
        {"repeats": "another"},
        {"replicates": outcome("", {}, seeds=(100, 7)).replicates},
        {"replicates": outcome("", {}, seeds=(None, None)).replicates},
    ],
)
def test_what_another_trial_would_not_repeat_is_not_known(changed: dict[str, Any]) -> None:
    known = KnownOutcomes(None, seed_of, ["loss"])
    known.add(dataclasses.replace(outcome("one", {"a": 1}), **changed))
    assert repeated(known, {"a": 1}) is None

    known.add(outcome("two", {"a": 1}))
    assert repeated(known, {"a": 1}) == "two"


@pytest.mark.parametrize("loss", [math.nan, 1.0], ids=["no number", "other seeds"])
def test_an_outcome_that_is_not_known_does_not_hide_a_later_one(loss: float) -> None:
    known = KnownOutcomes(SPACE, seed_of, ["loss"])
    params = {"a": 1, "b": "1"}
    replicates = [Replicate(0, 7 if loss == 1.0 else 100, {"loss": loss})]
    known.add(Observation.of_replicates(Treatment("first", params), replicates))
    assert repeated(known, params) is None

    known.add(outcome("second", params))
    assert repeated(known, params) == "second"
