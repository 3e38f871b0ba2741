"""The options of SMACOptimizer."""

from __future__ import annotations

from typing import Any

import pytest
from smac import RandomFacade, Scenario

from crystallize_opt.adapters import SMACOptimizer
from crystallize_opt.errors import UsageError
from tests.adapters.parity import search
from tests.adapters.smac.native import LOSS, SQUARE


def test_the_initial_design_has_the_size_that_was_asked_for() -> None:
    for options, size in (
        ({"n_init": 3}, 3),
        ({"n_trials": 20}, 5),
        ({}, 20),
        ({"n_init": 1}, 1),
        ({"n_init": 100}, 100),
    ):
        optimizer = SMACOptimizer(SQUARE, LOSS, seed=0, **options)  # type: ignore[arg-type]
        configurations = optimizer.facade._initial_design.select_configurations()
        assert len(configurations) == size
    no_design = SMACOptimizer(SQUARE, LOSS, seed=0, n_init=0)
    assert search(no_design, 2) != search(SMACOptimizer(SQUARE, LOSS, seed=0), 2)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"facade": "BlackBoxFacade"}, "facade="),
        ({"facade": Scenario}, "facade="),
        ({"n_trials": 0}, "n_trials="),
        ({"n_init": -1}, "n_init="),
        ({"n_init": 101}, "from 0 to 100"),
        ({"n_init": 2.0}, "n_init="),
        ({"facade": RandomFacade, "n_init": 3}, "n_init= cannot be combined with RandomFacade"),
        ({"facade_options": {"modle": {}}}, "'modle'.*model"),
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        SMACOptimizer(SQUARE, LOSS, **options)


def test_the_largest_seed_is_a_seed() -> None:
    largest = SMACOptimizer(SQUARE, LOSS, seed=2**32 - 1, n_init=2)

    assert len(search(largest, 3)) == 3
