"""Global random generators: reproducible inside of a run, untouched outside of it."""

import asyncio
import logging
import os
import pickle
import random
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystallize_opt import (
    BasePlugin,
    DataSource,
    Experiment,
    FrozenContext,
    Hypothesis,
    Objective,
    Pipeline,
    PipelineStep,
    SeedPlugin,
    Treatment,
)
from crystallize_opt.adapters import OptunaOptimizer, RandomOptimizer
from crystallize_opt.pipeline.result import Result
from crystallize_opt.runtime.random_state import CallersRandomState, seed_global_random_state
from tests.toy import PlainOptimizer, experiment_of, numbers, toy_experiment

A, B = Treatment("a", {"delta": 1.0}), Treatment("b", {"delta": 2.0})
MINIMIZE = Objective("sum", "minimize")
numpy_random: Any = np.random  # its stubs lack get_bit_generator and set_bit_generator


@contextmanager
def put_back() -> Iterator[None]:
    """Keep what a test does to the global generators from the next test, and from Hypothesis."""
    python, numpys = random.getstate(), numpy_random.get_bit_generator()
    yield
    random.setstate(python)
    numpy_random.set_bit_generator(numpys)


@pytest.fixture(autouse=True)
def _global_generators_put_back() -> Iterator[None]:
    with put_back():
        yield


def draw_from_globals() -> list[float]:
    """An odd number of normal variates: numpy keeps the other half of the pair for later."""
    return [
        random.random(),
        random.gauss(),
        *map(float, (np.random.rand(), np.random.randn(), np.random.standard_exponential())),
    ]


def world() -> dict[str, Any]:
    """Everything global that a run could change, and that can be compared."""
    root = logging.getLogger()
    return {
        "random": random.getstate(),
        "numpy": pickle.dumps(np.random.get_state(legacy=False)),
        "numpy's bit generator": numpy_random.get_bit_generator(),
        "warnings": list(warnings.filters),
        "root logger": (root.level, list(root.handlers), list(root.filters), root.disabled),
        "logging disabled": logging.root.manager.disable,
        "directory": os.getcwd(),  # noqa: PTH109  (its text)
        "environment": dict(os.environ),
    }


# The caller's global state --------------------------------------------------------------------


def mess_up() -> None:
    draw_from_globals()
    random.seed(99)
    np.random.seed(99)
    draw_from_globals()


class MessyStep(PipelineStep):
    def __init__(self, *, raises: BaseException | None) -> None:
        self.raises = raises

    def setup(self, ctx: FrozenContext) -> None:
        mess_up()

    def __call__(self, data: Any, ctx: FrozenContext) -> Any:
        ctx.as_dict()  # The treatments' parameters have no effect.
        mess_up()
        if self.raises is not None and ctx["condition"] != "baseline":
            raise self.raises
        return data, {"sum": 1.0}

    def teardown(self, ctx: FrozenContext) -> None:
        mess_up()


class MessySource(DataSource):
    def fetch(self, ctx: FrozenContext) -> Any:
        mess_up()
        numpy_random.set_bit_generator(np.random.PCG64(1))


class MessyPlugin(BasePlugin):
    def before_run(self, experiment: Experiment) -> None:
        mess_up()

    def after_run(self, experiment: Experiment, result: Result) -> None:
        mess_up()


def messy_verifier(baseline: Any, treatment: Any) -> Mapping[str, float]:
    mess_up()
    return {"p_value": 0.5}


def run(experiment: Experiment) -> Any:
    return experiment.run(treatments=[A, B], hypotheses=[Hypothesis(messy_verifier)], replicates=2)


def optimize_with_random(experiment: Experiment) -> Any:
    return experiment.optimize(RandomOptimizer({"delta": (0.0, 1.0)}, MINIMIZE), 3, 2)


def optimize_with_optuna(experiment: Experiment) -> Any:
    return experiment.optimize(OptunaOptimizer({"delta": (0.0, 1.0)}, MINIMIZE), 3, 2)


def optimize_with_plain(experiment: Experiment) -> Any:
    return experiment.optimize(PlainOptimizer([1.0, 0.0, 2.0]), 3, 2)


def apply(experiment: Experiment) -> Any:
    return experiment.apply(A)


ACTIONS: list[Callable[[Experiment], Any]] = [
    run,
    apply,
    optimize_with_random,
    optimize_with_optuna,
    optimize_with_plain,
]


def with_pending_normal_variate() -> None:
    np.random.seed(3)
    np.random.randn()


