"""OptunaOptimizer against Optuna itself."""

from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.samplers import (
    BaseSampler,
    BruteForceSampler,
    CmaEsSampler,
    GPSampler,
    GridSampler,
    NSGAIIISampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import Trial, TrialState

from crystallize_opt import (
    Categorical,
    Constant,
    Constraint,
    CrystallizeOptError,
    Experiment,
    Float,
    FrozenContext,
    Integer,
    Objective,
    Observation,
    Ordinal,
    Pipeline,
    SearchSpace,
    SpaceExhausted,
    Status,
    data_source,
    pipeline_step,
)
from crystallize_opt.adapters import OptunaOptimizer
from crystallize_opt.adapters.optuna.optimizer import _generators, _restore, _written
from crystallize_opt.errors import (
    MissingExtraError,
    NoCompletedTrialError,
    UnsupportedSpaceError,
    UsageError,
)
from crystallize_opt.trials.objective import Direction
from tests.adapters.parity import any_loss, exactly, search
from tests.strategies import spaces

pytestmark = [
    # Optuna marks whole samplers and pruners as experimental; that is no fault of a test.
    pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning"),
]

LOSS = Objective("loss", "minimize")
SQUARE = {"x": (0.0, 1.0), "y": (0.0, 1.0)}

SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "TPE": lambda seed: TPESampler(seed=seed),
    "Random": lambda seed: RandomSampler(seed=seed),
    "CMA-ES": lambda seed: CmaEsSampler(seed=seed, warn_independent_sampling=False),
    "NSGA-II": lambda seed: NSGAIISampler(seed=seed, population_size=6),
    "QMC": lambda seed: QMCSampler(seed=seed, warn_independent_sampling=False),
}


def suggest(trial: Trial, space: SearchSpace) -> dict[str, Any]:
    """Suggest every active parameter in the space's order, as a user of Optuna would."""
    params: dict[str, Any] = {}
    for name, p in space.items():
        if not space.is_active(name, params):
            continue
        match p:
            case Float():
                params[name] = trial.suggest_float(name, p.low, p.high, step=p.step, log=p.log)
            case Integer():
                params[name] = trial.suggest_int(name, p.low, p.high, step=p.step or 1, log=p.log)
            case Ordinal():
                params[name] = p.choices[trial.suggest_int(name, 0, len(p.choices) - 1)]
            case Categorical():
                index = trial.suggest_categorical(name, range(len(p.choices)))
                params[name] = p.choices[index]
            case Constant():
                params[name] = p.value
    return params


def native_suggestions(
    space: SearchSpace, sampler: BaseSampler, trials: int, direction: Direction = "minimize"
) -> list[dict[str, Any]]:
    """The suggestions of `study.optimize`."""
    suggested = []

    def objective(trial: Trial) -> float:
        suggested.append(suggest(trial, space))
        return any_loss(suggested[-1])

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=sampler, direction=direction)
    study.optimize(objective, n_trials=trials)
    optuna.logging.set_verbosity(level)
    return suggested


# Parity with study.optimize -------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLERS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_suggestions_are_those_of_study_optimize(name: str, data: st.DataObject) -> None:
    space = data.draw(spaces(constraints=False))
    seed = data.draw(st.integers(0, 2**32 - 1))
    direction: Direction = data.draw(st.sampled_from(["minimize", "maximize"]))
    # In a small space duplicates are dropped by default. In a larger one they are not, and the end
    # comes when every point has been suggested.
    ours = OptunaOptimizer(
        space,
        Objective("loss", direction),
        sampler=SAMPLERS[name](seed),
        duplicates=True if space.size <= 24 else None,
    )
    native = native_suggestions(space, SAMPLERS[name](seed), 16, direction)
    suggested = search(ours, 16)

    assert exactly(suggested) == exactly(native[: len(suggested)])
    assert len(suggested) == 16 or len({repr(point) for point in suggested}) > 24


