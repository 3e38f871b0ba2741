"""Much of the contract is slow where another class of the same library runs all of it."""

from __future__ import annotations

import pytest

# What a class with `few_cases = True` runs of each test with cases in the usual suite. Which kinds
# and names an optimizer takes is up to this layer's spaces and names, not to a sampler or a model;
# `python -m pytest -m slow` runs the rest.
FEW_CASES: dict[str, set[str]] = {
    "test_every_kind_of_parameter": {
        "anything",
        "constant",
        "huge log int",
        "log float",
        "one float",
        "ordinal anything",
        "step float",
        "step int",
    },
    "test_a_log_scale_is_searched_as_one": {"log float"},
    "test_a_parameter_may_have_any_name": {"None", "x.y"},
    "test_a_metric_may_have_any_name": {"None", "x.y"},
    "test_only_active_parameters_are_suggested": {"nested", "parents of other kinds"},
    "test_linear_constraints_hold": {"chain", "integers", "narrow"},
    "test_a_finite_space_ends": {"conditions", "constraints", "one point"},
    "test_a_finite_space_ends_while_all_is_pending": {"conditions", "constraints"},
    "test_the_last_batch_is_what_is_left": {"conditions", "constraints"},
    "test_a_part_of_a_point_is_kept": {"integers", "one", "no child"},
    "test_it_suggests_after_ten_failures_in_a_row": {"abandoned-4", "all kinds-0"},
    "test_what_is_no_number_is_never_the_best": {"maximize-observation", "minimize-plain mapping"},
    "test_a_batch_of_no_whole_number_is_refused": {"0", "1.5"},
}


# `slow_tests` of a class are the names of tests that can find nothing in it, or little.
# First: the cases are left out where the marks are looked at.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not isinstance(item, pytest.Function):
            continue
        kept = FEW_CASES.get(item.originalname) if getattr(item.cls, "few_cases", False) else None
        is_left_out = kept is not None and item.callspec.id not in kept
        if is_left_out or item.originalname in getattr(item.cls, "slow_tests", ()):
            item.add_marker(pytest.mark.slow)
