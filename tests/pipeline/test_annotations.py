"""Search spaces in annotations that are strings, as this import makes them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest

from crystallize_opt import (
    Categorical,
    Choice,
    Float,
    FrozenContext,
    Integer,
    Pipeline,
    PipelineStep,
    SearchSpace,
    pipeline_step,
)
from crystallize_opt.errors import SpaceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Rate = Annotated[float, Float(0.0, 1.0)]


def test_string_annotations_are_read() -> None:
    @pipeline_step()
    def train(
        data: NDArray[Any],
        ctx: FrozenContext,
        *,
        depth: Annotated[int, Integer(1, 5)] = 2,
        rate: Rate = 0.5,
        weights: NDArray[Any] | None = None,
    ) -> Any:
        return data

    space = Pipeline([train()]).search_space()

    assert dict(space) == {
        "depth": Integer(1, 5, default=2),
        "rate": Float(0.0, 1.0, default=0.5),
    }


def test_a_range_that_cannot_be_evaluated_is_an_error() -> None:
    class Local:
        depth = Integer(1, 5)

    @pipeline_step()
    def train(data: Any, ctx: FrozenContext, *, depth: Annotated[int, Local.depth] = 2) -> Any:
        return data

    with pytest.raises(SpaceError, match=r"'depth' in step .*train'.*Local.*module level"):
        Pipeline([train()]).search_space()


def test_a_decorated_function_is_read_through() -> None:
    """Its wrapper is of another module (contextlib), which does not know `Rate`."""

    @contextmanager
    def timed() -> Iterator[None]:
        yield

    @pipeline_step()
    @timed()
    def train(data: Any, ctx: FrozenContext, *, rate: Rate = 0.5) -> Any:
        return rate

    assert Pipeline([train()]).search_space().names == ("rate",)
    assert Pipeline([train()]).run(0, FrozenContext({"rate": 0.25})) == 0.25


def test_a_range_may_be_on_one_side_of_a_union() -> None:
    @pipeline_step()
    def step(data: Any, ctx: Any, *, rate: Annotated[float, Float(0, 1)] | None = None) -> Any:
        return data

    assert Pipeline([step()]).search_space() == SearchSpace({"rate": (0.0, 1.0)})


def test_a_range_may_be_written_in_short_forms() -> None:
    @pipeline_step()
    def step(
        data: Any,
        ctx: Any,
        *,
        bare: Float(0, 1) = 0.5,  # type: ignore[valid-type]
        short: Annotated[float, (0.0, 1.0)] = 0.5,
        whole: Annotated[int, (1, 8)] = 2,
        choices: Annotated[str, ["a", "b"]] = "a",
        documented: Annotated[float, "the rate", Float(0, 1)] = 0.5,
        not_searched: Annotated[float, "the rate", ("unit", "m")] = 0.5,
        plain: list[int] | None = None,
    ) -> Any:
        return data

    half = Float(0, 1, default=0.5)
    assert dict(Pipeline([step()]).search_space()) == {
        "bare": half,
        "short": half,
        "whole": Integer(1, 8, default=2),
        "choices": Categorical(["a", "b"], default="a"),
        "documented": half,
    }


def test_what_only_looks_like_a_range_is_not_ignored() -> None:
    @pipeline_step()
    def a_class(data: Any, ctx: Any, *, x: Annotated[float, Float] = 0.5) -> Any:
        return data

    @pipeline_step()
    def reversed_(data: Any, ctx: Any, *, x: Annotated[float, (1.0, 0.0)] = 0.5) -> Any:
        return data

    @pipeline_step()
    def two_choices(data: Any, ctx: Any, *, lr: Annotated[float, [1e-5, 1e-1]] = 1e-5) -> Any:
        return data

    with pytest.raises(SpaceError, match=r"'x' in step .*such as Float\(0.0, 1.0\)"):
        Pipeline([a_class()]).search_space()
    with pytest.raises(SpaceError, match=r"'x' in step .*Swap them"):
        Pipeline([reversed_()]).search_space()
    with pytest.warns(UserWarning, match=r"'lr' in step .*write \(1e-05, 0.1\)"):
        Pipeline([two_choices()]).search_space()


def reads(annotation: Any, default: Any = 2) -> SearchSpace:
    """Return the space of a step with this annotation, as an object or as a text."""

    def step(data: Any, ctx: Any, *, x: Any = default) -> Any:
        return data

    step.__annotations__["x"] = annotation
    return Pipeline([pipeline_step(step)()]).search_space()


MEANT_AS_RANGES: list[Any] = [
    ("rbf", "linear"),
    {"rbf", "linear"},
    frozenset({1, 2}),
    range(1, 9),
    (1, 8, 2),
    ("1", "8"),
    {"low": 1, "high": 8},
    Annotated[Integer(1, 8), int] | None,
    Annotated[Integer(1, 8), int],
]


@pytest.mark.parametrize("annotation", MEANT_AS_RANGES)
def test_what_is_neither_a_range_nor_a_type_is_refused(annotation: Any) -> None:
    with pytest.raises(SpaceError, match=r"annotation of 'x' in step .*Write"):
        reads(annotation)


@pytest.mark.parametrize("text", ["Intger(1, 8)", "(1, most)", "['a', other]", "{'a', other}"])
def test_a_text_that_makes_a_value_and_cannot_be_evaluated_is_refused(text: str) -> None:
    with pytest.raises(SpaceError, match=r"'x' in step .*cannot be evaluated.*misspelt"):
        reads(text)


def test_a_range_as_the_default_is_refused() -> None:
    for annotation in (str, Any, Categorical(["a", "b"])):
        with pytest.raises(SpaceError, match=r"default of 'x'.*x: Categorical\(\['a', 'b'\]\)"):
            reads(annotation, Categorical(["a", "b"]))


ORDINARY: list[Any] = [
    int,
    int | None,
    Literal["a", "b"],
    tuple[int, ...],
    dict[str, int],
    (int, float),
    Callable[[int], int],
    Any,
    None,
    "the number of layers",
    "Later",
    "later.Type",
    "Later[int]",
    "Later | None",
    "later.Type[int] | int | None",
    "'Later'",
    Annotated[int, ("a", "b"), {"unit": "m"}, range(3)],
]


@pytest.mark.parametrize("annotation", ORDINARY)
def test_ordinary_annotations_are_no_ranges(annotation: Any) -> None:
    assert not reads(annotation).names


def test_a_steps_class_has_no_named_parameters() -> None:
    """They would be neither filled nor searched."""

    class Train(PipelineStep):
        def __call__(self, data: Any, ctx: Any, *, x: float = 0.5) -> Any:
            return data

    class Needs(PipelineStep):
        def __call__(self, data: Any, ctx: Any, x: float) -> Any:  # type: ignore[override]
            return data

    class Wrapped(PipelineStep):
        def __call__(self, *given: Any, **named: Any) -> Any:
            return given[0]

    for step in (Train(), Needs()):
        with pytest.raises(TypeError, match=r"__call__ takes.*'x'.*ctx\.get\('x'\)"):
            Pipeline([step])
        with pytest.raises(TypeError, match=r"'x'"):
            Choice("model", other=None, own=step)
    assert Pipeline([Wrapped()]).run(1, FrozenContext()) == 1