def test_suggestions_of_gp_are_those_of_study_optimize() -> None:
    space = SearchSpace(
        {
            "x": (-5.0, 5.0),
            "rate": Float(1e-5, 1.0, log=True),
            "n": (1, 20),
            "kind": Categorical(["a", None, True, 1]),
            "size": Ordinal(["s", "m", "l"]),
        }
    )
    ours = OptunaOptimizer(space, LOSS, sampler=GPSampler(seed=1))

    assert exactly(search(ours, 13)) == exactly(native_suggestions(space, GPSampler(seed=1), 13))


def test_the_default_is_tpe_with_the_seed() -> None:
    space = SearchSpace({"x": (-5.0, 5.0), "kind": ["a", "b"]})

    for seed in (0, 1):
        ours = search(OptunaOptimizer(space, LOSS, seed=seed), 20)
        assert ours == native_suggestions(space, TPESampler(seed=seed), 20)


def test_the_default_for_several_objectives_is_that_of_optuna() -> None:
    objectives = [Objective("a", "minimize"), Objective("b", "maximize")]
    optimizer = OptunaOptimizer(SQUARE, objectives, seed=3)
    study = optuna.create_study(
        directions=["minimize", "maximize"], sampler=TPESampler(seed=3), study_name="native"
    )

    for _ in range(25):
        (treatment,) = optimizer.ask()
        trial = study.ask()
        assert dict(treatment.params) == suggest(trial, optimizer.space)
        x, y = treatment.params.values()
        optimizer.tell({"a": x + y, "b": x - y * y})
        study.tell(trial, [x + y, x - y * y])


def test_the_same_seed_suggests_the_same_in_another_process() -> None:
    code = """
from crystallize_opt import *
from crystallize_opt.adapters import OptunaOptimizer
space = {"x": (-5.0, 5.0), "c": Categorical([None, 1, (1, 2)]), "y": Float(0, 1).when(c={None, 1})}
optimizer = OptunaOptimizer(space, Objective("loss", "minimize"), seed=0)
for trial in range(20):
    (treatment,) = optimizer.ask()
    print(dict(treatment.params))
    optimizer.tell({"loss": treatment.params["x"] ** 2 + trial})
"""
    outputs = {
        subprocess.run(  # noqa: S603
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "7", "8")
    }

    assert len(outputs) == 1
    assert outputs.pop().count("\n") == 20


# Values ---------------------------------------------------------------------------------------


class Estimator:
    """A choice without equality, which Optuna itself cannot handle."""


def test_choices_come_out_as_the_users_own_objects() -> None:
    choices = [None, True, 1, 1.0, "1", (1, 2), [3], Estimator(), Estimator]
    optimizer = OptunaOptimizer(
        {"choice": Categorical(choices), "x": (0.0, 1.0)}, LOSS, sampler=TPESampler(seed=0)
    )
    seen = []
    for _ in range(60):
        (treatment,) = optimizer.ask()
        seen.append(treatment.params["choice"])
        optimizer.tell({"loss": treatment.params["x"]})

    assert {id(choice) for choice in seen} == {id(choice) for choice in choices}


def test_choices_that_optuna_holds_apart_are_readable_in_the_study() -> None:
    optimizer = OptunaOptimizer({"kind": ["a", "b", None], "flag": [True, 1]}, LOSS, seed=0)
    (treatment,) = optimizer.ask()
    optimizer.tell({"loss": 0.0})

    stored = optimizer.study.trials[0].params
    assert stored["kind"] == treatment.params["kind"]
    assert stored["flag"] in (0, 1)  # True == 1, so the study holds the index
    assert (True, 1)[stored["flag"]] is treatment.params["flag"]


def test_a_one_value_space_is_suggested() -> None:
    space = {"a": (2.0, 2.0), "b": (3, 3), "c": ["only"], "d": Constant(None)}
    optimizer = OptunaOptimizer(space, LOSS, seed=0)

    assert [dict(t.params) for t in optimizer.ask(2)] == [
        {"a": 2.0, "b": 3, "c": "only", "d": None}
    ]


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


# Told right -----------------------------------------------------------------------------------