def with_the_users_bit_generator() -> None:
    numpy_random.set_bit_generator(np.random.PCG64(3))
    np.random.randn()


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("raises", [None, ValueError("boom"), KeyboardInterrupt("boom")], ids=repr)
@pytest.mark.parametrize(
    "prepare", [lambda: None, with_pending_normal_variate, with_the_users_bit_generator]
)
def test_the_callers_global_state_is_left_as_it_was(
    action: Callable[[Experiment], Any],
    raises: BaseException | None,
    prepare: Callable[[], None],
) -> None:
    experiment = Experiment(
        MessySource(), Pipeline([MessyStep(raises=raises)]), plugins=[MessyPlugin()]
    )
    prepare()
    before = world()

    if raises is None or (action is run and isinstance(raises, ValueError)):
        action(experiment)
    else:
        with pytest.raises((type(raises), RuntimeError), match="boom"):
            action(experiment)

    after = world()
    assert [name for name in before if before[name] != after[name]] == []


class DrawingOptimizer(PlainOptimizer):
    """Draws from the global generators whenever it is called."""

    def __init__(self, values: list[Any]) -> None:
        super().__init__(values)
        self.drawn: list[float] = []

    def ask(self) -> list[Treatment]:
        self.drawn += draw_from_globals()
        return super().ask()

    def tell(self, objective_values: Mapping[str, float]) -> None:
        self.drawn += draw_from_globals()
        super().tell(objective_values)

    def get_best_treatment(self) -> Treatment:
        self.drawn += draw_from_globals()
        return super().get_best_treatment()


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.booleans())
def test_an_optimizer_draws_from_the_callers_own_uninterrupted_stream(
    seed: int, trials: int, pcg: bool
) -> None:
    def messy(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        mess_up()
        return data, {"sum": delta}

    def prepare() -> None:
        random.seed(seed)
        numpy_random.set_bit_generator((np.random.PCG64 if pcg else np.random.MT19937)(seed))

    with put_back():
        prepare()
        optimizer = DrawingOptimizer([float(index) for index in range(trials)])
        experiment_of(messy).optimize(optimizer, trials, 2)
        drawn = optimizer.drawn + draw_from_globals()

        prepare()
        assert drawn == [x for _ in range(2 * trials + 2) for x in draw_from_globals()]


# Several at once ------------------------------------------------------------------------------


def test_a_run_within_a_step_does_not_disturb_the_outer_one() -> None:
    inner = toy_experiment(seed=9)

    def draw(data: Any, ctx: FrozenContext, *, nested: bool) -> Any:
        first = draw_from_globals()
        if nested:
            inner.run(treatments=[A], replicates=2)
        ctx.metrics.add("drawn", [*first, *draw_from_globals()])
        return data

    before = world()
    result = experiment_of(draw, seed=1).run(
        treatments=[Treatment("baseline", {"nested": False}), Treatment("t", {"nested": True})]
    )

    assert result.metrics.baseline.metrics == result.metrics.treatments["t"].metrics
    assert world() == before


@pytest.mark.parametrize("trials", [(3, 3), (1, 4), (4, 1), (1, 2, 3), (3, 2, 1)])
def test_searches_awaited_together_leave_the_callers_state(trials: tuple[int, ...]) -> None:
    async def messy(data: Any, ctx: FrozenContext, *, delta: float) -> Any:
        mess_up()
        await asyncio.sleep(0)
        mess_up()
        return data, {"sum": delta}

    async def search_together() -> None:
        await asyncio.gather(
            *(
                experiment_of(messy).aoptimize(
                    RandomOptimizer({"delta": (0.0, 1.0)}, MINIMIZE)
                    if index % 2
                    else PlainOptimizer([float(trial) for trial in range(count)]),
                    count,
                    2,
                )
                for index, count in enumerate(trials)
            )
        )

    with_pending_normal_variate()
    before = world()
    asyncio.run(search_together())

    assert world() == before


@given(st.lists(st.integers(0, 3), max_size=30))
def test_in_whatever_order_states_are_put_away_and_back(toggled: list[int]) -> None:
    """What is left at the end is what was found at the beginning."""
    with_pending_normal_variate()
    before = world()
    states = [CallersRandomState() for _ in range(4)]
    away: set[int] = set()
    for index in toggled:
        if index in away:
            states[index].put_back()
        else:
            states[index].put_away()
        away ^= {index}
        if away:
            mess_up()
    for index in away:
        states[index].put_back()

    assert world() == before


# Reproducibility ------------------------------------------------------------------------------


def draws_of(experiment: Experiment, replicates: int = 3) -> dict[str, list[list[float]]]:
    result = experiment.run(treatments=[A, B], replicates=replicates)
    metrics = {"baseline": result.metrics.baseline, **result.metrics.treatments}
    return {name: each.metrics["drawn"] for name, each in metrics.items()}


def draw(data: Any, ctx: FrozenContext) -> Any:
    ctx.as_dict()  # The treatments' parameters have no effect.
    return data, {"drawn": draw_from_globals()}


def test_steps_draw_the_same_numbers_under_each_treatment_and_in_a_rerun() -> None:
    first = draws_of(experiment_of(draw, seed=0))

    assert first["baseline"] == first["a"] == first["b"]
    assert len({tuple(drawn) for drawn in first["baseline"]}) == 3
    random.seed(123)
    np.random.seed(123)
    experiment = experiment_of(draw, seed=0)
    assert draws_of(experiment) == draws_of(experiment) == first


def test_seeds_differ() -> None:
    drawn = [
        tuple(draws_of(experiment_of(draw, seed=seed), 1)["baseline"][0])
        for seed in (0, 1, None, None)
    ]

    assert len(set(drawn)) == 4


def test_a_search_gives_replicates_the_seeds_of_a_run() -> None:
    def record(data: Any, ctx: FrozenContext, *, delta: float = 0.0) -> Any:
        return data, {"sum": draw_from_globals()[0]}

    experiment = experiment_of(record, seed=4)
    optimizer = RandomOptimizer({"delta": (0.0, 1.0)}, MINIMIZE)
    experiment.optimize(optimizer, 2, 3)

    expected = experiment.run(replicates=3).metrics.baseline.metrics["sum"]
    for observation in optimizer.observations:
        assert [replicate["sum"] for replicate in observation.replicates] == expected


def test_apply_with_the_seed_of_a_replicate_draws_its_numbers() -> None:
    def give(data: Any, ctx: FrozenContext) -> Any:
        return draw_from_globals()

    experiment = experiment_of(give, seed=4)

    assert experiment.apply() == experiment.apply(seed=4)
    assert experiment.apply(seed=4 + 31337) != experiment.apply(seed=4)


def test_without_auto_seed_every_replicate_draws_the_same() -> None:
    plugin = SeedPlugin(5, auto_seed=False)
    drawn = draws_of(experiment_of(draw, plugins=[plugin]))["a"]

    assert drawn == [drawn[0]] * 3


def test_a_seed_fn_seeds_instead() -> None:
    def seed_with_double(seed: int) -> None:
        seed_global_random_state(2 * seed)

    plugin = SeedPlugin(5, auto_seed=False, seed_fn=seed_with_double)

    assert (
        draws_of(experiment_of(draw, plugins=[plugin]), 1)
        == draws_of(experiment_of(draw, seed=10), 1)
    )  # fmt: skip


def test_what_setup_and_verifier_draw_repeats_with_the_seed() -> None:
    class DrawInSetup(PipelineStep):
        def setup(self, ctx: FrozenContext) -> None:
            ctx.add("drawn", draw_from_globals())

        def __call__(self, data: Any, ctx: FrozenContext) -> Any:
            ctx.as_dict()  # The treatments' parameters have no effect.
            return data, {"drawn": ctx["drawn"]}

    def drawing(baseline: Any, treatment: Any) -> Mapping[str, Any]:
        return {"p_value": 0.5, "drawn": draw_from_globals()}

    def results() -> tuple[Any, Any]:
        experiment = Experiment(numbers(), Pipeline([DrawInSetup()]), seed=3)
        result = experiment.run(treatments=[A], hypotheses=[Hypothesis(drawing)])
        return result.metrics.baseline.metrics, result.metrics.hypotheses[0].results

    first = results()
    mess_up()
    assert results() == first


# numpy, first imported in a step --------------------------------------------------------------

FIRST_IMPORT = """
import random, sys
from crystallize_opt.runtime.random_state import CallersRandomState, seed_global_random_state

finders = list(sys.meta_path)
outer, inner = CallersRandomState(), CallersRandomState()
outer.put_away()
seed_global_random_state(7)
inner.put_away()
seed_global_random_state(8)
import numpy
of_inner = numpy.random.rand()
inner.put_back()
of_outer = numpy.random.rand()
outer.put_back()
of_caller = numpy.random.rand()
for seed, drawn in ((8, of_inner), (7, of_outer)):
    assert drawn == numpy.random.RandomState(seed).rand()
    assert of_caller not in numpy.random.RandomState(seed).rand(3)
assert sys.meta_path == finders
assert numpy.random.__spec__.loader.exec_module.__self__ is numpy.random.__spec__.loader
"""


@pytest.mark.parametrize("statement", ["import numpy", "import numpy.random"])
def test_numpy_that_a_step_imports_is_as_if_it_had_been_imported_before(statement: str) -> None:
    code = FIRST_IMPORT.replace("import numpy\n", f"{statement}\n", 1)

    shown = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )

    assert shown.stderr == ""
