"""Steps, data sources and pipelines."""

import asyncio
import copy
import enum
import math
import pickle
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from crystallize_opt import (
    Categorical,
    DataSource,
    Experiment,
    Float,
    FrozenContext,
    Integer,
    Objective,
    Pipeline,
    PipelineStep,
    Treatment,
    data_source,
    pipeline_step,
)
from crystallize_opt.adapters import RandomOptimizer
from crystallize_opt.errors import MissingParameterError, SpaceError, UsageError
from tests.toy import add_delta, numbers, record_sum


@pipeline_step()
def with_default(data: Any, ctx: FrozenContext, *, x: str = "default") -> str:
    return x


@pipeline_step()
def without_default(data: Any, ctx: FrozenContext, *, x: str) -> str:
    return x


@data_source
def source_with_default(ctx: FrozenContext, *, x: str = "default") -> str:
    return x


@pytest.mark.parametrize(
    ("given", "context", "expected"),
    [
        ({"x": "given"}, {"x": "context"}, "given"),
        ({"x": "given"}, {}, "given"),
        ({"x": None}, {"x": "context"}, None),
        ({}, {"x": "context"}, "context"),
        ({}, {"x": None}, None),
        ({}, {}, "default"),
    ],
)
def test_given_when_built_beats_context_beats_default(
    given: dict[str, Any], context: dict[str, Any], expected: str | None
) -> None:
    ctx = FrozenContext(context)

    assert with_default(**given)(0, ctx) == expected
    assert source_with_default(**given).fetch(ctx) == expected
    if given or context:
        assert without_default(**given)(0, ctx) == expected


def test_missing_parameter_names_step_and_parameter() -> None:
    with pytest.raises(MissingParameterError, match="'without_default' needs the parameter 'x'"):
        without_default()(0, FrozenContext())


def test_unknown_parameter_is_refused_when_the_step_is_built() -> None:
    with pytest.raises(TypeError, match=r"no parameter 'y'. Its named parameters: 'x'"):
        with_default(y=1)


@pytest.mark.parametrize("decorate", [pipeline_step(), data_source])
def test_parameters_without_a_name_are_refused(decorate: Callable[..., Any]) -> None:
    def anything(data: Any, ctx: FrozenContext, *args: Any) -> Any:
        return data

    def any_name(data: Any, ctx: FrozenContext, **options: Any) -> Any:
        return data

    for function in (anything, any_name):
        with pytest.raises(TypeError, match="cannot be filled from the context"):
            decorate(function)


def test_step_without_data_is_refused() -> None:
    def no_data(*, x: int) -> int:
        return x

    with pytest.raises(TypeError, match=r"must take \(data, ctx, \*, named parameters\)"):
        pipeline_step()(no_data)


def test_context_may_be_left_out() -> None:
    @data_source
    def constant(*, x: int = 3) -> int:
        return x

    @pipeline_step()
    def double(data: int) -> int:
        return 2 * data

    ctx = FrozenContext()
    assert Pipeline([double()]).run(constant().fetch(ctx), ctx) == 6


@pytest.mark.parametrize(
    ("returned", "data", "metrics"),
    [
        ([1, 2], [1, 2], {}),
        (([1, 2], {"loss": 0.5}), [1, 2], {"loss": (0.5,)}),
        (([1, 2], {}), [1, 2], {}),
        ((1, 2), (1, 2), {}),
        (({"a": 1}, 2, {"loss": 0.5}), ({"a": 1}, 2, {"loss": 0.5}), {}),
        (None, None, {}),
    ],
)
def test_a_step_returns_data_or_data_with_metrics(
    returned: Any, data: Any, metrics: dict[str, Any]
) -> None:
    @pipeline_step()
    def give(_: Any, ctx: FrozenContext) -> Any:
        return returned

    ctx = FrozenContext()
    assert Pipeline([give()]).run(0, ctx) == data
    assert dict(ctx.metrics.as_dict()) == metrics


def test_each_step_gets_what_the_one_before_returned() -> None:
    class Double(PipelineStep):
        def __call__(self, data: int, ctx: FrozenContext) -> int:
            return 2 * data

    @pipeline_step()
    async def add(data: int, ctx: FrozenContext, *, delta: int) -> int:
        await asyncio.sleep(0)
        return data + delta

    ctx = FrozenContext({"delta": 1})
    assert Pipeline([add(), Double(), add(delta=5)]).run(1, ctx) == 9


@pytest.mark.parametrize("error", [ValueError("boom"), SystemExit("boom")])
def test_an_error_keeps_its_type_and_names_the_step(error: BaseException) -> None:
    @pipeline_step()
    def fail(data: Any, ctx: FrozenContext) -> Any:
        raise error

    with pytest.raises(type(error), match="boom") as caught:
        Pipeline([fail()]).run(0, FrozenContext())
    assert caught.value is error
    assert caught.value.__notes__ == ["In step 'fail'."]