FAILURES = [status for status in Status if status not in (Status.COMPLETED, Status.PRUNED)]
LEARNS: dict[str, tuple[Callable[[], BaseSampler], TrialState]] = {
    "TPE": (lambda: TPESampler(seed=0), TrialState.PRUNED),
    "GP": (lambda: GPSampler(seed=0), TrialState.COMPLETE),
    "CMA-ES": (lambda: CmaEsSampler(seed=0), TrialState.COMPLETE),
    "NSGA-II": (lambda: NSGAIISampler(seed=0), TrialState.COMPLETE),
    "NSGA-III": (lambda: NSGAIIISampler(seed=0), TrialState.COMPLETE),
    "Random": (lambda: RandomSampler(seed=0), TrialState.FAIL),
    "QMC": (lambda: QMCSampler(seed=0), TrialState.FAIL),
}


@pytest.mark.parametrize("name", LEARNS)
@pytest.mark.parametrize("status", FAILURES)
def test_a_failure_is_told_as_the_sampler_learns_from_it(name: str, status: Status) -> None:
    sampler, state = LEARNS[name]
    optimizer = OptunaOptimizer(SQUARE, LOSS, sampler=sampler())
    for loss in (3.0, 7.0, 5.0):
        optimizer.ask()
        optimizer.tell({"loss": loss})
    (treatment,) = optimizer.ask()
    optimizer.tell(Observation(treatment, status=status, error="boom"))

    told = optimizer.study.trials[-1]
    assert told.state is (TrialState.FAIL if status is Status.ABANDONED else state)
    assert told.values == ([7.0] if told.state is TrialState.COMPLETE else None)
    assert told.user_attrs["status"] == status.value
    assert optimizer.pending == []
    assert optimizer.get_best_treatment().name == "trial_0"


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None, "1.5", [0.5]])
def test_what_is_no_finite_number_is_never_told_as_data(bad: Any, direction: Direction) -> None:
    optimizer = OptunaOptimizer(SQUARE, Objective("loss", direction), sampler=GPSampler(seed=0))
    optimizer.ask()
    optimizer.tell({"loss": 1.0})
    optimizer.ask()
    optimizer.tell({"loss": bad})

    assert optimizer.observations[-1].status is Status.INVALID
    assert repr(bad) in str(optimizer.observations[-1].error)
    assert [trial.value for trial in optimizer.study.trials] == [1.0, 1.0]
    assert optimizer.get_best_treatment().name == "trial_0"


@pytest.mark.parametrize("name", ["TPE", "CMA-ES", "NSGA-II", "Random"])
def test_a_failing_region_does_not_trap_the_search(name: str) -> None:
    """Half of the space fails, and holds the unconstrained optimum."""
    outside = 0
    for seed in range(4):
        optimizer = OptunaOptimizer(SQUARE, LOSS, sampler=SAMPLERS[name](seed))
        for trial in range(60):
            (treatment,) = optimizer.ask()
            x, y = treatment.params.values()
            if x < 0.5:
                optimizer.tell(Observation(treatment, status=Status.FAILED, error="boom"))
            else:
                optimizer.tell({"loss": (x - 0.25) ** 2 + (y - 0.5) ** 2})
                outside += trial >= 30

    # At least half on average over the seeds; a sampler that learns nothing has half.
    assert outside >= (4 * 15 if name != "Random" else 4 * 12)


def test_after_many_failures_it_still_suggests() -> None:
    for name in SAMPLERS:
        optimizer = OptunaOptimizer(SQUARE, LOSS, sampler=SAMPLERS[name](0))
        points = set()
        for _ in range(15):
            (treatment,) = optimizer.ask()
            points.add(tuple(treatment.params.values()))
            optimizer.tell(Observation(treatment, status=Status.FAILED, error="boom"))
        assert len(points) == 15
        assert all(trial.state.is_finished() for trial in optimizer.study.trials)
        with pytest.raises(NoCompletedTrialError, match=r"none of 15 trials completed.*boom"):
            optimizer.get_best_treatment()


