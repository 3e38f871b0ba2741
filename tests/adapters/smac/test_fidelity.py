"""Multi-fidelity: budgets, and which facade takes them."""

from __future__ import annotations

from pathlib import Path

import pytest
from smac import HyperbandFacade, MultiFidelityFacade, Scenario
from smac.initial_design import RandomInitialDesign
from smac.intensifier import SuccessiveHalving

from crystallize_opt import Float, Integer, Objective, Observation, SearchSpace, Treatment
from crystallize_opt.adapters import SMACOptimizer
from crystallize_opt.errors import UnsupportedSpaceError, UsageError
from crystallize_opt.optimizers.unique import Dropped
from tests.adapters.smac.native import FEW_CANDIDATES, LOSS, SQUARE, fail

SPACE = {**SQUARE, "t": Integer(1, 9, fidelity=True)}


def test_a_fidelity_is_raised_for_trials_that_do_well() -> None:
    space = {"epochs": Integer(1, 9, fidelity=True), **SQUARE}
    optimizer = SMACOptimizer(
        space,
        LOSS,
        seed=0,
        facade=MultiFidelityFacade,
        facade_options={**FEW_CANDIDATES, "initial_design": {"n_configs": 20, "max_ratio": 1.0}},
    )
    for _ in range(13):
        (treatment,) = optimizer.ask()
        assert list(treatment.params) == ["epochs", "x", "y"]
        assert type(treatment.params["epochs"]) is int
        # The loss grows with the budget: the best is not the least loss of all.
        loss = treatment.params["x"] + treatment.params["epochs"]
        optimizer.tell({"loss": loss})
    told_with = [o.treatment.params for o in optimizer.observations]
    assert [params["epochs"] for params in told_with] == [1] * 9 + [3] * 3 + [9]
    best = min(told_with[:9], key=lambda params: params["x"])
    assert told_with[-1] == {**best, "epochs": 9}
    # A single trial is the best of nothing: the best of three is the same point with 3 epochs.
    assert optimizer.get_best_treatment().params == {**best, "epochs": 3}
    assert optimizer.pareto_front()[0].treatment.params == {**best, "epochs": 3}
    for _ in range(6):
        (treatment,) = optimizer.ask()
        optimizer.tell({"loss": treatment.params["x"] + treatment.params["epochs"]})
    assert optimizer.get_best_treatment().params["epochs"] == 9


def test_a_failed_trial_is_not_promoted() -> None:
    optimizer = SMACOptimizer(
        {"t": Float(1.0, 10.0, fidelity=True), **SQUARE},
        LOSS,
        seed=0,
        facade=MultiFidelityFacade,
        facade_options={**FEW_CANDIDATES, "initial_design": {"n_configs": 20, "max_ratio": 1.0}},
    )
    failed = [fail(optimizer).params["x"] for _ in range(6)]
    good = []
    for _ in range(6):
        (treatment,) = optimizer.ask()
        good.append((treatment.params["t"], treatment.params["x"]))
        optimizer.tell({"loss": 1e6})
    assert [t for t, _ in good] == pytest.approx([10 / 9] * 3 + [10 / 3] * 3)
    assert not {x for _, x in good[3:]} & set(failed)
    # Told with the budget that SMAC knows, not with another one.
    point = {"t": good[-1][0], "x": 0.5, "y": 0.5}
    optimizer.attach(Observation(Treatment("old", point), {"loss": 1.0}))
    assert len({key.budget for key in optimizer.facade.runhistory}) == 2


def test_a_facade_and_a_fidelity_go_together() -> None:
    with pytest.raises(UsageError, match="fidelity=True"):
        SMACOptimizer(SQUARE, LOSS, facade=MultiFidelityFacade)
    with pytest.raises(UnsupportedSpaceError, match=r"'t', Integer\(1, 9, fidelity=True\).*Multi"):
        SMACOptimizer(SPACE, LOSS)


def test_a_facade_whose_intensifier_has_budgets_takes_a_fidelity() -> None:
    """Successive halving is an intensifier of SMAC, and no facade has it by default."""
    optimizer = SMACOptimizer(
        SPACE, LOSS, seed=0, facade=HyperbandFacade, facade_options={"intensifier": halving}
    )
    assert optimizer.capabilities.fidelity
    for _ in range(26):
        (treatment,) = optimizer.ask()
        optimizer.tell({"loss": treatment.params["x"]})
    told = [each.treatment.params["t"] for each in optimizer.observations]
    assert told == ([1] * 9 + [3] * 3 + [9]) * 2  # One bracket, again and again.


def halving(scenario: Scenario) -> SuccessiveHalving:
    return SuccessiveHalving(scenario)


