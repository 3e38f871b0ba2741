"""Pipelines with alternatives: the space they span, and what runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystallize_opt import (
    BasePlugin,
    Choice,
    Experiment,
    Float,
    FrozenContext,
    Integer,
    Objective,
    Pipeline,
    PipelineStep,
    SearchSpace,
    Treatment,
    data_source,
    pipeline_step,
)
from crystallize_opt.adapters import OptunaOptimizer, RandomOptimizer, SMACOptimizer
from crystallize_opt.errors import RunChanged, SpaceError, UsageError

LOSS = Objective("loss", "minimize")


@data_source
def nothing(ctx: Any) -> list[str]:
    return []


@pipeline_step()
def svm(data: Any, ctx: Any, *, C: Float(0.1, 10.0, log=True) = 1.0) -> Any:  # type: ignore[valid-type]  # noqa: N803
    return [*data, f"svm {C}"]


@pipeline_step()
def tree(data: Any, ctx: Any, *, depth: Integer(1, 9) = 3) -> Any:  # type: ignore[valid-type]
    return [*data, f"tree {depth}"]


@pipeline_step()
async def forest(data: Any, ctx: Any, *, depth: Integer(1, 9) = 3, trees: Integer(1, 5) = 2) -> Any:  # type: ignore[valid-type]
    return [*data, f"forest {depth} {trees}"], {"trees": trees}


@pipeline_step()
def scale(data: Any, ctx: Any, *, factor: Float(0.5, 2.0) = 1.0) -> Any:  # type: ignore[valid-type]
    return [*data, f"scale {factor}"]


@pipeline_step()
def score(data: Any, ctx: Any) -> Any:
    ctx.metrics.add("loss", float(len(" ".join(data))))
    return data


def run(pipeline: Pipeline, **params: Any) -> Any:
    return pipeline.run([], FrozenContext(params))


MODEL = Choice(
    "model",
    svm=[Choice("prepare", no=None, scale=scale()), svm()],
    tree=tree(),
    forest=Pipeline([forest()]),
)


def test_the_space_has_the_parameters_of_each_alternative_under_its_condition() -> None:
    expected = SearchSpace(
        {
            "model": ["svm", "tree", "forest"],
            "prepare": ["no", "scale"],
            "factor": (0.5, 2.0),
            "C": Float(0.1, 10.0, log=True, default=1.0),
        }
    )
    space = Pipeline([MODEL, score()]).search_space()

    assert space.names == ("model", "prepare", "factor", "C", "depth", "trees")
    assert space["model"].default == "svm"
    assert space["prepare"].default == "no"
    assert {name: type(space[name]) for name in expected} == {
        name: type(expected[name]) for name in expected
    }
    active = {
        ("svm", "no"): {"prepare", "C"},
        ("svm", "scale"): {"prepare", "factor", "C"},
        ("tree", "no"): {"depth"},
        ("forest", "no"): {"depth", "trees"},
    }
    for (model, prepare), names in active.items():
        point = space.fixed(model=model).sample(0)
        if "prepare" in point:
            point = space.fixed(model=model, prepare=prepare).sample(0)
        assert {*point} == {"model"} | names


@given(seed=st.integers(0, 10**6))
def test_every_point_of_the_space_runs_and_reads_all_its_parameters(seed: int) -> None:
    point = Pipeline([MODEL]).search_space().sample(seed)
    ctx = FrozenContext(point)

    (*_, last) = Pipeline([MODEL]).run([], ctx)

    assert last.split()[0] == point["model"]
    assert ctx.asked_for == {*point}


def test_only_the_chosen_alternative_runs() -> None:
    pipeline = Pipeline([MODEL])

    assert run(pipeline) == ["svm 1.0"]
    assert run(pipeline, prepare="scale", factor=2.0, C=0.5) == ["scale 2.0", "svm 0.5"]
    assert run(pipeline, model="tree", depth=7) == ["tree 7"]
    ctx = FrozenContext({"model": "forest", "trees": 4})
    assert pipeline.run([], ctx) == ["forest 3 4"]
    assert ctx.metrics["trees"] == (4,)


def test_a_step_may_set_the_choice_for_a_later_one() -> None:
    @pipeline_step
    def decide(data: Any, ctx: Any) -> Any:
        ctx["model"] = "tree"
        return data

    assert run(Pipeline([decide(), MODEL])) == ["tree 3"]


@pytest.mark.parametrize("wrong", ["trees", 1, None, ["tree"]])
def test_an_unknown_alternative_is_named(wrong: Any) -> None:
    with pytest.raises(UsageError, match=r"'model' has no alternative .*'svm', 'tree', 'forest'"):
        run(Pipeline([MODEL]), model=wrong)


def test_a_choice_needs_a_name_and_steps() -> None:
    with pytest.raises(UsageError, match="has no alternatives"):
        Choice("model")
    with pytest.raises(TypeError, match="is a text"):
        Choice(svm())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"alternative 'tree'.* Did you mean tree\(\)\?"):
        Choice("model", svm=svm(), tree=tree)  # type: ignore[arg-type]


def test_equal_names_with_different_ranges_are_refused_unless_prefixed() -> None:
    @pipeline_step
    def deep(data: Any, ctx: Any, *, depth: Integer(10, 99) = 10) -> Any:  # type: ignore[valid-type]
        return [*data, f"deep {depth}"]

    with pytest.raises(SpaceError, match=r"'depth' has two .*of the two a .*prefixed\('deep_'\)"):
        Pipeline([Choice("model", tree=tree(), deep=deep())]).search_space()
    pipeline = Pipeline([Choice("model", tree=tree(), deep=deep().prefixed("deep_"))])
    assert pipeline.search_space().names == ("model", "depth", "deep_depth")
    assert run(pipeline, model="deep", deep_depth=50) == ["deep 50"]


def test_steps_of_one_kind_are_searched_apart_with_prefixes() -> None:
    pipeline = Pipeline([scale(), scale().prefixed("b_").prefixed("a_"), scale(factor=1.5)])

    assert pipeline.search_space().names == ("factor", "a_b_factor")
    assert run(pipeline, factor=0.5, a_b_factor=2.0) == ["scale 0.5", "scale 2.0", "scale 1.5"]
    assert repr(pipeline.steps[1]) == "scale().prefixed('a_b_')"
    both = MODEL.prefixed("left_")
    names = [f"left_{name}" for name in Pipeline([MODEL]).search_space().names]
    assert list(Pipeline([both]).search_space().names) == names


def test_two_choices_of_one_name_are_told_apart_by_a_prefix() -> None:
    one, other = Choice("m", a=scale(), b=None), Choice("m", c=tree(), d=None)
    with pytest.raises(SpaceError, match=r"'m' has two .*prefixed\('m_'\)"):
        Pipeline([one, other]).search_space()

    assert Pipeline([one, other.prefixed("m_")]).search_space().names[::2] == ("m", "m_m")


def test_a_step_class_cannot_be_prefixed() -> None:
    class Reader(PipelineStep):
        def __call__(self, data: Any, ctx: FrozenContext) -> Any:
            return data

    with pytest.raises(TypeError, match="Reader reads the context itself"):
        Reader().prefixed("a_")


def test_a_parameter_that_one_step_always_needs_is_always_active() -> None:
    for steps in ([tree(), MODEL], [MODEL, tree()]):
        space = Pipeline(steps).search_space()
        assert not space["depth"].conditions
        assert "depth" in space.fixed(model="svm").sample(0)


def test_hooks_and_notes_name_the_steps_of_the_alternative() -> None:
    class Watch(BasePlugin):
        seen: list[str] = []  # noqa: RUF012

        def before_step(self, experiment: Any, step: PipelineStep) -> None:
            self.seen.append(step.name)

    @pipeline_step
    def broken(data: Any, ctx: Any) -> Any:
        raise ValueError("no")

    choice = Choice("model", good=[scale(), tree()], bad=broken())
    experiment = Experiment(nothing(), Pipeline([choice, score()]), plugins=[Watch()])
    result = experiment.run(treatments=[Treatment("bad", {"model": "bad"})])

    assert Watch.seen == ["scale", "tree", "score", "broken"]
    assert "In step 'broken'." in str(result.errors["bad_rep_0"].__notes__)


def test_the_steps_of_all_alternatives_are_set_up_once() -> None:
    calls: list[str] = []

    class Model(PipelineStep):
        def __init__(self, name: str) -> None:
            self._own = name

        def setup(self, ctx: FrozenContext) -> None:
            calls.append(f"set up {self._own}")

        def teardown(self, ctx: FrozenContext) -> None:
            calls.append(f"tear down {self._own}")

        def __call__(self, data: Any, ctx: FrozenContext) -> Any:
            return data

    a = Model("a")
    steps = [Choice("model", a=a, again=[a, Model("b")], none=None), Model("c")]
    Experiment(nothing(), Pipeline(steps)).run(replicates=3)

    assert calls == [
        "set up a",
        "set up b",
        "set up c",
        "tear down c",
        "tear down b",
        "tear down a",
    ]


EXPERIMENT = Experiment(nothing(), Pipeline([MODEL, score()]), seed=0)
MAKERS: dict[str, Callable[[SearchSpace], Any]] = {
    "random": lambda space: RandomOptimizer(space, LOSS, seed=0),
    "optuna": lambda space: OptunaOptimizer(space, LOSS, seed=0),
    "smac": lambda space: SMACOptimizer(space, LOSS, seed=0, n_init=4),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name == "smac")) for name in MAKERS]
)
@pytest.mark.parametrize("workers", [None, pytest.param(2, marks=pytest.mark.slow)])
def test_a_search_over_alternatives_is_resumed_exactly(
    name: str, workers: int | None, tmp_path: Path
) -> None:
    def search(file: str, trials: int) -> list[dict[str, Any]]:
        optimizer = MAKERS[name](EXPERIMENT.search_space())
        EXPERIMENT.optimize(optimizer, trials, storage=tmp_path / file, workers=workers)
        return [dict(each.params) for each in optimizer.observations]

    whole = search("whole.db", 8)
    search("parts.db", 5)
    parts = search("parts.db", 8)

    assert len({each["model"] for each in whole}) > 1
    if workers is None:
        assert parts == whole


def test_a_changed_alternative_is_noticed_on_resume(tmp_path: Path) -> None:
    def search(choice: Choice) -> None:
        experiment = Experiment(nothing(), Pipeline([choice, score()]), seed=0)
        optimizer = RandomOptimizer({"model": ["a", "b"]}, LOSS, seed=0)
        experiment.optimize(optimizer, 1, storage=tmp_path / "runs.db")

    search(Choice("model", a=scale(), b=tree()))
    search(Choice("model", a=scale(), b=tree()))
    for other in (
        Choice("model", a=scale(), b=tree(depth=4)),
        Choice("model", a=scale(), b=[tree(), tree()]),
        Choice("model", a=scale(), b=tree().prefixed("b_")),
        Choice("model", a=scale(), b=None),
    ):
        with pytest.raises(RunChanged, match="pipeline"):
            search(other)