def test_stop_iteration_names_the_step() -> None:
    @pipeline_step()
    def take(data: Any, ctx: FrozenContext) -> Any:
        return next(iter(()))

    with pytest.raises(RuntimeError, match="'take' raised StopIteration"):
        Pipeline([take()]).run(0, FrozenContext())


def test_a_pipeline_has_steps() -> None:
    with pytest.raises(UsageError, match="at least one step"):
        Pipeline([])


@pytest.mark.parametrize(
    ("step", "message"),
    [(record_sum, r"Did you mean record_sum\(\)\?"), (3, "not 3"), (numbers(), "PipelineStep")],
)
def test_what_is_no_step_is_refused(step: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Pipeline([step])


# The search space -----------------------------------------------------------------------------


@pipeline_step()
def train(
    data: Any,
    ctx: FrozenContext,
    *,
    rate: Annotated[float, Float(1e-4, 1.0, log=True)] = 0.1,
    depth: Annotated[int, "a comment", Integer(1, 5)],
    dropout: Annotated[float, Float(0.0, 0.5)] = 0.0,
    momentum: Annotated[float | None, Float(0.0, 1.0)] = None,
    verbose: bool = False,
) -> Any:
    return data


def test_search_space_is_collected_in_step_order() -> None:
    @pipeline_step()
    def first(data: Any, ctx: FrozenContext, *, width: Annotated[int, Integer(1, 9)]) -> Any:
        return data

    space = Pipeline([first(), train(), record_sum()]).search_space()

    assert space.names == ("width", "rate", "depth", "dropout", "momentum")
    assert space["rate"] == Float(1e-4, 1.0, log=True, default=0.1)
    assert space["depth"] == Integer(1, 5)


@pytest.mark.parametrize(
    ("range_", "default"),
    [
        (Float(0.1, 0.5), 0.0),
        (Float(0, 1, step=0.25), 0.3),
        (Integer(1, 9), 2.5),
        (Categorical(["a", "b"]), "c"),
        (Categorical([1, 2]), True),
    ],
)
def test_a_default_outside_of_its_range_is_refused(range_: Any, default: Any) -> None:
    @pipeline_step()
    def step(data: Any, ctx: Any, *, x: Annotated[Any, range_] = default) -> Any:
        return data

    with pytest.raises(SpaceError, match=r"default of 'x' in step 'step' is outside of its range"):
        Pipeline([step()]).search_space()
    # A parameter that is given is not searched.
    with pytest.raises(SpaceError, match="has nothing to search"):
        RandomOptimizer(Pipeline([step(x=default)]).search_space(), Objective("m", "minimize"))


def test_what_was_given_when_the_step_was_built_is_not_searched() -> None:
    space = Pipeline([train(rate=0.5, depth=2, momentum=None)]).search_space()

    assert space.names == ("dropout",)


def test_same_name_with_the_same_range_is_one_parameter() -> None:
    assert Pipeline([train(), train()]).search_space() == Pipeline([train()]).search_space()


def test_same_name_with_two_ranges_is_an_error() -> None:
    @pipeline_step()
    def other(data: Any, ctx: FrozenContext, *, depth: Annotated[int, Integer(1, 6)]) -> Any:
        return data

    with pytest.raises(SpaceError, match=r"'depth' has two different ranges.*'train'.*'other'"):
        Pipeline([train(), other()]).search_space()


def test_two_ranges_for_one_parameter_are_an_error() -> None:
    @pipeline_step()
    def greedy(
        data: Any, ctx: FrozenContext, *, x: Annotated[int, Integer(1, 2), Integer(3, 4)]
    ) -> Any:
        return data

    with pytest.raises(SpaceError, match=r"'x' in step .*greedy' holds 2 ranges"):
        Pipeline([greedy()]).search_space()


# Values that a step could change --------------------------------------------------------------

NESTED = st.recursive(
    st.integers(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner)
        | st.dictionaries(st.text(), inner)
        | st.builds(SimpleNamespace, x=inner)
        | st.sets(st.integers())
        | st.builds(bytearray, st.just(b"ab"))
    ),
    max_leaves=6,
)


def spoil(value: Any) -> None:
    """Empty every container in a value."""
    if isinstance(value, SimpleNamespace):
        value = vars(value)
    if isinstance(value, (list, tuple, dict)):
        for each in value.values() if isinstance(value, dict) else value:
            spoil(each)
    if hasattr(value, "clear"):
        value.clear()


