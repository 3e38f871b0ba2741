"""Samplers that wrap others, and samplers whose model raises an error."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

import optuna
import pytest
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIISampler,
    PartialFixedSampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import TrialState

from crystallize_opt import (
    Categorical,
    Constraint,
    Float,
    Integer,
    Objective,
    Observation,
    SearchSpace,
    Status,
)
from crystallize_opt.adapters import OptunaOptimizer
from crystallize_opt.errors import InvalidParametersError, ObjectiveError, UsageError
from tests.adapters.optuna.native import LOSS, SQUARE
from tests.adapters.parity import exactly

# Optuna marks whole samplers and pruners as experimental; that is no fault of a test.
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


class Wrapper(BaseSampler):
    """A user's own sampler, which passes everything on to another one."""

    def __init__(self, base: BaseSampler) -> None:
        self._base_sampler = base

    def before_trial(self, *args: Any) -> None:
        self._base_sampler.before_trial(*args)

    def infer_relative_search_space(self, *args: Any) -> Any:
        return self._base_sampler.infer_relative_search_space(*args)

    def sample_relative(self, *args: Any) -> Any:
        return self._base_sampler.sample_relative(*args)

    def sample_independent(self, *args: Any) -> Any:
        return self._base_sampler.sample_independent(*args)

    def after_trial(self, *args: Any) -> None:
        self._base_sampler.after_trial(*args)


BASES: dict[str, Callable[[], BaseSampler]] = {
    "TPE": lambda: TPESampler(seed=0),
    "GP": lambda: GPSampler(seed=0),
    "CMA-ES": lambda: CmaEsSampler(seed=0),
    "NSGA-II": lambda: NSGAIISampler(seed=0, population_size=6),
    "Random": lambda: RandomSampler(seed=0),
}
WRAPPERS: dict[str, Callable[[BaseSampler], BaseSampler]] = {
    "fixed": lambda base: PartialFixedSampler({}, base),
    "own": Wrapper,
    "both": lambda base: Wrapper(PartialFixedSampler({}, base)),
}


# Wrapped ----------------------------------------------------------------------------------------


def outcomes_in_study(sampler: BaseSampler) -> tuple[Any, ...]:
    """Return what a search with constraints and failures leaves in the study."""
    optimizer = OptunaOptimizer(
        SQUARE, LOSS, constraints=[Constraint("latency", "<=", 1.0)], sampler=sampler
    )
    for status in (Status.COMPLETED, Status.FAILED, Status.COMPLETED, Status.ABANDONED):
        (treatment,) = optimizer.ask()
        metrics = {"loss": treatment.params["x"], "latency": 5.0 * treatment.params["y"]}
        optimizer.tell(Observation(treatment, metrics, status))
    trials = optimizer.study.trials
    told = [(t.params, t.state, t.values, t.constraints, t.user_attrs) for t in trials]
    return told, optimizer.capabilities


@pytest.mark.filterwarnings("ignore:Constraints have been set, but CmaEs")
@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("base", BASES)
def test_a_wrapped_sampler_hears_what_its_base_would(base: str, wrapper: str) -> None:
    wrapped = WRAPPERS[wrapper](BASES[base]())

    assert outcomes_in_study(wrapped) == outcomes_in_study(BASES[base]())


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrapped_sampler_is_checked_as_its_base(wrapper: str) -> None:
    wrap = WRAPPERS[wrapper]
    both = [LOSS, Objective("b", "maximize")]
    with pytest.raises(ObjectiveError, match="CmaEsSampler takes one objective"):
        OptunaOptimizer(SQUARE, both, sampler=wrap(CmaEsSampler(seed=0)))

    base = TPESampler(seed=0)
    OptunaOptimizer(SQUARE, LOSS, sampler=wrap(base))
    for again in (base, wrap(base)):
        with pytest.raises(UsageError, match=r"TPESampler.*already belongs to another optimizer"):
            OptunaOptimizer(SQUARE, LOSS, sampler=again)


def test_a_sampler_that_is_refused_can_still_be_used() -> None:
    sampler = PartialFixedSampler({"x": 7.0}, TPESampler(seed=0))
    with pytest.raises(UsageError, match=r"'x': 7.0"):
        OptunaOptimizer(SQUARE, LOSS, sampler=sampler)

    optimizer = OptunaOptimizer({**SQUARE, "x": (0.0, 9.0)}, LOSS, sampler=sampler)
    assert optimizer.ask()[0].params["x"] == 7.0


