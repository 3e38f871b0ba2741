"""Hooks, and the plugin that seeds replicates."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystallize_opt import (
    BasePlugin,
    Experiment,
    FrozenContext,
    Pipeline,
    PipelineStep,
    SeedPlugin,
    Treatment,
)
from crystallize_opt.errors import TrialsFailedError, UsageError
from crystallize_opt.pipeline.result import Result
from tests.toy import (
    PlainOptimizer,
    add_delta,
    experiment_of,
    numbers,
    record_sum,
    toy_experiment,
)

SEEDS = st.integers(0, 2**32 - 1)


class Tracer(BasePlugin):
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.results: list[Result] = []

    def init_hook(self, experiment: Experiment) -> None:
        self.calls.append("init_hook")

    def before_run(self, experiment: Experiment) -> None:
        self.calls.append("before_run")

    def before_replicate(self, experiment: Experiment, ctx: FrozenContext) -> None:
        delta = ctx.get("delta", "no delta")
        self.calls.append(f"before_replicate {ctx['condition']} {ctx['replicate']} {delta}")

    def before_step(self, experiment: Experiment, step: PipelineStep) -> None:
        self.calls.append(f"before_step {step.name}")

    def after_step(
        self, experiment: Experiment, step: PipelineStep, data: Any, ctx: FrozenContext
    ) -> None:
        self.calls.append(f"after_step {step.name} {data} {len(ctx.metrics)}")

    def after_run(self, experiment: Experiment, result: Result) -> None:
        self.calls.append("after_run")
        self.results.append(result)


def traced() -> tuple[Experiment, Tracer]:
    tracer = Tracer()
    return toy_experiment(plugins=[tracer]), tracer


def replicate(condition: str, index: int, delta: str, data: str) -> list[str]:
    return [
        f"before_replicate {condition} {index} {delta}",
        "before_step add_delta",
        f"after_step add_delta {data} 0",
        "before_step record_sum",
        f"after_step record_sum {data} 1",
    ]


def test_hooks_of_a_run_in_order() -> None:
    experiment, tracer = traced()
    result = experiment.run(treatments=[Treatment("t", {"delta": 1.0})], replicates=2)

    baseline, treatment = "[1.0, 2.0, 3.0]", "[2.0, 3.0, 4.0]"
    assert tracer.calls == [
        "init_hook",
        "before_run",
        *replicate("baseline", 0, "no delta", baseline),
        *replicate("t", 0, "1.0", treatment),
        *replicate("baseline", 1, "no delta", baseline),
        *replicate("t", 1, "1.0", treatment),
        "after_run",
    ]
    assert tracer.results[0] is result


def test_hooks_of_an_apply_are_those_of_one_replicate() -> None:
    experiment, tracer = traced()
    experiment.apply(Treatment("t", {"delta": 1.0}))

    assert tracer.calls == [
        "init_hook",
        "before_run",
        *replicate("t", 0, "1.0", "[2.0, 3.0, 4.0]"),
        "after_run",
    ]
    assert tracer.results[0].metrics.treatments["t"].metrics == {"sum": [9.0]}


def test_one_search_is_one_run() -> None:
    experiment, tracer = traced()
    experiment.optimize(PlainOptimizer([1.0, 0.0]), 2)

    assert tracer.calls == [
        "init_hook",
        "before_run",
        *replicate("trial_0", 0, "1.0", "[2.0, 3.0, 4.0]"),
        *replicate("trial_1", 0, "0.0", "[1.0, 2.0, 3.0]"),
        "after_run",
    ]
    metrics = tracer.results[0].metrics.treatments
    assert {name: t.metrics for name, t in metrics.items()} == {
        "trial_0": {"sum": [9.0]},
        "trial_1": {"sum": [6.0]},
    }


def test_hooks_come_around_set_up_and_tear_down() -> None:
    tracer = Tracer()

    class Step(PipelineStep):
        def __call__(self, data: Any, ctx: FrozenContext) -> Any:
            return data

        def setup(self, ctx: FrozenContext) -> None:
            tracer.calls.append("setup")

        def teardown(self, ctx: FrozenContext) -> None:
            tracer.calls.append("teardown")

    Experiment(numbers(), Pipeline([Step()]), plugins=[tracer]).apply()

    assert [call for call in tracer.calls if " " not in call] == [
        "init_hook",
        "before_run",
        "setup",
        "teardown",
        "after_run",
    ]


def test_plugins_are_called_in_their_order() -> None:
    calls: list[str] = []

    class Named(BasePlugin):
        def __init__(self, name: str) -> None:
            self.name = name

        def before_replicate(self, experiment: Experiment, ctx: FrozenContext) -> None:
            calls.append(self.name)

    toy_experiment(plugins=[Named("a"), Named("b")]).run(replicates=2)

    assert calls == ["a", "b", "a", "b"]


def test_an_error_of_a_replicates_hook_fails_the_replicate() -> None:
    class Fail(BasePlugin):
        def before_step(self, experiment: Experiment, step: PipelineStep) -> None:
            raise ValueError("boom")

    with pytest.raises(TrialsFailedError, match="boom") as caught:
        toy_experiment(plugins=[Fail()]).run()

    assert type(caught.value.__cause__) is ValueError


# SeedPlugin -----------------------------------------------------------------------------------


def seeds_used(replicates: int, **options: Any) -> dict[str, list[int]]:
    """Run a treatment and return the seeds, as the steps see them, by condition."""

    def look(data: Any, ctx: FrozenContext) -> Any:
        return data, {"seed": ctx["seed_used"]}

    result = experiment_of(look, **options).run(
        treatments=[Treatment("t", {})], replicates=replicates
    )
    metrics = {"baseline": result.metrics.baseline, **result.metrics.treatments}
    return {name: each.metrics["seed"] for name, each in metrics.items()}


@given(SEEDS, st.integers(1, 4))
def test_a_replicate_has_the_same_seed_under_every_treatment(seed: int, replicates: int) -> None:
    expected = [(seed + 31337 * index) % 2**32 for index in range(replicates)]

    assert seeds_used(replicates, seed=seed) == {"baseline": expected, "t": expected}


@given(SEEDS)
def test_without_auto_seed_every_replicate_has_the_seed_itself(seed: int) -> None:
    plugin = SeedPlugin(seed, auto_seed=False)

    assert seeds_used(3, plugins=[plugin])["t"] == [seed] * 3


class Draws(BasePlugin):
    def before_run(self, experiment: Experiment) -> None:
        self.in_run = random.random()

    def before_replicate(self, experiment: Experiment, ctx: FrozenContext) -> None:
        ctx.add("drawn by a plugin", (self.in_run, random.random(), float(np.random.rand())))


def drawing(ctx: FrozenContext) -> None:
    ctx.add("drawn by the treatment", random.random())


@given(
    SEEDS,
    st.permutations(["baseline", "a", "b"]),
    st.sampled_from(
        [
            lambda seed: {"seed": seed, "plugins": [Draws()]},
            lambda seed: {"plugins": [SeedPlugin(seed), Draws()]},
            lambda seed: {"plugins": [Draws(), SeedPlugin(seed)]},
        ]
    ),
)
def test_whatever_draws_in_a_replicate_draws_after_its_seed(
    seed: int, names: list[str], options: Callable[[int], dict[str, Any]]
) -> None:
    found: dict[tuple[str, int], Any] = {}

    def look(data: Any, ctx: FrozenContext) -> Any:
        found[ctx["condition"], ctx["replicate"]] = (
            ctx["drawn by a plugin"],
            ctx.get("drawn by the treatment"),
        )
        for _ in ctx["condition"]:  # Not every treatment draws as many numbers.
            random.random()
        return data

    treatments = [Treatment(name, drawing) for name in names if name != "baseline"]
    experiment = experiment_of(look, **options(seed))
    experiment.run(treatments=treatments, replicates=2)

    random.seed(seed)
    in_run = random.random()
    for replicate in range(2):
        random.seed((seed + 31337 * replicate) % 2**32)
        first, second = random.random(), random.random()
        seeds_again = isinstance(experiment.plugins[0], SeedPlugin)
        number = float(np.random.RandomState((seed + 31337 * replicate) % 2**32).rand())
        assert found["baseline", replicate] == ((in_run, first, number), None)
        for each in treatments:
            in_hook = first if seeds_again else second
            assert found[each.name, replicate] == ((in_run, in_hook, number), first)


@pytest.mark.parametrize("base", [BasePlugin, SeedPlugin])
def test_a_plugin_may_give_seeds_of_its_own(base: type[BasePlugin]) -> None:
    class Own(base):  # type: ignore[misc, valid-type]
        def before_replicate(self, experiment: Experiment, ctx: FrozenContext) -> None:
            ctx.add("seed_used", 5 + ctx["replicate"])

    assert seeds_used(2, plugins=[Draws(), Own()])["t"] == [5, 6]


def test_the_seed_is_short_for_the_plugin() -> None:
    assert seeds_used(2, seed=4) == seeds_used(2, plugins=[SeedPlugin(4)])
    with pytest.raises(UsageError, match="not both"):
        toy_experiment(seed=4, plugins=[SeedPlugin(4)])


def test_no_seed_means_a_new_one_that_can_be_read() -> None:
    first, second = SeedPlugin(), SeedPlugin()

    assert first.seed != second.seed
    assert seeds_used(1, plugins=[first])["baseline"] == [first.seed]
    assert seeds_used(1, seed=0)["baseline"] == [0]


def test_seed_fn_is_called_with_the_seed_of_each_replicate() -> None:
    seeds: list[int] = []
    experiment = Experiment(
        numbers(),
        Pipeline([add_delta(), record_sum()]),
        plugins=[SeedPlugin(1, seed_fn=seeds.append)],
    )

    experiment.run(treatments=[Treatment("t", {})], replicates=2)
    experiment.apply(seed=99)

    assert seeds == [1, 1, 31338, 31338, 99]


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, True, "1", np.float64(1)])
def test_what_is_no_seed_is_refused(seed: Any) -> None:
    with pytest.raises(UsageError, match=r"whole number in \[0, 2\*\*32\), not"):
        SeedPlugin(seed)


def test_a_seed_may_be_numpys() -> None:
    seed: Any = np.uint32(7)

    assert type(SeedPlugin(seed).seed) is int


@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**31 - 1),
    st.integers(0, 10**9 - 1),
    st.integers(0, 10**9 - 1),
)
def test_a_confirmations_seeds_are_no_searchs(seed: int, search: int, one: int, other: int) -> None:
    plugin = SeedPlugin(seed)

    assert plugin.seed_of(search) != plugin.confirmation_seed_of(one)
    if one != other:
        assert plugin.confirmation_seed_of(one) != plugin.confirmation_seed_of(other)


def test_a_confirmations_seeds_differ_also_in_their_lower_bits() -> None:
    plugin = SeedPlugin(5)
    for bits in (16, 24, 31):
        searched = {plugin.seed_of(r) % 2**bits for r in range(10_000)}
        assert not searched & {plugin.confirmation_seed_of(r) % 2**bits for r in range(10_000)}


def test_a_confirmation_has_no_replicates_beyond_its_part() -> None:
    with pytest.raises(UsageError, match="at most"):
        SeedPlugin(0).confirmation_seed_of(10**9)