def readers(value: Any) -> list[Callable[[], Any]]:
    """Return functions that read a value: given to a step or a source, and as a default."""

    def step(data: Any, ctx: Any, *, x: Any = value) -> Any:
        return x

    def source(*, x: Any = value) -> Any:
        return x

    def function(*, x: Any = value) -> Any:
        return {"x": x}

    ctx = FrozenContext()
    (plain,) = Experiment.of(function).pipeline.steps
    steps = pipeline_step(step)(), pipeline_step(step)(x=value)
    sources = data_source(source)(), data_source(source)(x=value)
    return [
        *(lambda step=each: step(0, ctx) for each in steps),
        lambda: steps[1].prefixed("second_")(0, ctx),
        *(lambda source=each: source.fetch(ctx) for each in sources),
        lambda: plain(0, ctx)[0]["x"],
    ]


@drawn(NESTED)
def test_what_a_step_does_to_a_value_changes_nothing_for_the_next_call(value: Any) -> None:
    before = copy.deepcopy(value)
    for read in readers(value):
        spoil(read())
        assert read() == value == before


def test_a_step_that_changes_its_values_gives_the_same_for_each_treatment_and_replicate() -> None:
    @data_source
    def counted(*, seen: list[int] = []) -> int:  # noqa: B006
        seen.append(1)
        return len(seen)

    @pipeline_step
    def fit(data: int, ctx: Any, *, x: float = 0.0, model: Any, log: list[float] = []) -> Any:  # noqa: B006
        model.steps += 1
        log.append(x)
        return data, {"seen": data, "steps": model.steps, "logged": len(log)}

    model = SimpleNamespace(steps=0)
    experiment = Experiment(counted(), Pipeline([fit(model=model)]), seed=0)
    treatments = [Treatment(f"x={x}", {"x": x}) for x in (1.0, 2.0)]
    result = experiment.run(treatments=treatments, replicates=3)

    for each in (result.metrics.baseline, *result.metrics.treatments.values()):
        assert set(each.metrics["seen"]) == set(each.metrics["steps"]) == {1}
        assert set(each.metrics["logged"]) == {1}
    assert model.steps == 0


class Colour(enum.Enum):
    RED = 1


@pytest.mark.parametrize(
    "value",
    [1.5, "text", None, (1, "a"), object(), Colour.RED, len, math.sqrt, Colour, lambda: 1],
)
def test_a_value_that_no_step_can_change_is_handed_over_itself(value: Any) -> None:
    for read in readers(value):
        assert read() is value


@pytest.mark.parametrize("value", [threading.Lock(), math, (each for each in "ab")])
def test_a_value_that_cannot_be_copied_is_shared(value: Any) -> None:
    for read in readers(value):
        assert read() is value


def test_a_choice_that_is_an_object_is_the_same_object_by_default_given_or_by_a_treatment() -> None:
    svm, forest = SimpleNamespace(C=1), SimpleNamespace(trees=2)

    @pipeline_step
    def fit(data: Any, ctx: Any, *, model: Categorical([svm, forest]) = svm) -> Any:  # type: ignore[valid-type]
        return model

    ctx = FrozenContext()
    ctx.treat(Treatment("forest", {"model": forest}))
    assert fit()(0, FrozenContext()) is svm
    assert fit(model=forest)(0, FrozenContext()) is forest
    assert fit()(0, ctx) is forest


def test_the_lists_of_a_choice_are_copied_but_not_the_objects_in_them() -> None:
    layer = SimpleNamespace(width=3)
    layers = [layer]

    @pipeline_step
    def fit(data: Any, ctx: Any, *, net: Categorical([layers, []]) = layers) -> Any:  # type: ignore[valid-type]
        return net

    for step in (fit(), fit(net=layers)):
        net = step(0, FrozenContext())
        assert net == layers
        assert net is not layers
        assert net[0] is layer


def test_a_range_that_cannot_be_evaluated_is_named_by_the_search_space_only() -> None:
    def fit(data: Any, ctx: Any, *, x: Any = [1]) -> Any:  # noqa: B006
        return x

    fit.__annotations__["x"] = "Categorical(unknown)"
    step = pipeline_step(fit)()

    assert step(0, FrozenContext()) == [1]
    with pytest.raises(SpaceError, match="cannot be evaluated"):
        Pipeline([step]).search_space()


# Pickling -------------------------------------------------------------------------------------


def test_function_steps_and_sources_can_be_pickled() -> None:
    pipeline, source = pickle.loads(  # noqa: S301
        pickle.dumps((Pipeline([add_delta(delta=1.0), record_sum()]), numbers()))
    )

    ctx = FrozenContext()
    assert isinstance(source, DataSource)
    assert pipeline.run(source.fetch(ctx), ctx) == [2.0, 3.0, 4.0]
    assert pipeline.steps[0].params == {"delta": 1.0}
