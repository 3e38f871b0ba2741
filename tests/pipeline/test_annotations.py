"""Search spaces in annotations that are strings, as this import makes them all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import pytest

from crystallize_opt import (
    Categorical,
    Float,
    FrozenContext,
    Integer,
    Pipeline,
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