class Outside(RandomSampler):
    """A user's own sampler, which leaves the space."""

    def sample_independent(self, *args: Any) -> Any:
        return 2


def test_a_users_sampler_that_leaves_the_space_is_named() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimizer = OptunaOptimizer(SQUARE, LOSS, sampler=Outside(seed=0))
        with pytest.raises(InvalidParametersError, match="'x': 2 is not in"):
            optimizer.ask()
    assert [trial.state for trial in optimizer.study.trials] == [TrialState.FAIL]


# Errors of a model ------------------------------------------------------------------------------

INTEGER_PARENT = SearchSpace(
    {"n": Integer(1, 3), "a": Float(0, 1).when(n={2, 3}), "b": Float(0, 1).when(n=3)}
)
CHOICE_PARENT = SearchSpace(
    {
        "k": Categorical(["s", "t"]),
        "x": (0.0, 1.0),
        "y": (0.0, 1.0),
        "a": Float(0, 1).when(k="s"),
    }
)
# The model raises in each of these searches, as it does in a loop written by hand.
RAISES: list[tuple[SearchSpace, dict[str, Any], int]] = [
    (INTEGER_PARENT, {"lr_adapt": True}, 5),
    (INTEGER_PARENT, {"with_margin": True}, 4),
    (CHOICE_PARENT, {"with_margin": True}, 2),
]


def sum_of(params: Any) -> float:
    return sum(value for value in params.values() if isinstance(value, (int, float)))


def driven(space: SearchSpace, sampler: BaseSampler) -> OptunaOptimizer:
    optimizer = OptunaOptimizer(space, LOSS, sampler=sampler)
    for number in range(40):
        if number in (10, 30):
            optimizer.enqueue({"n": 3} if "n" in space else {"k": "t"})
        (treatment,) = optimizer.ask()
        optimizer.tell({"loss": sum_of(treatment.params)})
    return optimizer


@pytest.mark.parametrize(("space", "options", "seed"), RAISES)
def test_an_error_of_cma_es_does_not_end_a_search(
    space: SearchSpace, options: dict[str, Any], seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    optimizer = driven(space, CmaEsSampler(seed=seed, **options))

    said = [record for record in caplog.records if record.name == "crystallize_opt"]
    assert len(said) == 1
    assert said[0].levelno == logging.WARNING
    assert "CmaEsSampler cannot model the trials" in said[0].getMessage()
    assert "Error" in said[0].getMessage()
    assert all(trial.state.is_finished() for trial in optimizer.study.trials)
    enqueued = {"n": 3} if "n" in space else {"k": "t"}
    for number in (10, 30):
        assert optimizer.observations[number].treatment.params.items() >= enqueued.items()
    again = OptunaOptimizer(space, LOSS, sampler=CmaEsSampler(seed=seed, **options))
    again.replay(optimizer.events)
    suggested = [exactly([each.ask()[0].params]) for each in (optimizer, again)]
    assert suggested[0] == suggested[1]


class Broken(TPESampler):
    """A user's own sampler with a mistake."""

    def sample_relative(self, *args: Any) -> Any:
        raise ValueError("a mistake")


def test_an_error_of_a_users_sampler_is_raised() -> None:
    optimizer = OptunaOptimizer(SQUARE, LOSS, sampler=Broken(seed=0))

    with pytest.raises(ValueError, match="a mistake"):
        optimizer.ask()


# What is printed --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BASES)
def test_conditions_write_nothing_to_stderr(name: str) -> None:
    messages: list[str] = []

    class Recorder(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    recorder, logger = Recorder(), logging.getLogger("optuna")
    logger.addHandler(recorder)
    try:
        optimizer = OptunaOptimizer(CHOICE_PARENT, LOSS, sampler=BASES[name]())
        for _ in range(14):
            (treatment,) = optimizer.ask()
            optimizer.tell({"loss": sum_of(treatment.params)})
    finally:
        logger.removeHandler(recorder)
    assert messages == []


def test_the_private_names_still_mean_what_they_did() -> None:
    """Private names of Optuna's."""
    assert PartialFixedSampler({"x": 1}, RandomSampler())._fixed_params == {"x": 1}
    assert isinstance(PartialFixedSampler({}, RandomSampler())._base_sampler, RandomSampler)
    grid = optuna.samplers.GridSampler({"x": [1, 2]})
    assert grid._search_space == {"x": [1, 2]}
    assert CmaEsSampler()._warn_independent_sampling is True
    assert GPSampler()._warn_independent_sampling is True
