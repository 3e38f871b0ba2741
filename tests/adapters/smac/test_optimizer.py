"""SMACOptimizer: what SMAC is told, pending trials, finite spaces, interruptions, budgets."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from crystallize_opt import (
    Constraint,
    Experiment,
    Float,
    FrozenContext,
    Integer,
    Objective,
    Observation,
    Pipeline,
    SearchSpace,
    SpaceExhausted,
    Status,
    Treatment,
    data_source,
    pipeline_step,
)
from crystallize_opt.adapters import SMACOptimizer
from crystallize_opt.adapters.smac.optimizer import importing_smac
from crystallize_opt.errors import (
    CrystallizeOptError,
    NoCompletedTrialError,
    UnsupportedSpaceError,
    UsageError,
)

with importing_smac():  # pytest turns the warnings of its dependencies into errors
    from smac import (
        AlgorithmConfigurationFacade,
        BlackBoxFacade,
        HyperparameterOptimizationFacade,
        MultiFidelityFacade,
        RandomFacade,
        Scenario,
    )
    from smac.random_design import ProbabilityRandomDesign
    from smac.runhistory import StatusType, TrialInfo, TrialValue

from tests.adapters.parity import any_loss, exactly, search
from tests.adapters.smac.native import LOSS, MIXED, SQUARE, Facade, fail, told

# Told right ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [s for s in Status if s is not Status.COMPLETED])
def test_a_failed_trial_is_told_as_a_little_worse_than_the_worst(status: Status) -> None:
    optimizer = SMACOptimizer(SQUARE, Objective("gain", "maximize"), seed=0)
    for gain in (5.0, 1.0):
        optimizer.ask()
        optimizer.tell({"gain": gain})
    fail(optimizer, status)

    assert told(optimizer) == [
        (-5.0, StatusType.SUCCESS),
        (-1.0, StatusType.SUCCESS),
        (pytest.approx(-0.6), StatusType.CRASHED),
    ]
    # A new worst one, and the failure is told again.
    optimizer.ask()
    optimizer.tell({"gain": -5.0})
    assert told(optimizer)[2] == (pytest.approx(6.0), StatusType.CRASHED)
    assert optimizer.get_best_treatment().name == "trial_0"
    infos = [value.additional_info for value in optimizer.facade.runhistory.values()]
    assert [info["status"] for info in infos] == ["completed", "completed", status, "completed"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, "text", [1.0]])
def test_what_is_no_finite_number_is_never_told(value: Any) -> None:
    optimizer = SMACOptimizer(SQUARE, LOSS, seed=0, n_init=2)
    for loss in (1.0, value, 2.0):
        (treatment,) = optimizer.ask()
        optimizer.tell(Observation(treatment, {"loss": loss}))

    assert optimizer.observations[1].status is Status.INVALID
    assert told(optimizer)[1] == (pytest.approx(2.1), StatusType.CRASHED)
    search(optimizer, 1)


def test_a_missing_metric_is_a_failure() -> None:
    optimizer = SMACOptimizer(SQUARE, LOSS, seed=0)
    (treatment,) = optimizer.ask()
    optimizer.tell(Observation(treatment, {"other": 1.0}))

    assert optimizer.observations[0].status is Status.INVALID
    assert told(optimizer) == [(0.0, StatusType.CRASHED)]


def test_after_ten_failures_it_still_suggests_and_nothing_runs() -> None:
    optimizer = SMACOptimizer(SQUARE, LOSS, seed=0, n_init=4)
    failed = [dict(fail(optimizer).params) for _ in range(10)]

    assert len({repr(point) for point in failed}) == 10
    assert optimizer.facade.runhistory.running == 0
    assert all(math.isfinite(cost) for cost, _ in told(optimizer))
    with pytest.raises(NoCompletedTrialError):
        optimizer.get_best_treatment()
    # Nothing is known: the model must not have learned that all ten are equally good.
    assert rows_of_the_model(optimizer) == 0
    optimizer.ask()
    optimizer.tell({"loss": 3.0})
    assert rows_of_the_model(optimizer) == 11
    assert {cost for cost, status in told(optimizer) if status is StatusType.CRASHED} == {3.3}
    search(optimizer, 2)


def rows_of_the_model(optimizer: SMACOptimizer) -> int:
    vectors, costs = optimizer.facade._runhistory_encoder.transform(budget_subset=[None])
    assert len(vectors) == len(costs)
    return len(vectors)


def test_the_model_does_not_learn_from_an_abandoned_trial() -> None:
    optimizer = SMACOptimizer(SQUARE, LOSS, seed=0)
    search(optimizer, 2)
    fail(optimizer, Status.ABANDONED)
    assert rows_of_the_model(optimizer) == 2
    fail(optimizer, Status.FAILED)
    assert rows_of_the_model(optimizer) == 3
    assert optimizer.facade.runhistory.running == 0


def test_huge_and_equal_values_do_not_stop_the_search() -> None:
    for losses in ([1e308, -1e308, 0.0, 5e-324, 1e300], [0.0] * 5, [-7.0] * 5):
        for kind in (HyperparameterOptimizationFacade, AlgorithmConfigurationFacade):
            optimizer = SMACOptimizer(SQUARE, LOSS, seed=0, facade=kind, n_trials=12)
            for loss in losses:
                optimizer.ask()
                optimizer.tell({"loss": loss})
            fail(optimizer)
            assert all(math.isfinite(cost) for cost, _ in told(optimizer))
            search(optimizer, 1)


def test_maximizing_is_minimizing_the_negative() -> None:
    found = []
    for direction, sign in (("maximize", 1), ("minimize", -1)):
        optimizer = SMACOptimizer(SQUARE, Objective("g", direction), seed=1, n_init=3)  # type: ignore[arg-type]
        for _ in range(5):
            (treatment,) = optimizer.ask()
            optimizer.tell({"g": sign * any_loss(treatment.params)})
        found.append([dict(o.treatment.params) for o in optimizer.observations])
        best = optimizer.get_best_treatment().params
        assert any_loss(best) == max(map(any_loss, found[-1]))
    assert found[0] == found[1]


def test_several_objectives() -> None:
    objectives = [Objective("cost", "minimize"), Objective("gain", "maximize")]
    optimizer = SMACOptimizer(SQUARE, objectives, seed=0, n_init=4)
    for number in range(7):
        (treatment,) = optimizer.ask()
        x, y = treatment.params["x"], treatment.params["y"]
        if number == 2:
            optimizer.tell(Observation(treatment, {"cost": 0.0}, Status.FAILED))
        else:
            optimizer.tell({"cost": x, "gain": x - y})

    costs = [o.metrics for o in optimizer.observations]
    known = [cost for cost, status in told(optimizer) if status is StatusType.SUCCESS]
    assert known == [[m["cost"], -m["gain"]] for i, m in enumerate(costs) if i != 2]
    penalty = told(optimizer)[2][0]
    for own, column in zip(penalty, zip(*known, strict=True), strict=True):
        assert own == pytest.approx(max(column) + 0.1 * (max(column) - min(column)))
    assert optimizer.facade.scenario.objectives == ["cost", "gain"]
    assert optimizer.get_best_treatment() in [o.treatment for o in optimizer.pareto_front()]


def test_outcome_constraints_decide_what_is_best() -> None:
    optimizer = SMACOptimizer(SQUARE, LOSS, constraints=[Constraint("size", "<=", 1.0)], seed=0)
    for loss, size in ((1.0, 0.5), (0.0, 2.0)):
        optimizer.ask()
        optimizer.tell({"loss": loss, "size": size})

    assert optimizer.get_best_treatment().name == "trial_0"
    assert [cost for cost, _ in told(optimizer)] == [1.0, 0.0]


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, 12])
def test_a_region_that_always_fails_is_no_trap(first: int) -> None:
    """Half of the square fails, and holds the optimum; in the beginning perhaps all of it."""
    outside = []
    for seed in range(2):
        optimizer = SMACOptimizer(SQUARE, LOSS, seed=seed)
        for number in range(60):
            (treatment,) = optimizer.ask()
            x, y = treatment.params["x"], treatment.params["y"]
            if x < 0.5 or number < first:
                optimizer.tell(Observation(treatment, status=Status.FAILED))
            else:
                optimizer.tell({"loss": (x - 0.25) ** 2 + (y - 0.5) ** 2})
        last = optimizer.observations[-30:]
        outside.append(sum(o.treatment.params["x"] >= 0.5 for o in last))
    assert min(outside) >= 15


def test_an_experiment_end_to_end() -> None:
    @data_source
    def nothing(ctx: FrozenContext) -> None:
        return None

    @pipeline_step()
    def step(data: None, ctx: FrozenContext, *, kind: str = "a", x: float = 1.0) -> None:
        if kind == "b":
            raise ValueError("boom")
        ctx.metrics.add("loss", x**2)

    experiment = Experiment(datasource=nothing(), pipeline=Pipeline([step()]))
    space = {"kind": ["a", "b"], "x": Float(-5.0, 5.0).when(kind="a")}
    optimizer = SMACOptimizer(space, LOSS, seed=0, n_init=8)
    best = experiment.optimize(optimizer, num_trials=10)

    assert best.params["kind"] == "a"
    assert {o.status for o in optimizer.observations} == {Status.COMPLETED, Status.FAILED}
    assert optimizer.facade.runhistory.finished == 10


# Pending ---------------------------------------------------------------------------------------


def test_many_are_pending_and_told_in_any_order() -> None:
    optimizer = SMACOptimizer(SQUARE, LOSS, seed=0, n_init=4)
    first = optimizer.ask(16)
    assert optimizer.facade.runhistory.running == 16
    for treatment in random.Random(0).sample(first, 16):
        optimizer.tell(Observation(treatment, {"loss": any_loss(treatment.params)}))
    asked = [*first, *optimizer.ask(3)]

    assert len({repr(dict(treatment.params)) for treatment in asked}) == 19
    assert optimizer.facade.runhistory.finished == 16
    costs = {dict(i.config)["x"]: v.cost for i, v in finished(optimizer)}
    assert costs == {t.params["x"]: any_loss(t.params) for t in first}


def finished(optimizer: SMACOptimizer) -> list[tuple[TrialInfo, TrialValue]]:
    history = optimizer.facade.runhistory
    return [
        (TrialInfo(history.get_config(key.config_id)), value)
        for key, value in history.items()
        if value.status is not StatusType.RUNNING
    ]


def test_the_order_of_tells_between_two_asks_plays_no_part() -> None:
    found = []
    for order in (1, -1):
        optimizer = SMACOptimizer(SQUARE, LOSS, seed=0, n_init=4)
        for treatment in optimizer.ask(4)[::order]:
            optimizer.tell(Observation(treatment, {"loss": any_loss(treatment.params)}))
        found.append([dict(treatment.params) for treatment in optimizer.ask(2)])
    assert found[0] == found[1]


def test_pending_points_keep_their_distance() -> None:
    """A Gaussian process that knows of none suggests the same point again, but for a rounding."""
    nearest = []
    for smac_defaults in (True, False):
        optimizer = SMACOptimizer(
            SQUARE,
            LOSS,
            seed=0,
            facade=BlackBoxFacade,
            n_init=8,
            smac_defaults=smac_defaults,
            facade_options={"random_design": {"probability": 0.0}},
        )
        for treatment in optimizer.ask(8):
            x, y = treatment.params["x"], treatment.params["y"]
            optimizer.tell(Observation(treatment, {"loss": (x - 0.4) ** 2 + (y - 0.6) ** 2}))
        asked = [tuple(treatment.params.values()) for treatment in optimizer.ask(3)]
        nearest.append(min(math.dist(a, b) for i, a in enumerate(asked) for b in asked[:i]))
    assert nearest[0] < 0.01 < nearest[1]


def test_what_is_pending_is_in_the_model_until_it_is_told() -> None:
    optimizer = SMACOptimizer(SQUARE, LOSS, seed=0)
    search(optimizer, 3)
    (treatment,) = optimizer.ask()
    assert rows_of_the_model(optimizer) == 4
    optimizer.tell(Observation(treatment, {"loss": 0.0}))
    assert rows_of_the_model(optimizer) == 4


# Finite spaces ---------------------------------------------------------------------------------

SMALL = SearchSpace({"a": (1, 4), "b": (1, 4), "c": Integer(0, 1).when(a=1)}, ["a <= b"])


@pytest.mark.parametrize("kind", [HyperparameterOptimizationFacade, RandomFacade])
@pytest.mark.parametrize("batch", [1, 5])
def test_a_finite_space_is_used_up_and_no_further(kind: Facade, batch: int) -> None:
    optimizer = SMACOptimizer(SMALL, LOSS, seed=0, facade=kind, n_trials=40)
    every = {SMALL.key(point) for point in SMALL.points()}
    seen: list[Any] = []
    while len(seen) < len(every):
        for treatment in optimizer.ask(batch):
            seen.append(SMALL.key(treatment.params))
            optimizer.tell(Observation(treatment, {"loss": any_loss(treatment.params)}))
    assert len(seen) == len(every) == 14
    assert set(seen) == every
    for _ in range(2):
        with pytest.raises(SpaceExhausted):
            optimizer.ask()
    assert optimizer.facade.runhistory.finished == 14
    assert optimizer.facade.runhistory.running == 0


def test_a_finite_space_ends_while_nothing_is_told() -> None:
    optimizer = SMACOptimizer(SMALL, LOSS, seed=0)
    asked = optimizer.ask(20)
    assert len({SMALL.key(treatment.params) for treatment in asked}) == len(asked) == 14
    with pytest.raises(SpaceExhausted):
        optimizer.ask()
    for treatment in asked:
        optimizer.tell(Observation(treatment, {"loss": any_loss(treatment.params)}))
    with pytest.raises(SpaceExhausted):
        optimizer.ask()
    assert optimizer.facade.runhistory.finished == 14


def test_a_finite_space_ends_while_everything_fails() -> None:
    optimizer = SMACOptimizer(SMALL, LOSS, seed=0)
    for _ in range(14):
        fail(optimizer)
    with pytest.raises(SpaceExhausted):
        optimizer.ask()


def test_a_large_finite_space_does_not_end_early() -> None:
    """SMAC gives up after 16 draws that were suggested before: here with few points left."""
    space = SearchSpace({"a": (1, 12), "b": (1, 12)})
    optimizer = SMACOptimizer(space, LOSS, seed=0, facade=RandomFacade)
    found = search(optimizer, 200)

    assert len({repr(point) for point in found}) == len(found) == 144


def test_a_huge_space_with_a_point_that_is_suggested_over_and_over() -> None:
    space = {"kind": ["one", "many"], "n": Integer(1, 10**9).when(kind="many")}
    optimizer = SMACOptimizer(space, LOSS, seed=0, facade=RandomFacade)
    found = search(optimizer, 100)

    assert len({repr(point) for point in found}) == len(found) == 100


def test_attached_points_are_not_suggested() -> None:
    optimizer = SMACOptimizer(SMALL, LOSS, seed=0)
    known = list(SMALL.points())[::2]
    optimizer.attach(
        [Observation(Treatment(f"old_{i}", p), {"loss": any_loss(p)}) for i, p in enumerate(known)]
    )
    found = search(optimizer, 20)

    assert len(found) == 7
    assert not {repr(point) for point in found} & {repr(point) for point in known}


# Attach ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [0, 2])
def test_attached_trials_are_like_its_own(before: int) -> None:
    """Also before the first ask: the same seed, so they can become the incumbent."""
    optimizer = SMACOptimizer(MIXED, LOSS, seed=0, n_init=3)
    search(optimizer, before)
    point = {
        "x": 0.3,
        "rate": 1e-3,
        "n": 7,
        "grid": 0.3,
        "kind": 1,
        "size": "m",
        "fixed": (1, 2),
    }
    optimizer.attach(Observation(Treatment("mine", point), {"loss": -1.0}))
    optimizer.attach(Observation(Treatment("bad", {**point, "n": 8}), status=Status.FAILED))
    search(optimizer, 4)

    history = optimizer.facade.runhistory
    assert len({key.seed for key in history}) == 1
    incumbent = optimizer.facade.intensifier.get_incumbent()
    assert incumbent is not None
    assert incumbent["n"] == 7
    assert rows_of_the_model(optimizer) == before + 6
    assert sum(status is StatusType.CRASHED for _, status in told(optimizer)) == 1


def test_the_seed_of_attached_trials_is_that_of_smac() -> None:
    seeds = []
    for attach in (True, False):
        optimizer = SMACOptimizer(SQUARE, LOSS, seed=0)
        if attach:
            optimizer.attach(Observation(Treatment("mine", {"x": 0.5, "y": 0.5}), {"loss": 1.0}))
        optimizer.ask()
        seeds.append({key.seed for key in optimizer.facade.runhistory})
    assert seeds == [{209652396}, {209652396}]


# Interrupted -----------------------------------------------------------------------------------


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
@pytest.mark.parametrize("smac_defaults", [False, True])
def test_an_interrupted_ask_does_not_end_the_search(kind: Facade, smac_defaults: bool) -> None:
    """What comes afterwards is what would have come without the interruption."""
    found = []
    for at in (3, 10**9):
        optimizer = SMACOptimizer(
            SQUARE,
            LOSS,
            seed=0,
            facade=kind,
            n_init=3,
            smac_defaults=smac_defaults,
            facade_options={"random_design": Interrupts(at)},
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
        optimizer = SMACOptimizer(
            MIXED, LOSS, seed=0, n_init=3, facade_options={"random_design": Interrupts(at)}
        )
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


# Multi-fidelity --------------------------------------------------------------------------------


def test_a_fidelity_is_raised_for_trials_that_do_well() -> None:
    space = {"epochs": Integer(1, 9), **SQUARE}
    optimizer = SMACOptimizer(
        space,
        LOSS,
        seed=0,
        facade=MultiFidelityFacade,
        fidelity="epochs",
        facade_options={"initial_design": {"n_configs": 20, "max_ratio": 1.0}},
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
    assert optimizer.get_best_treatment().params == told_with[-1]
    assert optimizer.pareto_front()[0].treatment.params == told_with[-1]


def test_a_failed_trial_is_not_promoted() -> None:
    optimizer = SMACOptimizer(
        {"t": Float(1.0, 10.0), **SQUARE},
        LOSS,
        seed=0,
        facade=MultiFidelityFacade,
        fidelity="t",
        facade_options={"initial_design": {"n_configs": 20, "max_ratio": 1.0}},
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


@pytest.mark.parametrize(
    ("space", "fidelity", "error"),
    [
        (SQUARE, "epochs", UsageError),
        (SQUARE, "x", UsageError),
        ({**SQUARE, "k": [1, 2]}, "k", UsageError),
        ({**SQUARE, "t": Integer(1, 9, step=2)}, "t", UnsupportedSpaceError),
        ({**SQUARE, "k": [1, 2], "t": Integer(1, 9).when(k=1)}, "t", UnsupportedSpaceError),
        ({"t": Integer(1, 9), "x": Float(0, 1).when(t=1)}, "t", UnsupportedSpaceError),
        (SearchSpace({"t": (1, 9), "n": (1, 9)}, ["n <= t"]), "t", UnsupportedSpaceError),
    ],
)
def test_a_fidelity_that_smac_cannot_use_is_refused(
    space: Any, fidelity: str, error: type[CrystallizeOptError]
) -> None:
    with pytest.raises(error, match=repr(fidelity)):
        SMACOptimizer(space, LOSS, facade=MultiFidelityFacade, fidelity=fidelity)


def test_a_facade_and_its_budget_go_together() -> None:
    with pytest.raises(UsageError, match="fidelity="):
        SMACOptimizer(SQUARE, LOSS, facade=MultiFidelityFacade)
    with pytest.raises(UsageError, match="MultiFidelityFacade"):
        SMACOptimizer({**SQUARE, "t": (1, 9)}, LOSS, fidelity="t")


# Options ---------------------------------------------------------------------------------------


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
        ({"n_init": 101}, "n_trials=100"),
        ({"n_init": 2.0}, "n_init="),
        ({"facade": RandomFacade, "n_init": 3}, "n_init= does not go with RandomFacade"),
        ({"facade_options": {"modle": {}}}, "'modle'.*model"),
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        SMACOptimizer(SQUARE, LOSS, **options)


def test_seeds() -> None:
    zero, again, one = (search(SMACOptimizer(SQUARE, LOSS, seed=s), 3) for s in (0, 0, 1))
    assert zero == again != one
    largest = SMACOptimizer(SQUARE, LOSS, seed=2**32 - 1, n_init=2)
    assert len(search(largest, 3)) == 3
    assert search(SMACOptimizer(SQUARE, LOSS), 3) != search(SMACOptimizer(SQUARE, LOSS), 3)


def test_a_replay_suggests_the_same() -> None:
    recorded = SMACOptimizer(MIXED, LOSS, seed=0, n_init=3)
    first, second = recorded.ask(2)
    recorded.tell(Observation(second, {"loss": 1.0}))
    fail(recorded)
    recorded.tell(Observation(first, {"loss": 2.0}))
    search(recorded, 2)
    fresh = SMACOptimizer(MIXED, LOSS, seed=0, n_init=3)
    fresh.replay(recorded.events)

    assert exactly(search(fresh, 1)) == exactly(search(recorded, 1))
    assert set(fresh.versions) >= {"smac", "ConfigSpace"}
