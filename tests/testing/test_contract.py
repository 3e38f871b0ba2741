"""The conformance suite finds faults: each of its tests fails for an optimizer that deserves it."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from crystallize_opt import Objective
from crystallize_opt.adapters import RandomOptimizer
from crystallize_opt.testing import OptimizerContract
from tests.testing import broken_optimizers

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
BROKEN = Path(broken_optimizers.__file__)

ENDS = {
    "test_a_finite_space_ends",
    "test_a_finite_space_ends_while_all_is_pending",
    "test_the_last_batch_is_what_is_left",
}
IN_ANOTHER_PROCESS = {
    "test_a_fresh_process_stays_as_it_was",
    "test_the_same_seed_suggests_the_same_in_another_process",
}

# Of each optimizer in broken_optimizers.py, the tests that fail: these and no other.
FAULTS: dict[str, set[str]] = {
    "Sound": set(),
    "LeaksNumpyScalars": {
        "test_every_kind_of_parameter",
        "test_everything_at_once",
        "test_only_active_parameters_are_suggested",
        "test_linear_constraints_hold",
        "test_linear_constraints_of_inactive_parameters",
        "test_a_batch",
        "test_enqueued_points_come_first",
        "test_a_part_of_a_point_is_kept",
        "test_told_and_attached_trials_are_known_alike",
        *ENDS,
    },
    "CopiesChoices": {
        "test_every_kind_of_parameter",
        "test_everything_at_once",
        "test_enqueued_points_come_first",
        # Copies of what cannot be compared are no points of the space any more.
        "test_a_replay_suggests_the_same",
        "test_global_state_stays_as_it_was",
    },
    "LosesTheLogScale": {"test_a_log_scale_is_searched_as_one"},
    "ViolatesConstraints": {
        "test_linear_constraints_hold",
        "test_linear_constraints_of_inactive_parameters",
        *ENDS,
    },
    "DeclaresTooLittle": {
        "test_every_kind_of_parameter",
        "test_only_active_parameters_are_suggested",
        "test_several_objectives_are_taken_or_refused",
    },
    "ForgetsPending": {
        "test_pending_points_differ",
        "test_a_batch",
        "test_attached_points_are_not_suggested",
        *ENDS - {"test_a_finite_space_ends"},
    },
    "RepeatsPoints": {
        "test_pending_points_differ",
        "test_attached_points_are_not_suggested",
        *ENDS,
    },
    "BelievesFailures": {
        "test_the_metrics_of_a_failed_trial_teach_nothing",
        "test_the_metrics_of_an_attached_failure_teach_nothing",
        "test_a_failing_half_does_not_trap_the_search",
    },
    "LearnsNothingFromFailures": {"test_a_failing_half_does_not_trap_the_search"},
    "LearnsFromOtherMetrics": {"test_other_metrics_teach_nothing"},
    "LearnsFromStandardErrors": {"test_standard_errors_may_come_and_go"},
    "ForgetsTheDirection": {"test_maximizing_is_minimizing_the_negative"},
    "GivesUp": {
        "test_it_suggests_after_ten_failures_in_a_row",
        "test_every_status_ends_a_trial",
        "test_what_is_no_number_is_never_the_best",
        "test_told_and_attached_trials_are_known_alike",
        "test_a_failing_half_does_not_trap_the_search",
    },
    "LeavesFailuresRunning": {
        "test_every_status_ends_a_trial",
        "test_failures_before_any_success",
        "test_told_and_attached_trials_are_known_alike",
    },
    "LearnsBeforeItLooks": {
        "test_what_matches_no_pending_treatment_is_refused",
        "test_told_and_attached_trials_are_known_alike",
    },
    "IgnoresTheSeed": {
        "test_another_seed_suggests_something_else",
        "test_it_works_without_a_seed",
    },
    "DependsOnHashes": {"test_the_same_seed_suggests_the_same_in_another_process"},
    "DrawsFromTheGlobalGenerator": {
        "test_global_random_state_plays_no_part",
        "test_the_same_seed_suggests_the_same_in_another_process",
    },
    "SeedsTheGlobalGenerator": {
        "test_global_state_stays_as_it_was",
        "test_a_fresh_process_stays_as_it_was",
    },
    "ChangesWarnings": {"test_a_fresh_process_stays_as_it_was"},
    "ChangesArguments": {"test_arguments_stay_as_they_were"},
}

# Of the rest only these are ever run: a fault may show in many more tests.
MORE_FAULTS: dict[str, set[str]] = {
    "ReordersParameters": {"test_every_kind_of_parameter", "test_a_parameter_may_have_any_name"},
    "DropsConditions": {"test_only_active_parameters_are_suggested", "test_everything_at_once"},
    "ForgetsTheLastPoint": ENDS,
    "SearchesTheFidelity": {"test_a_fidelity_is_taken_or_refused"},
    "BreaksOnHugeValues": {"test_any_finite_value_is_taken"},
    "TakesAnyTell": {"test_what_matches_no_pending_treatment_is_refused"},
    "AttachesAnything": {"test_points_outside_of_the_space_are_not_attached"},
    "ListsTheSpace": {"test_a_large_finite_space_is_not_listed"},
    "ForgetsTheQueue": {
        "test_enqueued_points_come_first",
        "test_a_part_of_a_point_is_kept",
        "test_what_is_no_part_of_a_point_is_not_enqueued",
    },
    "EnqueuesWhatItRefuses": {"test_what_is_no_part_of_a_point_is_not_enqueued"},
    "ForgetsTheQueueInAReplay": {"test_enqueued_points_are_replayed"},
    "DropsWhatIsInactive": {"test_inactive_parameters_are_not_attached"},
    "BestOfAllNumbers": {
        "test_every_status_ends_a_trial",
        "test_what_is_no_number_is_never_the_best",
        "test_the_best_satisfies_the_outcome_constraints",
        "test_a_constraint_relative_to_the_baseline_decides_as_its_absolute_bound_does",
        "test_the_pareto_front",
        "test_trials_of_others_are_attached",
    },
    "HasABestFromTheStart": {"test_there_is_no_best_before_a_result"},
    "TakesTheLastForTheBest": {"test_the_best_is_the_best_told"},
    "TakesZeroForNoSeed": {
        "test_the_same_seed_suggests_the_same",
        "test_batches_are_replayed",
        *IN_ANOTHER_PROCESS - {"test_a_fresh_process_stays_as_it_was"},
    },
    "Prints": {"test_global_state_stays_as_it_was", "test_a_fresh_process_stays_as_it_was"},
    "WritesFiles": {"test_a_fresh_process_stays_as_it_was"},
    "HandsOutItsOwnList": {"test_lists_are_the_callers_own"},
    "SortsItsEvents": {"test_events_and_observations_are_in_order"},
    "ReplaysAnything": {"test_a_replay_that_diverges_is_an_error"},
    "GoesOnDifferentlyAfterAReplay": {"test_a_replay_suggests_the_same"},
    "IsSlowToNameTrials": {"test_treatments_have_names_of_their_own"},
    "ShufflesPending": {"test_several_pending_are_told_in_any_order"},
    "BreaksOnOddNames": {
        "test_a_parameter_may_have_any_name",
        "test_a_metric_may_have_any_name",
    },
    "SticksToDefaults": {"test_a_default_does_not_narrow_the_search"},
    "NeedsTheVeryTreatment": {"test_a_treatment_may_have_been_to_another_process"},
    "GuessesMissingMetrics": {"test_a_plain_mapping_without_the_metric_is_refused"},
    "TakesAnyBatch": {"test_a_batch_of_no_whole_number_is_refused"},
    "CutsBatches": {"test_a_batch"},
    "PrunesWithoutSayingSo": {"test_replicates_are_reported_where_it_prunes"},
    "PrunesAtAnyPoint": {"test_learning_curves_are_reported_where_it_prunes"},
    "ForgetsCurves": {"test_learning_curves_are_reported_where_it_prunes"},
    "LearnsFromReports": {"test_replicates_are_reported_where_it_prunes"},
    "TakesOneReplicate": {"test_it_is_driven_by_an_experiment"},
    "ForgetsAttached": {"test_attached_trials_are_learnt_from"},
    "BelievesAttachedFailures": {
        "test_the_metrics_of_an_attached_failure_teach_nothing",
        "test_told_and_attached_trials_are_known_alike",
    },
    "LearnsNothingFromAttachedTimeouts": {"test_told_and_attached_trials_are_known_alike"},
    "LosesCountOfLateOutcomes": {"test_an_abandoned_trial_may_have_a_late_outcome"},
    "NeverExpires": {"test_a_trial_expires_and_may_have_a_late_outcome"},
    "AbandonsAnything": {"test_what_is_not_pending_is_not_abandoned"},
    "SharesAGeneratorPerSpace": {"test_a_search_space_stays_as_it_was"},
}


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Run the tests that are to find a fault, and all tests on the sound optimizer."""
    chosen = [
        f"{BROKEN}::Test{name}::{test}"
        for name, tests in (FAULTS | MORE_FAULTS).items()
        for test in sorted(tests)
    ]
    return run_contract([*chosen, *all_tests_of("Sound")], tmp_path_factory.mktemp("broken"))