def test_an_ask_that_raises_leaves_no_trial_running() -> None:
    class Broken(RandomSampler):
        def sample_independent(self, *args: Any) -> Any:
            raise RuntimeError("out of ideas")

    for space in (SQUARE, {"x": [1, 2], "y": Float(0, 1).when(x=1)}):
        optimizer = OptunaOptimizer(space, LOSS, sampler=Broken())
        with pytest.raises(RuntimeError, match="out of ideas"):
            optimizer.ask()
        assert [trial.state for trial in optimizer.study.trials] == [TrialState.FAIL]


# Pending --------------------------------------------------------------------------------------


def test_several_pending_are_told_in_any_order() -> None:
    optimizer = OptunaOptimizer(SQUARE, LOSS, seed=0)
    treatments = optimizer.ask(16)
    for treatment in reversed(treatments):
        optimizer.tell(Observation(treatment, {"loss": any_loss(treatment.params)}))

    stored = optimizer.study.trials
    assert [trial.params for trial in stored] == [dict(t.params) for t in treatments]
    assert [trial.value for trial in stored] == [any_loss(t.params) for t in treatments]
    assert len({tuple(t.params.values()) for t in treatments}) == 16


# Constraints ----------------------------------------------------------------------------------


def linear_samplers() -> list[Callable[[], BaseSampler]]:
    return [
        lambda: TPESampler(seed=0),
        lambda: NSGAIISampler(seed=0, population_size=6),
        lambda: CmaEsSampler(seed=0),
        lambda: RandomSampler(seed=0),
    ]


@pytest.mark.parametrize("sampler", linear_samplers())
def test_linear_constraints_hold_and_do_not_trap(sampler: Callable[[], BaseSampler]) -> None:
    space = SearchSpace({"a": (0.0, 1.0), "b": (0.0, 1.0)}, constraints=["b <= a"])
    optimizer = OptunaOptimizer(space, LOSS, sampler=sampler())
    for _ in range(40):
        (treatment,) = optimizer.ask()
        a, b = treatment.params["a"], treatment.params["b"]
        assert b <= a
        # The optimum without the constraint, b = 0.9 and a = 0.1, violates it.
        optimizer.tell({"loss": (a - 0.1) ** 2 + (b - 0.9) ** 2})

    states = [trial.state for trial in optimizer.study.trials]
    assert TrialState.RUNNING not in states
    assert len(states) < 200  # asked again at most four times for each treatment, on average


def test_a_constraint_that_hardly_ever_holds_is_met_by_a_random_point() -> None:
    space = SearchSpace({"a": (0.0, 1.0), "b": (0.0, 1.0)}, constraints=["a + b <= 0.02"])
    optimizer = OptunaOptimizer(space, LOSS, seed=0)

    (treatment,) = optimizer.ask()

    assert sum(treatment.params.values()) <= 0.02


@pytest.mark.parametrize("sampler", [TPESampler, GPSampler, NSGAIISampler, NSGAIIISampler])
def test_outcome_constraints_reach_the_sampler(sampler: type[BaseSampler]) -> None:
    constraints = [Constraint("latency", "<=", 10.0), Constraint("accuracy", ">=", 0.5)]
    optimizer = OptunaOptimizer(
        SQUARE,
        LOSS,
        constraints=constraints,
        sampler=sampler(seed=0),  # type: ignore[call-arg]
    )
    optimizer.ask()
    optimizer.tell({"loss": 1.0, "latency": 12.0, "accuracy": 0.75})
    optimizer.ask()
    optimizer.tell({"loss": 2.0, "latency": 9.0, "accuracy": 0.75})

    first, second = optimizer.study.trials
    assert list(first.constraints.values()) == [2.0, -0.25]
    assert list(second.constraints.values()) == [-1.0, -0.25]
    assert optimizer.get_best_treatment().name == "trial_1"


def test_gp_gets_every_constraint_on_every_completed_trial() -> None:
    """GPSampler raises in ask() where one lacks; with failures among them, too."""
    space = SearchSpace({"a": (0.0, 1.0), "b": (0.0, 1.0)}, constraints=["b <= a"])
    optimizer = OptunaOptimizer(
        space, LOSS, constraints=[Constraint("g", "<=", 0.0)], sampler=GPSampler(seed=0)
    )
    for trial in range(14):
        (treatment,) = optimizer.ask()
        if trial % 4 == 1:
            optimizer.tell(Observation(treatment, status=Status.TIMED_OUT))
        else:
            a, b = treatment.params.values()
            optimizer.tell({"loss": a + b, "g": a - 0.5})

    completed = [t for t in optimizer.study.trials if t.state is TrialState.COMPLETE]
    assert len(completed) >= 13
    assert {tuple(t.constraints) for t in completed} == {("g <= 0.0", "linear 0")}


