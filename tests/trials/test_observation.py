"""Observations: means over replicates, and which of them count as completed."""

import dataclasses
import enum
import math
import statistics
import sys
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crystallize_opt import Constraint, Objective, Observation, Replicate, Status, Treatment
from crystallize_opt.errors import UsageError
from crystallize_opt.trials.values import as_number, mean_of

TREATMENT = Treatment("t", {"x": 1})
FINITE = st.floats(allow_nan=False, allow_infinity=False)
MODERATE = st.floats(-1e100, 1e100)


def observed(*replicates: Mapping[str, float] | Replicate) -> Observation:
    return Observation.of_replicates(
        TREATMENT,
        [
            each if isinstance(each, Replicate) else Replicate(index, index, each)
            for index, each in enumerate(replicates)
        ],
    )


# The mean and its standard error --------------------------------------------------------------


@given(st.lists(MODERATE, min_size=2, max_size=20))
def test_mean_and_standard_error(values: list[float]) -> None:
    observation = observed(*({"loss": value} for value in values))

    exact = sum(map(Fraction, values)) / len(values)
    assert observation["loss"] == pytest.approx(float(exact), rel=1e-15, abs=0.0)
    expected = statistics.stdev(map(Fraction, values)) / math.sqrt(len(values))
    scale = max(map(abs, values))
    assert observation.sem["loss"] == pytest.approx(expected, rel=1e-9, abs=1e-15 * scale)


@example([sys.float_info.max] * 3)
@given(st.lists(FINITE, min_size=1, max_size=5))
def test_a_mean_of_finite_numbers_is_between_them(values: list[float]) -> None:
    """Also where their sum or their squares are too large for a float."""
    observation = observed(*({"loss": value} for value in values))

    slack = 1e-15 * max(map(abs, values))
    assert min(values) - slack <= observation["loss"] <= max(values) + slack
    assert observation.checked(["loss"]).status is Status.COMPLETED


@given(FINITE)
def test_a_single_replicate_is_its_own_mean_without_an_error(value: float) -> None:
    observation = observed({"loss": value})

    assert dict(observation) == {"loss": value}
    assert observation.sem == {"loss": None}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([math.inf, 1.0], math.inf),
        ([-math.inf, 1.0], -math.inf),
        ([math.inf, -math.inf], math.nan),
        ([math.nan, 1.0], math.nan),
        ([1e308, 1e308, 1e308], 1e308),
        ([0.1] * 10, 0.1),
    ],
)
def test_mean_of_extreme_values(values: list[float], expected: float) -> None:
    assert mean_of(values) == pytest.approx(expected, rel=1e-15, nan_ok=True)


def test_a_metric_only_some_replicates_have() -> None:
    observation = observed({"loss": 1.0, "time": 3.0}, {"loss": 2.0}, {"loss": 3.0})

    assert dict(observation) == {"loss": 2.0, "time": 3.0}
    assert observation.sem == {"loss": pytest.approx(1.0 / math.sqrt(3)), "time": None}


def test_a_failed_replicate_gives_the_trial_its_status() -> None:
    failed = Replicate(1, 1, {}, Status.OUT_OF_MEMORY, "MemoryError", "Traceback", 5.0, 1.0)
    observation = observed(Replicate(0, 0, {"loss": 1.0}, started_at=3.0, duration=2.0), failed)

    assert observation.status is Status.OUT_OF_MEMORY
    assert (observation.error, observation.traceback) == ("MemoryError", "Traceback")
    assert (observation.started_at, observation.duration) == (3.0, 3.0)
    assert [replicate.index for replicate in observation.replicates] == [0, 1]


# Checking -------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1, np.float64(1.0), np.int32(1), np.array(1.0), True])
def test_numbers_of_an_observation_made_by_hand_become_floats(value: Any) -> None:
    checked = Observation(TREATMENT, {"loss": value, "note": 3}).checked(["loss"])

    assert checked.status is Status.COMPLETED
    assert dict(checked) == {"loss": 1.0, "note": 3}
    assert type(checked["loss"]) is float


