"""A suggestion whose outcome is known is reported again, and nothing runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.samplers import CmaEsSampler, NSGAIISampler, RandomSampler, TPESampler

from crystallize_opt import (
    BaseOptimizer,
    BasePlugin,
    Categorical,
    Constraint,
    Failures,
    Float,
    FrozenContext,
    Integer,
    NoImprovement,
    Objective,
    Search,
    SearchSpace,
    SpaceOptimizer,
    Treatment,
    Workers,
)
from crystallize_opt.adapters import GridOptimizer, OptunaOptimizer, RandomOptimizer
from crystallize_opt.pipeline.seeding import SEED_KEY
from crystallize_opt.search.callbacks import Event, TrialAsked, TrialRepeated, TrialTold
from tests.adapters.optuna.native import suggest
from tests.adapters.parity import exactly
from tests.optimizers.test_unique import Scripted
from tests.toy import experiment_of

# Optuna marks whole samplers and pruners as experimental; that is no fault of a test.
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

LOSS = Objective("loss", "minimize")
GRID = {"a": (1, 3), "b": (1, 3)}
SAMPLERS: dict[str, Callable[[int], Any]] = {
    "TPE": lambda seed: TPESampler(seed=seed, n_startup_trials=4),
    "CMA-ES": lambda seed: CmaEsSampler(seed=seed, warn_independent_sampling=False),
    "NSGA-II": lambda seed: NSGAIISampler(seed=seed, population_size=4),
    "Random": lambda seed: RandomSampler(seed=seed),
}


class Counted:
    """An experiment of a bowl that counts the trials it really runs."""

    def __init__(self, **options: Any) -> None:
        self.ran: list[dict[str, Any]] = []

        def step(data: Any, ctx: FrozenContext) -> Any:
            params = {name: ctx[name] for name in ("a", "b", "c") if name in ctx}
            self.ran.append(params)
            return data, {"loss": bowl(params), "drawn": float(ctx[SEED_KEY])}

        self.experiment = experiment_of(step, seed=0, **options)

    def optimize(self, optimizer: Any, trials: int, replicates: int = 1, **options: Any) -> None:
        options.setdefault("failures", Failures(unread="ignore"))
        self.experiment.optimize(optimizer, trials, replicates, progress=False, **options)


def bowl(params: Mapping[str, Any]) -> float:
    return float(sum((hash(value) % 7 - 2) ** 2 for value in params.values()))


def repeated(optimizer: Any) -> list[tuple[str, str | None]]:
    return [(each.treatment.name, each.repeats) for each in optimizer.observations]


finite_spaces = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.one_of(
        st.integers(0, 4).map(lambda high: Integer(0, high)),
        st.integers(1, 4).map(lambda count: Float(0.0, count / 4, step=0.25)),
        st.integers(1, 4).map(lambda count: Categorical([3 * i for i in range(count)])),
    ),
    min_size=1,
).map(SearchSpace)


@pytest.mark.parametrize("name", SAMPLERS)
@settings(max_examples=15, deadline=None)
@given(space=finite_spaces, seed=st.integers(0, 2**32 - 1))
def test_the_backend_hears_what_its_loop_hears_that_runs_every_point(
    name: str, space: SearchSpace, seed: int
) -> None:
    counted = Counted()
    ours = OptunaOptimizer(space, LOSS, sampler=SAMPLERS[name](seed))
    counted.optimize(ours, 12)
    told = ours.observations

    # Each point ran once; each other suggestion names the first trial of its point.
    first: dict[Any, str] = {}
    for each in told:
        before = first.setdefault(space.key(each.params), each.treatment.name)
        assert each.repeats == (None if before == each.treatment.name else before)
    assert len(counted.ran) == len(first) == sum(each.repeats is None for each in told)
    assert len(first) == 12 or len(first) == sum(1 for _ in space.points())

    # Up to the first random point, the study is that of Optuna's own loop.
    own = _until_a_random_point(told)
    native = optuna.create_study(sampler=SAMPLERS[name](seed))
    suggested = []
    for _ in own:
        trial = native.ask()
        suggested.append(suggest(trial, space))
        native.tell(trial, bowl(suggested[-1]))
    assert exactly([each.params for each in own]) == exactly(suggested)
    heard = [(trial.number, trial.values, trial.state) for trial in ours.study.trials]
    assert heard[: len(own)] == [
        (trial.number, trial.values, trial.state) for trial in native.trials
    ]


def _until_a_random_point(told: list[Any]) -> list[Any]:
    in_a_row = 0
    for position, each in enumerate(told):
        in_a_row = in_a_row + 1 if each.repeats else 0
        if in_a_row == 20:
            return told[: position + 1]
    return told


# What comes of repeats ----------------------------------------------------------------------------


def scripted(*script: tuple[int, int], **options: Any) -> Scripted:
    return Scripted(SearchSpace(GRID), script, **options)


def test_a_repeat_is_no_trial_and_is_recorded_as_what_it_is() -> None:
    counted, events = Counted(), list[Event]()
    optimizer = scripted((1, 1), (1, 1), (2, 2), (1, 1), (3, 3))
    search = Search(
        counted.experiment, optimizer, 3, callbacks=[events.append], stop=NoImprovement(3)
    )
    seen = [each.treatment.name for each in search]

    assert repeated(optimizer) == [
        ("trial_0", None),
        ("trial_1", "trial_0"),
        ("trial_2", None),
        ("trial_3", "trial_0"),
        ("trial_4", None),
    ]
    assert len(counted.ran) == 3
    assert seen == ["trial_0", "trial_2", "trial_4"]
    assert [e.treatment.name for e in events if isinstance(e, TrialAsked)] == seen
    assert [e.observation.treatment.name for e in events if isinstance(e, TrialTold)] == seen
    again = [e.observation for e in events if isinstance(e, TrialRepeated)]
    assert [each.treatment.name for each in again] == ["trial_1", "trial_3"]
    one, two = optimizer.observations[:2]
    assert (two.metrics, two.sem, two.replicates) == (one.metrics, one.sem, one.replicates)
    assert two.duration is None
    assert two.started_at is None
    assert search.best is optimizer.observations[2]
    frame = optimizer.history.to_frame()
    assert list(frame["repeats"].fillna("")) == ["", "trial_0", "", "trial_0", ""]


def test_after_some_in_a_row_comes_an_unseen_point_and_then_the_end() -> None:
    for repeats in ("allowed", "not pending"):
        counted = Counted()
        optimizer = scripted(*[(1, 1)] * 100, repeats=repeats)
        counted.optimize(optimizer, 50)

        assert len(counted.ran) == 9
        assert {(each["a"], each["b"]) for each in counted.ran} == {
            (a, b) for a in (1, 2, 3) for b in (1, 2, 3)
        }
        # `Scripted` allows three in a row.
        assert [name for name, of in repeated(optimizer) if of is None] == [
            f"trial_{4 * i}" for i in range(9)
        ]


def test_duplicates_are_run_again() -> None:
    for optimizer in (
        OptunaOptimizer({"a": [1, 2]}, LOSS, sampler=RandomSampler(seed=0), duplicates=True),
        RandomOptimizer({"a": [1, 2]}, LOSS, seed=0, duplicates=True),
        GridOptimizer({"a": [1, 2]}, LOSS, duplicates=True),
    ):
        counted = Counted()
        counted.optimize(optimizer, 6)
        assert len(counted.ran) == len(optimizer.observations) == 6


def test_by_hand_a_point_comes_again() -> None:
    optimizer = OptunaOptimizer(GRID, LOSS, sampler=RandomSampler(seed=0))
    points = []
    for _ in range(8):
        (treatment,) = optimizer.ask()
        points.append(tuple(treatment.params.values()))
        optimizer.tell({"loss": bowl(treatment.params)})

    assert len(set(points)) < 8
    assert all(each.repeats is None for each in optimizer.observations)


class SeedsOfTheirOwn(BasePlugin):
    """Gives every replicate of every trial a seed of its own."""

    version = "1"

    def __init__(self) -> None:
        self.next = 0

    def before_replicate(self, experiment: Any, ctx: FrozenContext) -> None:
        self.next += 1
        ctx.add(SEED_KEY, self.next)


def test_where_trials_have_seeds_of_their_own_a_repeat_teaches_and_runs() -> None:
    counted = Counted(plugins=[SeedsOfTheirOwn()])
    optimizer = scripted((1, 1), (1, 1), (1, 1))
    counted.optimize(optimizer, 3)

    assert len(counted.ran) == 3
    assert [each["drawn"] for each in optimizer.observations] == [1.0, 2.0, 3.0]


def test_only_a_completed_trial_is_known() -> None:
    ran = []

    def step(data: Any, ctx: FrozenContext, *, a: int, b: int) -> Any:
        ran.append((a, b))
        if a == 2 and ran.count((a, b)) < 3:
            raise ValueError("not yet")
        return data, {"loss": float("nan") if a == 3 else float(a)}

    optimizer = scripted((1, 1), (2, 2), (2, 2), (3, 3), (3, 3), (2, 2), (2, 2), (1, 2))
    experiment_of(step, seed=0).optimize(optimizer, 7, progress=False)

    assert ran == [(1, 1), (2, 2), (2, 2), (3, 3), (3, 3), (2, 2), (1, 2)]
    assert repeated(optimizer)[6] == ("trial_6", "trial_5")


def test_an_enqueued_point_is_answered_and_does_not_count_in_the_row() -> None:
    counted = Counted()
    optimizer = scripted((2, 2), (2, 3))
    optimizer.enqueue(*[{"a": 1, "b": 1}] * 8)  # `Scripted` allows three in a row.
    counted.optimize(optimizer, 3)

    assert [tuple(each.values()) for each in counted.ran] == [(1, 1), (2, 2), (2, 3)]
    assert [of for _, of in repeated(optimizer)] == [None, *["trial_0"] * 7, None, None]


def test_of_a_batch_only_new_points_run() -> None:
    counted = Counted()
    optimizer = scripted((1, 1), (1, 2), (1, 1), (1, 3), (1, 2), (1, 1), (2, 1), (2, 2))
    counted.optimize(optimizer, 5, workers=Workers("threads", 2, batch=True))

    assert sorted(tuple(each.values()) for each in counted.ran) == [
        (1, 1),
        (1, 2),
        (1, 3),
        (2, 1),
        (2, 2),
    ]
    assert sum(each.repeats is not None for each in optimizer.observations) == 3


def test_a_point_that_is_running_runs_beside_itself() -> None:
    """Its outcome is not known yet; most optimizers suggest no pending point."""
    both = threading.Barrier(2)
    ran = []

    def step(data: Any, ctx: FrozenContext, *, a: int, b: int) -> Any:
        ran.append((a, b))
        if len(ran) <= 2:
            both.wait(60)
        return data, {"loss": float(a)}

    optimizer = scripted((1, 1), (1, 1), (1, 1), (2, 2))
    experiment_of(step, seed=0).optimize(
        optimizer, 3, progress=False, workers=Workers("threads", 2)
    )

    assert sorted(ran) == [(1, 1), (1, 1), (2, 2)]
    assert sum(each.repeats is not None for each in optimizer.observations) == 1


def test_replicates_constraints_and_several_objectives_are_repeated() -> None:
    objectives = [LOSS, Objective("drawn", "maximize")]
    counted = Counted()
    optimizer = OptunaOptimizer(
        {"a": (0, 2), "b": (0, 2)},
        objectives,
        constraints=[Constraint("loss", "<=", 6.0)],
        sampler=TPESampler(seed=1, n_startup_trials=3),
    )
    counted.optimize(optimizer, 9, 3)

    assert len(counted.ran) == 27
    told = optimizer.observations
    again = [each for each in told if each.repeats is not None]
    assert again
    ran = {each.treatment.name: each for each in told}
    assert all(dict(each) == dict(ran[each.repeats or ""]) for each in again)
    assert all(each.repeats is None for each in optimizer.pareto_front)


def test_a_pruner_hears_the_replicates_again_and_may_end_a_repeat_early() -> None:
    """A point that completed early in the search is no longer good enough when it comes again."""

    def told_with(duplicates: bool | None) -> tuple[OptunaOptimizer, Counted]:
        counted = Counted()
        optimizer = OptunaOptimizer(
            {"a": (0, 5)},
            LOSS,
            sampler=RandomSampler(seed=0),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=1, n_warmup_steps=0),
            duplicates=duplicates,
        )
        for a in (4, 3, 2, 4, 3, 2, 1):  # Losses: 4, 1, 0, 4, 1, 0, 1.
            optimizer.enqueue({"a": a})
        counted.optimize(optimizer, 7 if duplicates else 4, 3)
        return optimizer, counted

    (ours, counted), (native, everything) = told_with(None), told_with(True)

    statuses = [each.status.value for each in native.observations]
    assert statuses == ["completed"] * 3 + ["pruned"] + ["completed"] * 3
    assert [each.status.value for each in ours.observations] == statuses
    assert [each.repeats for each in ours.observations][3:6] == ["trial_0", "trial_1", "trial_2"]
    assert (len(counted.ran), len(everything.ran)) == (12, 19)
    for one, other in zip(ours.study.trials, native.study.trials, strict=True):
        assert (one.params, one.values, one.state) == (other.params, other.values, other.state)
        assert one.intermediate_values == other.intermediate_values


# Optimizers without a space -----------------------------------------------------------------------


class Listed(BaseOptimizer):
    """Suggests what it is given; hears plain mappings."""

    def __init__(self, *values: Any) -> None:
        super().__init__(LOSS)
        self.values = list(values)
        self.heard: list[float] = []

    def ask(self) -> list[Treatment]:
        values = self.values.pop(0)
        several = values if isinstance(values, list) else [values]
        return [Treatment("t", value if callable(value) else {"a": value}) for value in several]

    def tell(self, objective_values: Mapping[str, float]) -> None:
        self.heard.append(objective_values["loss"])

    def get_best_treatment(self) -> Treatment:
        return Treatment("best")


def losses(values: Iterable[Any]) -> list[float]:
    return [bowl({"a": value}) for value in values]


def test_a_plain_optimizer_hears_a_known_outcome() -> None:
    counted, optimizer = Counted(), Listed(1, 1, 1.0, [4, 1, 4], True, 1)
    counted.optimize(optimizer, 5)

    # Of a batch, both that are equal run; 1, 1.0 and True are three points.
    assert [each["a"] for each in counted.ran] == [1, 1.0, 4, 4, True]
    assert optimizer.heard == losses([1, 1, 1.0, 4, 1, 4, True])


def test_what_has_no_known_parameters_runs() -> None:
    def apply(ctx: Any) -> None:
        ctx.add("a", 3)

    for values in ([apply, apply], [(1, 2), (1, 2)]):
        counted = Counted()
        optimizer = Listed(*values)
        counted.experiment.optimize(optimizer, 2, progress=False)
        assert len(counted.ran) == 2


def test_a_plain_optimizer_that_repeats_itself_does_not_search_for_ever() -> None:
    counted, optimizer = Counted(), Listed(*[1] * 100)
    counted.optimize(optimizer, 3)

    assert len(counted.ran) == 3
    assert len(optimizer.heard) == 1 + 21 + 21


def test_a_plain_optimizer_may_want_duplicates() -> None:
    counted, optimizer = Counted(), Listed(1, 1, 1)
    optimizer.duplicates = True  # type: ignore[attr-defined]
    counted.optimize(optimizer, 3)

    assert len(counted.ran) == 3


def test_optimizers_of_a_space_need_no_argument_for_it() -> None:
    assert SpaceOptimizer.duplicates is False
