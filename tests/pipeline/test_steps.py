"""Steps, data sources and pipelines."""

import asyncio
import pickle
from collections.abc import Callable
from typing import Annotated, Any

import pytest

from crystallize_opt import (
    Categorical,
    DataSource,
    Float,
    FrozenContext,
    Integer,
    Objective,
    Pipeline,
    PipelineStep,
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


# Pickling -------------------------------------------------------------------------------------


def test_function_steps_and_sources_can_be_pickled() -> None:
    pipeline, source = pickle.loads(  # noqa: S301
        pickle.dumps((Pipeline([add_delta(delta=1.0), record_sum()]), numbers()))
    )

    ctx = FrozenContext()
    assert isinstance(source, DataSource)
    assert pipeline.run(source.fetch(ctx), ctx) == [2.0, 3.0, 4.0]
    assert pipeline.steps[0].params == {"delta": 1.0}