# Several objectives ---------------------------------------------------------------------------


def test_several_objectives_with_failures() -> None:
    objectives = [Objective("cost", "minimize"), Objective("gain", "maximize")]
    for sampler in (None, NSGAIISampler(seed=0, population_size=4), GPSampler(seed=0)):
        optimizer = OptunaOptimizer(SQUARE, objectives, seed=0, sampler=sampler)
        for trial in range(13):
            (treatment,) = optimizer.ask()
            x, y = treatment.params.values()
            if trial % 5 == 4:
                optimizer.tell(Observation(treatment, status=Status.FAILED, error="boom"))
            else:
                optimizer.tell({"cost": x, "gain": x * y})
        front = {o.treatment.name for o in optimizer.pareto_front()}
        real = [o.treatment.name for o in optimizer.observations if o.status is Status.COMPLETED]
        native = {f"trial_{t.number}" for t in optimizer.study.best_trials}
        assert front == native & set(real)
        assert optimizer.get_best_treatment().name in front


# Pruning --------------------------------------------------------------------------------------


@data_source
def nothing(ctx: FrozenContext) -> None:
    return None


@pipeline_step()
def noisy(data: None, ctx: FrozenContext, *, x: float = 0.0) -> None:
    ctx.metrics.add("loss", x * x + 0.01 * ctx["replicate"])


@pytest.mark.parametrize("paired", [False, True])
def test_a_pruner_ends_trials_between_replicates(paired: bool) -> None:
    pruner = (
        optuna.pruners.WilcoxonPruner(p_threshold=0.2, n_startup_steps=2)
        if paired
        else optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=1)
    )
    experiment = Experiment(nothing(), Pipeline([noisy()]), seed=0)
    optimizer = OptunaOptimizer({"x": (-5.0, 5.0)}, LOSS, seed=0, pruner=pruner)
    best = experiment.optimize(optimizer, 20, 6)

    pruned = [o for o in optimizer.observations if o.status is Status.PRUNED]
    assert pruned
    assert all(1 <= len(o.replicates) < 6 for o in pruned)
    assert best.name not in {o.treatment.name for o in pruned}
    assert all(trial.state.is_finished() for trial in optimizer.study.trials)
    # Pruners that compare trials see running means; Wilcoxon sees each replicate.
    first = optimizer.study.trials[0].intermediate_values
    losses = [replicate["loss"] for replicate in optimizer.observations[0].replicates][:5]
    if paired:
        assert list(first.values()) == losses
    else:
        means = [sum(losses[: n + 1]) / (n + 1) for n in range(5)]
        assert list(first.values()) == pytest.approx(means)


def test_without_a_pruner_every_replicate_runs() -> None:
    experiment = Experiment(nothing(), Pipeline([noisy()]), seed=0)
    optimizer = OptunaOptimizer({"x": (-5.0, 5.0)}, LOSS, seed=0)
    experiment.optimize(optimizer, 5, 3)

    assert [len(o.replicates) for o in optimizer.observations] == [3] * 5
    assert all(not trial.intermediate_values for trial in optimizer.study.trials)


# Finite spaces --------------------------------------------------------------------------------

FINITE = {"a": Categorical([True, 1]), "b": Ordinal(["s", "m", "l"]), "c": Integer(0, 1).when(a=1)}
FINITE_POINTS = 3 + 3 * 2


def finite_samplers() -> dict[str, Callable[[], BaseSampler]]:
    return {name: partial(sampler, 0) for name, sampler in SAMPLERS.items()} | {
        "GP": lambda: GPSampler(seed=0),
        "BruteForce": lambda: BruteForceSampler(seed=0),
    }


