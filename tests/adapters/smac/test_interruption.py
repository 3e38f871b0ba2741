"""An interrupted ask is repeated; a replay suggests the same."""

from __future__ import annotations

from typing import Any

import pytest
from smac import BlackBoxFacade, HyperparameterOptimizationFacade, Scenario
from smac.random_design import ProbabilityRandomDesign

from crystallize_opt import Observation, Status, Treatment
from crystallize_opt.adapters import SMACOptimizer
from tests.adapters.parity import any_loss, exactly, search
from tests.adapters.smac.native import FEW_CANDIDATES, LOSS, MIXED, SQUARE, Facade, fail


class Interrupts:
    """A random design that raises in the middle of one ask, once."""

    def __init__(self, at: int) -> None:
        self.checks = 0
        self.at = at

    def __call__(self, scenario: Scenario) -> ProbabilityRandomDesign:
        counter = self

        class Design(ProbabilityRandomDesign):
            def check(self, iteration: int) -> bool:
                counter.checks += 1
                if counter.checks == counter.at:
                    raise KeyboardInterrupt
                return super().check(iteration)

        return Design(probability=0.5, seed=scenario.seed)


@pytest.mark.parametrize(
    "kind",
    [HyperparameterOptimizationFacade, pytest.param(BlackBoxFacade, marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("smac_defaults", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_an_interrupted_ask_does_not_end_the_search(kind: Facade, smac_defaults: bool) -> None:
    """What comes afterwards is what would have come without the interruption."""
    found = []
    candidates = {} if smac_defaults else FEW_CANDIDATES  # Few of SMAC's own run out too early.
    for at in (3, 10**9):
        optimizer = SMACOptimizer(
            SQUARE,
            LOSS,
            seed=0,
            facade=kind,
            n_init=4,  # of which the attached trial replaces one
            smac_defaults=smac_defaults,
            facade_options={**candidates, "random_design": Interrupts(at)},
        )
        optimizer.attach(Observation(Treatment("old", {"x": 0.1, "y": 0.2}), {"loss": 2.0}))
        (pending,) = optimizer.ask()
        interrupted = 0
        for number in range(7):
            try:
                (treatment,) = optimizer.ask()
            except KeyboardInterrupt:
                interrupted += 1
                # Told while SMAC is out of order, and learned nevertheless.
                optimizer.tell(Observation(pending, {"loss": any_loss(pending.params)}))
                (treatment,) = optimizer.ask()
            if at > 100 and number == 4:
                optimizer.tell(Observation(pending, {"loss": any_loss(pending.params)}))
            status = Status.FAILED if number == 1 else Status.COMPLETED
            optimizer.tell(Observation(treatment, {"loss": any_loss(treatment.params)}, status))
        assert interrupted == (at == 3)
        history = optimizer.facade.runhistory
        assert (history.running, history.finished) == (0, 9)
        found.append([dict(o.treatment.params) for o in optimizer.observations])
    assert sorted(map(repr, found[0][:6])) == sorted(map(repr, found[1][:6]))


def test_an_interrupted_ask_is_repeated_exactly(caplog: pytest.LogCaptureFixture) -> None:
    found = []
    for at in (3, 10**9):
        options = {**FEW_CANDIDATES, "random_design": Interrupts(at)}
        optimizer = SMACOptimizer(MIXED, LOSS, seed=0, n_init=3, facade_options=options)
        points_: list[dict[str, Any]] = []
        while len(points_) < 8:
            try:
                points_ += search(optimizer, 1)
            except KeyboardInterrupt:
                assert optimizer.pending == []
        found.append(points_)
        assert optimizer.facade.runhistory.finished == 8
    assert exactly(found[0]) == exactly(found[1])


def test_a_component_that_keeps_a_state_is_found_out() -> None:
    """It would make other suggestions the second time: better an error than a wrong replay."""
    calls = iter(range(99))

    def design(scenario: Scenario) -> Any:
        start = next(calls)
        return HyperparameterOptimizationFacade.get_initial_design(
            scenario, n_configs=3 + start, max_ratio=1.0
        )

    optimizer = SMACOptimizer(
        SQUARE,
        LOSS,
        seed=0,
        facade_options={"initial_design": design, "random_design": Interrupts(1)},
    )
    search(optimizer, 3)
    with pytest.raises(KeyboardInterrupt):
        optimizer.ask()
    search_again = optimizer.ask()  # the first three points of the design are the same
    assert len(search_again) == 1


# Replay -------------------------------------------------------------------------------------------


def test_a_replay_suggests_the_same() -> None:
    recorded = SMACOptimizer(MIXED, LOSS, seed=0, n_init=3, facade_options=FEW_CANDIDATES)
    first, second = recorded.ask(2)
    recorded.tell(Observation(second, {"loss": 1.0}))
    fail(recorded)
    recorded.tell(Observation(first, {"loss": 2.0}))
    search(recorded, 2)
    fresh = SMACOptimizer(MIXED, LOSS, seed=0, n_init=3, facade_options=FEW_CANDIDATES)
    fresh.replay(recorded.events)

    assert exactly(search(fresh, 1)) == exactly(search(recorded, 1))
    assert set(fresh.versions) >= {"smac", "ConfigSpace"}