@pytest.mark.parametrize("smac_defaults", [False, True])
@pytest.mark.parametrize("several", [False, True])
def test_budgets_go_with_constraints_and_with_several_objectives(
    several: bool, smac_defaults: bool
) -> None:
    """`x + y <= 1` is not a relation of ConfigSpace, whose copies of the space keep it, too."""
    space = SearchSpace({**SPACE, "k": ["a", "b"]}, ["x + y <= 1", "x <= y"])
    optimizer = SMACOptimizer(
        space,
        [LOSS, Objective("gain", "maximize")] if several else LOSS,
        seed=0,
        facade=HyperbandFacade,
        smac_defaults=smac_defaults,
        facade_options={"initial_design": random_points},
    )
    for _ in range(25):
        (treatment,) = optimizer.ask()
        x, y = treatment.params["x"], treatment.params["y"]
        optimizer.tell({"loss": y + 1 / treatment.params["t"], "gain": x})
    suggested = [each.treatment.params for each in optimizer.observations]

    assert all(
        params["x"] + params["y"] <= 1 and params["x"] <= params["y"] for params in suggested
    )
    assert [params["t"] for params in suggested[:13]] == [1] * 9 + [3] * 3 + [9]
    assert all(each.treatment.params["t"] == 9 for each in optimizer.pareto_front())


def random_points(scenario: Scenario) -> RandomInitialDesign:
    return RandomInitialDesign(scenario, n_configs=20, max_ratio=1.0)


def test_a_discarded_suggestion_is_not_promoted() -> None:
    """SMAC compares all trials of a bracket, and the least costs here are above 0."""
    optimizer = SMACOptimizer(SPACE, LOSS, seed=0, facade=HyperbandFacade)
    suggestion = optimizer._suggest()
    assert suggestion is not None
    handle, discarded = suggestion
    optimizer._drop(handle, Dropped.INFEASIBLE)
    for number in range(8 + 3):
        optimizer.ask()
        optimizer.tell({"loss": 5.0 + number})
    promoted = [o.treatment.params for o in optimizer.observations[8:]]

    assert [params["t"] for params in promoted] == [3, 3, 3]
    assert discarded["x"] not in [params["x"] for params in promoted]


def test_a_table_of_trials_has_the_fidelity_and_can_be_attached(tmp_path: Path) -> None:
    optimizer = SMACOptimizer(SPACE, LOSS, seed=0, facade=HyperbandFacade)
    for _ in range(15):
        (treatment,) = optimizer.ask()
        optimizer.tell({"loss": treatment.params["x"] + 1 / treatment.params["t"]})
    history = optimizer.history
    history.to_csv(tmp_path / "trials.csv")
    again = SMACOptimizer(SPACE, LOSS, seed=1, facade=HyperbandFacade)
    again.attach(tmp_path / "trials.csv")

    assert list(history.to_frame()["params.t"]) == [1] * 9 + [3] * 3 + [9] + [3] * 2
    assert again.history.best_params == history.best_params
    assert [o.params for o in again.observations] == [o.params for o in history]
    # The nine trials with the lowest fidelity have competed, so SMAC begins with other points.
    (treatment,) = again.ask()
    assert treatment.params["t"] == 1
    assert treatment.params["x"] not in [o.params["x"] for o in history]


@pytest.mark.parametrize("interrupted", [False, True])
def test_the_trials_that_race_are_those_that_may_be_promoted(interrupted: bool) -> None:
    """Also after an interrupted ask, when the search is repeated on another facade."""
    optimizer = SMACOptimizer(SPACE, LOSS, seed=0, facade=HyperbandFacade)
    assert SMACOptimizer(SQUARE, LOSS, seed=0).racing() is None
    racing = []
    for number in range(14):
        (treatment,) = optimizer.ask()
        racing.append(sorted(int(name.removeprefix("trial_")) for name in optimizer.racing() or ()))
        optimizer.tell({"loss": treatment.params["x"]})
        if interrupted and number in (4, 10):
            optimizer._run._broken = True  # As after a KeyboardInterrupt within SMAC.
    promoted = [o.params["x"] for o in optimizer.observations if o.params["t"] == 3]
    first = [n for n, o in enumerate(optimizer.observations) if o.params["x"] in promoted and n < 9]

    assert racing[:9] == [list(range(number)) for number in range(9)]
    assert racing[9:12] == [first, [*first, 9], [*first, 9, 10]]
    assert len(racing[12]) == 2  # One configuration, with one and with three epochs.
    assert racing[13] == []


def test_an_enqueued_point_has_the_highest_fidelity_unless_it_says_another_one() -> None:
    optimizer = SMACOptimizer(SPACE, LOSS, seed=0, facade=HyperbandFacade)
    optimizer.enqueue({"x": 0.5}, {"x": 0.25, "y": 0.5}, {"t": 2})
    assert [each.params["t"] for each in optimizer.ask(4)] == [9, 9, 2, 1]


def test_a_choice_of_incumbents_that_smac_cannot_make_is_refused() -> None:
    for selection in ("any_budget", "highest_observed_budget"):
        with pytest.raises(UsageError, match=selection):
            SMACOptimizer(
                SPACE,
                [LOSS, Objective("gain", "maximize")],
                facade=HyperbandFacade,
                facade_options={"intensifier": {"incumbent_selection": selection}},
            )
