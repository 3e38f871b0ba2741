"""The study: what it holds, what it takes, and what an upgrade of Optuna may break."""

from __future__ import annotations

import logging
from typing import Any

import optuna
import pytest
from optuna.samplers import BruteForceSampler, CmaEsSampler, TPESampler

from crystallize_opt import CrystallizeOptError, Objective
from crystallize_opt.adapters import OptunaOptimizer
from crystallize_opt.adapters.optuna.replay import _restore, _written
from crystallize_opt.adapters.optuna.replay import generators_of as _generators
from crystallize_opt.errors import MissingExtraError, UnsupportedSpaceError, UsageError
from tests.adapters.optuna.native import LOSS, SQUARE
from tests.adapters.parity import exactly, search

# Optuna marks whole samplers and pruners as experimental; that is no fault of a test.
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def test_choices_that_optuna_holds_apart_are_readable_in_the_study() -> None:
    optimizer = OptunaOptimizer({"kind": ["a", "b", None], "flag": [True, 1]}, LOSS, seed=0)
    (treatment,) = optimizer.ask()
    optimizer.tell({"loss": 0.0})

    stored = optimizer.study.trials[0].params
    assert stored["kind"] == treatment.params["kind"]
    assert stored["flag"] in (0, 1)  # True == 1, so the study holds the index
    assert (True, 1)[stored["flag"]] is treatment.params["flag"]


def test_optunas_logging_is_silent_here_and_left_alone_elsewhere() -> None:
    messages: list[str] = []

    class Recorder(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    optuna_logger, recorder = logging.getLogger("optuna"), Recorder()
    optuna_logger.addHandler(recorder)
    try:
        OptunaOptimizer(SQUARE, LOSS, seed=0).ask()
        assert messages == []
        optuna.create_study()
        assert len(messages) == 1
        assert "A new study created" in messages[0]
    finally:
        optuna_logger.removeHandler(recorder)


# Arguments ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"sampler": TPESampler}, r"Did you mean TPESampler\(\)"),
        ({"sampler": 3}, "takes an Optuna sampler, not 3"),
        ({"pruner": optuna.pruners.MedianPruner}, r"Did you mean MedianPruner\(\)"),
        ({"objective": [LOSS, Objective("b", "maximize")], "sampler": CmaEsSampler()}, "one obj"),
        (
            {
                "objective": [LOSS, Objective("b", "maximize")],
                "pruner": optuna.pruners.MedianPruner(),
            },
            "one objective only",
        ),
    ],
)
def test_bad_arguments_are_refused_at_once(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(CrystallizeOptError, match=match):
        OptunaOptimizer(**{"space": SQUARE, "objective": LOSS, **arguments})


def test_brute_force_refuses_a_continuous_parameter_by_name() -> None:
    with pytest.raises(UnsupportedSpaceError, match=r"'x'.*no finite set"):
        OptunaOptimizer(SQUARE, LOSS, sampler=BruteForceSampler())


def test_a_sampler_serves_one_optimizer() -> None:
    sampler = TPESampler(seed=0)
    OptunaOptimizer(SQUARE, LOSS, sampler=sampler)

    with pytest.raises(UsageError, match="already belongs to another optimizer"):
        OptunaOptimizer(SQUARE, LOSS, sampler=sampler)


def test_a_missing_library_of_a_sampler_is_named_when_it_is_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    with pytest.raises(MissingExtraError, match=r"CmaEsSampler needs cmaes.*pip install cmaes"):
        OptunaOptimizer(SQUARE, LOSS, sampler=CmaEsSampler())


# What an upgrade of Optuna may break --------------------------------------------------------------


def test_the_private_name_still_means_what_it_did() -> None:
    trial = optuna.create_study().ask({"x": optuna.distributions.FloatDistribution(0, 1)})

    assert trial._cached_frozen_trial.params == trial.params


def test_the_generators_of_tpe_are_still_the_two_that_a_stored_run_keeps() -> None:
    """Private names of Optuna's; all that TPE draws comes from them."""
    first, second = TPESampler(seed=0), TPESampler(seed=1)
    for ours, theirs in zip(_generators(first), _generators(second), strict=True):
        _restore(ours, _written(theirs))
    space = {"x": (0.0, 1.0), "c": ["a", "b"]}

    assert first._group is False
    found = [search(OptunaOptimizer(space, LOSS, sampler=s), 15) for s in (first, second)]
    assert exactly(found[0]) == exactly(found[1])