@pytest.mark.parametrize(
    ("metrics", "error"),
    [
        ({"loss": math.nan}, "'loss' is nan"),
        ({"loss": np.float64("inf")}, "'loss' is inf"),
        ({"loss": "0.5"}, "'loss' is '0.5'"),
        ({"loss": "0.5"}, "'loss' is '0.5' (str)"),
        ({"loss": None}, "'loss' is None (NoneType)"),
        ({"loss": np.array([0.5])}, "'loss' is array([0.5]) (numpy.ndarray)"),
        ({"loss": np.ma.masked}, "'loss' is masked (numpy.ma"),
        ({}, "'loss' was not recorded as a number. Recorded numbers: none"),
        ({"time": 1.0}, "Recorded numbers: 'time'"),
    ],
)
def test_an_objective_that_is_no_finite_number_is_invalid(
    metrics: dict[str, Any], error: str
) -> None:
    checked = Observation(TREATMENT, metrics).checked(["loss"])

    assert checked.status is Status.INVALID
    assert error in str(checked.error)
    assert all(as_number(value) is not None for value in checked.values())


class Names(enum.StrEnum):
    LOSS = "loss"


@pytest.mark.parametrize("name", [Names.LOSS, np.str_("loss")])
def test_the_name_of_a_metric_is_plain_text(name: Any) -> None:
    observation = Observation(TREATMENT, {name: 1.0}, sem={name: 0.1})

    assert [type(each) for each in (*observation, *observation.sem)] == [str, str]
    assert Objective(name, "minimize") == Objective("loss", "minimize")
    assert type(Objective(name, "minimize").metric) is str
    assert type(Constraint(name, "<=", 1.0).metric) is str


def test_the_name_of_a_metric_must_be_text() -> None:
    with pytest.raises(UsageError, match=r"a text, not \('train', 'loss'\) \(tuple\)"):
        Observation(TREATMENT, {("train", "loss"): 1.0})  # type: ignore[dict-item]


def test_only_the_required_metrics_are_checked() -> None:
    observation = Observation(TREATMENT, {"loss": 1.0, "time": math.nan})

    assert observation.checked(["loss"]) is observation
    assert observation.checked(["loss", "time"]).status is Status.INVALID


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.COMPLETED])
def test_what_has_not_completed_keeps_its_status(status: Status) -> None:
    observation = Observation(TREATMENT, {}, status)

    assert observation.checked(["loss"]) is observation


# Numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        0.5,
        Fraction(1, 2),
        Decimal("0.5"),
        np.float64(0.5),
        np.float32(0.5),
        np.array(0.5),
        np.ma.array(0.5),
    ],
    ids=repr,
)
def test_single_numbers_of_all_kinds(value: Any) -> None:
    number = as_number(value)

    assert number == 0.5
    assert type(number) is float


@pytest.mark.parametrize(
    "value",
    [
        None,
        "0.5",
        b"0.5",
        bytearray(b"0.5"),
        np.str_("0.5"),
        np.array("0.5"),
        [0.5],
        np.array([0.5]),
        0.5 + 0j,
        np.complex128(0.5),
        np.complex64(0.5),
        np.array(0.5 + 0j),
        np.datetime64(5, "s"),
        np.timedelta64(5, "s"),
        np.array(None),
        np.ma.masked,
        np.ma.array(0.5, mask=True),
        10**400,
        {},
        object(),
    ],
)
def test_what_is_no_single_number(value: Any) -> None:
    assert as_number(value) is None


def test_a_tensor_of_one_number_is_a_number() -> None:
    import torch

    for value in (
        torch.tensor(0.5),
        torch.tensor(0.5, requires_grad=True),
        torch.tensor(0.5, dtype=torch.bfloat16),
    ):
        number = as_number(value)
        assert number == 0.5
        assert type(number) is float
    for value in (torch.tensor([0.5]), torch.empty((), device="meta")):
        assert as_number(value) is None


# The mapping ----------------------------------------------------------------------------------


def test_an_observation_reads_as_a_dict() -> None:
    observation = Observation(TREATMENT, {"loss": 0.5, "time": 2.0})

    assert observation == {"loss": 0.5, "time": 2.0}
    assert next(iter(observation.values())) == 0.5
    assert {**observation} == {"loss": 0.5, "time": 2.0}
    assert "loss" in observation
    assert observation.get("accuracy") is None