@pytest.mark.parametrize("pending", [1, 4, 100])
@pytest.mark.parametrize("name", finite_samplers())
def test_a_small_space_ends_when_each_point_was_suggested_once(name: str, pending: int) -> None:
    optimizer = OptunaOptimizer(FINITE, LOSS, sampler=finite_samplers()[name]())
    points = []
    for _ in range(FINITE_POINTS):
        (treatment,) = optimizer.ask()
        points.append(optimizer.space.key(treatment.params))
        while len(optimizer.pending) >= pending:
            oldest = optimizer.pending[0]
            optimizer.tell(Observation(oldest, {"loss": any_loss(oldest.params)}))

    assert len(set(points)) == FINITE_POINTS
    with pytest.raises(SpaceExhausted):
        optimizer.ask()


@pytest.mark.parametrize("name", ["TPE", "CMA-ES", "NSGA-II"])
def test_what_is_pending_is_not_suggested_again(name: str) -> None:
    """In a space of 36 points: with 8 pending, samplers that do not know them repeat some."""
    space = {"a": (1, 6), "b": (1, 6)}
    repeats: dict[bool | None, int] = {None: 0, True: 0}
    for duplicates, seed in product(repeats, range(5)):
        sampler = SAMPLERS[name](seed)
        optimizer = OptunaOptimizer(space, LOSS, sampler=sampler, duplicates=duplicates)
        for _ in range(20):
            (treatment,) = optimizer.ask()
            optimizer.tell({"loss": (treatment.params["a"] - 2) ** 2})
        repeats[duplicates] += 8 - len({tuple(t.params.values()) for t in optimizer.ask(8)})

    assert repeats[None] == 0
    assert repeats[True] > 0


def test_grid_ends_with_space_exhausted() -> None:
    grid = GridSampler({"a": [0, 1], "x": [0.25, 0.5, 0.75]}, seed=0)
    optimizer = OptunaOptimizer({"a": (0, 1), "x": (0.0, 1.0)}, LOSS, sampler=grid)
    points = set()
    for _ in range(6):
        (treatment,) = optimizer.ask()
        points.add(tuple(treatment.params.values()))
        optimizer.tell({"loss": 1.0})

    assert len(points) == 6
    with pytest.raises(SpaceExhausted, match="every point of its grid"):
        optimizer.ask()


# Refusals and side effects --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"sampler": TPESampler}, r"Did you mean TPESampler\(\)"),
        ({"sampler": 3}, "takes an Optuna sampler, not 3"),
        ({"pruner": optuna.pruners.MedianPruner}, r"Did you mean MedianPruner\(\)"),
        ({"seed": -1}, "from 0 to 4294967295"),
        ({"seed": 2**32}, "from 0 to 4294967295"),
        ({"seed": 0.5}, "not 0.5"),
        ({"objective": [LOSS, Objective("b", "maximize")], "sampler": CmaEsSampler()}, "one obj"),
        (
            {
                "objective": [LOSS, Objective("b", "maximize")],
                "pruner": optuna.pruners.MedianPruner(),
            },
            "one objective only",
        ),
        ({"space": {"x": (1.0, 0.0)}}, "'x'.*Swap"),
        ({"objective": "loss"}, r"Objective\(metric, direction\)"),
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

    with pytest.raises(UsageError, match="serves another optimizer already"):
        OptunaOptimizer(SQUARE, LOSS, sampler=sampler)


def test_a_missing_library_of_a_sampler_is_named_when_it_is_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    with pytest.raises(MissingExtraError, match=r"CmaEsSampler needs cmaes.*pip install cmaes"):
        OptunaOptimizer(SQUARE, LOSS, sampler=CmaEsSampler())


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


def test_an_experiment_finds_a_good_point() -> None:
    experiment = Experiment(nothing(), Pipeline([noisy()]), seed=0)
    optimizer = OptunaOptimizer({"x": (-5.0, 5.0)}, LOSS, seed=0)

    best = experiment.optimize(optimizer, 40)

    assert abs(best.params["x"]) < 0.2
    assert optimizer.study.best_params == dict(best.params)
