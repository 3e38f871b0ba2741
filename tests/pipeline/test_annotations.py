"""Search spaces in annotations that are strings, as this import makes them all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import pytest

from crystallize_opt import Float, FrozenContext, Integer, Pipeline, SearchSpace, pipeline_step
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