def test_an_observation_is_read_only() -> None:
    observation: Any = Observation(TREATMENT, {"loss": 0.5})

    with pytest.raises(TypeError):
        observation["loss"] = 1.0
    with pytest.raises(AttributeError):
        observation.status = Status.FAILED


def test_an_observation_stays_as_it_was_when_the_callers_mappings_change() -> None:
    metrics: dict[str, float] = {"loss": 0.5}
    sem: dict[str, float | None] = {"loss": 0.1}
    observation = Observation(TREATMENT, metrics, sem=sem)
    metrics["loss"] = sem["loss"] = 9.0

    assert observation["loss"] == 0.5
    assert observation.sem["loss"] == 0.1


# Built by hand --------------------------------------------------------------------------------


def test_numbers_of_an_observation_built_by_hand_are_plain_floats() -> None:
    given: dict[str, Any] = {"loss": np.float32(0.5), "steps": 3, "name": "a", "none": None}

    observation = Observation(TREATMENT, given, sem={"loss": np.float64(0.25), "steps": None})
    given["loss"] = 7

    assert {name: type(value) for name, value in observation.metrics.items()} == {
        "loss": float,
        "steps": float,
        "name": str,
        "none": type(None),
    }
    assert observation["loss"] == 0.5
    assert observation.sem == {"loss": 0.25, "steps": None}
    assert type(observation.sem["loss"]) is float


# Refused where it is built ----------------------------------------------------------------------


@pytest.mark.parametrize("status", Status)
def test_a_status_may_be_given_as_its_text(status: Status) -> None:
    text: Any = status.value
    observation = Observation(TREATMENT, {"loss": 1.0}, text)

    assert observation.status is status
    assert Replicate(0, None, {}, text).status is status
    assert dataclasses.replace(observation, status=text).status is status


@pytest.mark.parametrize("status", ["nonsense", "COMPLETED", None, True, ["failed"]])
def test_what_is_no_status_is_refused_and_the_statuses_are_listed(status: Any) -> None:
    for build in (Observation, lambda *given: Replicate(0, None, *given[1:])):
        with pytest.raises(UsageError) as refused:
            build(TREATMENT, {"loss": 1.0}, status)
        assert repr(status) in str(refused.value)
        assert all(repr(each.value) in str(refused.value) for each in Status)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("trial_0", {"loss": 1.0}), "Treatment.* not of 'trial_0' \\(str\\)"),
        (({"x": 1}, {"loss": 1.0}), "Treatment"),
        ((TREATMENT, 1.0), "metrics= takes a mapping.* not 1.0 \\(float\\)"),
        ((TREATMENT, 0.0), "metrics= takes a mapping"),
        ((TREATMENT, [("loss", 1.0)]), "metrics= takes a mapping"),
        ((TREATMENT, {"loss": 1.0}, "completed", 0.1), "sem= takes a mapping"),
        ((TREATMENT, {"loss": 1.0}, "completed", {"loss": "x"}), "at least 0, or None, not 'x'"),
        ((TREATMENT, {"loss": 1.0}, "completed", {"los": 0.1}), "'los'.* Metrics: 'loss'"),
        ((TREATMENT, None, "failed", {"loss": 0.1}), "Metrics: none"),
    ],
)
def test_an_argument_of_the_wrong_kind_is_refused(arguments: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Observation(*arguments)


@given(st.floats(max_value=0, exclude_max=True, allow_nan=False))
def test_a_negative_standard_error_is_refused(error: float) -> None:
    with pytest.raises(UsageError, match="at least 0"):
        Observation(TREATMENT, {"loss": 1.0}, sem={"loss": error})


def test_an_invalid_observation_keeps_the_standard_errors_of_its_numbers() -> None:
    metrics: dict[str, Any] = {"loss": "high", "time": 2.0}
    observation = Observation(TREATMENT, metrics, sem={"loss": 0.1, "time": 0.2}).checked(["loss"])

    assert observation.status is Status.INVALID
    assert observation.sem == {"time": 0.2}


def test_no_replicates_are_refused() -> None:
    with pytest.raises(UsageError, match="no replicates of 't'"):
        Observation.of_replicates(TREATMENT, [])