def all_tests_of(name: str) -> list[str]:
    # Two of them need a process each: only where it is of interest.
    skipped = set() if FAULTS[name] & IN_ANOTHER_PROCESS else IN_ANOTHER_PROCESS
    file = BROKEN.relative_to(ROOT)
    return [f"{BROKEN}::Test{name}", *(f"--deselect={file}::Test{name}::{t}" for t in skipped)]


def run_contract(chosen: list[str], folder: Path) -> dict[str, set[str]]:
    """Run tests of the contract on broken optimizers; return which of them fail for which."""
    ran = subprocess.run(  # noqa: S603
        [
            *(sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml")),
            *("--rootdir", str(ROOT), "-p", "no:cacheprovider", "--tb=no"),
            *("--junitxml", str(folder / "report.xml"), *chosen),
        ],
        cwd=folder,
        # A fixed hash seed, so that what depends on hashes has the same luck each time.
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    found: dict[str, set[str]] = defaultdict(set)
    for case in ET.parse(folder / "report.xml").iter("testcase"):  # noqa: S314  (ours)
        assert case.find("error") is None, ET.tostring(case)
        name = str(case.get("classname")).rpartition(".Test")[2]
        found[name].update(
            [str(case.get("name")).partition("[")[0]] if case.find("failure") is not None else []
        )
    return found


@pytest.mark.parametrize("name", FAULTS | MORE_FAULTS)
def test_a_fault_is_found(name: str, failed: dict[str, set[str]]) -> None:
    assert failed[name] == (FAULTS | MORE_FAULTS)[name]


@pytest.mark.slow
def test_a_fault_is_found_only_by_the_tests_that_are_about_it(tmp_path: Path) -> None:
    chosen = [test for name in FAULTS for test in all_tests_of(name)]

    assert run_contract(chosen, tmp_path) == FAULTS


def test_every_test_of_the_contract_finds_a_fault() -> None:
    tests = {name for name in dir(OptimizerContract) if name.startswith("test_")}
    proven = set().union(*FAULTS.values(), *MORE_FAULTS.values())

    assert tests == proven | {"test_the_number_of_threads_plays_no_part"}


class TorchOfThreads(ModuleType):
    """Stands in for torch, of which the contract needs nothing else here."""

    threads = 4

    def get_num_threads(self) -> int:
        return self.threads

    def set_num_threads(self, threads: int) -> None:
        self.threads = threads


def test_a_dependence_on_threads_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = TorchOfThreads("torch")
    monkeypatch.setitem(sys.modules, "torch", torch)

    contract_of("Sound").test_the_number_of_threads_plays_no_part()
    with pytest.raises(AssertionError, match="the number of torch threads changes"):
        contract_of("DependsOnThreads").test_the_number_of_threads_plays_no_part()
    assert torch.threads == 4


def test_every_broken_optimizer_is_looked_at() -> None:
    contracts = {name.removeprefix("Test") for name in vars(broken_optimizers) if "Test" in name}

    assert contracts == {*FAULTS, *MORE_FAULTS, "DependsOnThreads"}


# How it is used -------------------------------------------------------------------------------


def contract_of(optimizer: str) -> Any:
    return getattr(broken_optimizers, f"Test{optimizer}")()


def test_a_failure_names_the_optimizer_and_what_it_did() -> None:
    with pytest.raises(AssertionError, match=r"LeaksNumpyScalars suggests np\.float64.*plain"):
        contract_of("LeaksNumpyScalars").test_everything_at_once()


def test_a_failure_names_what_was_changed() -> None:
    with pytest.raises(AssertionError, match=r"TestWritesFiles leaves the files \['log.txt'\]"):
        contract_of("WritesFiles").test_a_fresh_process_stays_as_it_was()


def test_what_is_not_declared_must_be_refused() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"DeclaresTooLittle does not declare.*'anyth"):
        contract_of("DeclaresTooLittle").test_every_kind_of_parameter("anything")


USER = """
from crystallize_opt.adapters import RandomOptimizer
from crystallize_opt.testing import OptimizerContract

class TestMine(OptimizerContract):
    known_gaps = {gaps}

    def make_optimizer(self, space, objective, *, constraints=(), seed=0):
        return RandomOptimizer(space, objective, constraints=constraints, seed=seed, **{options})
"""


def test_a_users_test_module_needs_six_lines(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(USER.format(gaps={}, options={}))

    outcome = pytester.runpytest_inprocess("-k", "seed")

    # Same seed (0 and 1), in another process, another seed, no seed.
    assert outcome.parseoutcomes()["passed"] == 5


def test_a_known_gap_is_an_expected_failure(pytester: pytest.Pytester) -> None:
    gaps = {"test_a_finite_space_ends[one point]": "repeats points"}
    file = pytester.makepyfile(USER.format(gaps=gaps, options={"duplicates": True}))

    outcome = pytester.runpytest_inprocess(
        "-rx", f"{file}::TestMine::test_a_finite_space_ends[one point]"
    )

    outcome.assert_outcomes(xfailed=1)
    outcome.stdout.fnmatch_lines(["*repeats points*"])


def test_a_gap_that_has_been_closed_must_go(pytester: pytest.Pytester) -> None:
    gaps = {"test_a_finite_space_ends": "repeats points"}
    file = pytester.makepyfile(USER.format(gaps=gaps, options={}))

    outcome = pytester.runpytest_inprocess(f"{file}::TestMine::test_a_finite_space_ends[one point]")

    outcome.assert_outcomes(failed=1)
    outcome.stdout.fnmatch_lines(["*XPASS(strict)*repeats points*"])


def test_a_gap_of_no_test_is_refused() -> None:
    with pytest.raises(TypeError, match="names 'test_a_finite_spice'"):
        type("TestMine", (OptimizerContract,), {"known_gaps": {"test_a_finite_spice": "typo"}})


def test_a_contract_without_a_factory_cannot_be_built() -> None:
    class TestMine(OptimizerContract):
        """Lacks make_optimizer."""

    with pytest.raises(TypeError, match="make_optimizer"):
        TestMine()  # type: ignore[abstract]


def test_a_contract_within_a_function_says_what_to_do() -> None:
    class TestMine(OptimizerContract):
        def make_optimizer(self, *_: Any, **__: Any) -> RandomOptimizer:
            return RandomOptimizer({"x": (0.0, 1.0)}, Objective("loss", "minimize"))

    with pytest.raises(pytest.fail.Exception, match="at the top level of a module"):
        TestMine().test_a_fresh_process_stays_as_it_was()


def test_nothing_but_the_users_tests_imports_pytest(tmp_path: Path) -> None:
    code = """
import sys, crystallize_opt, crystallize_opt.adapters
print([name for name in sys.modules if "pytest" in name or name == "crystallize_opt.testing"])
"""
    shown = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert shown.stdout.split() == ["[]"]
