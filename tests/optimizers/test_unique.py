"""What becomes of suggestions that cannot be tried."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from crystallize_opt import (
    Objective,
    Observation,
    SearchSpace,
    SpaceExhausted,
    SpaceOptimizer,
    Treatment,
)
from crystallize_opt.optimizers.unique import Dropped

LOSS = Objective("loss", "minimize")
GRID = SearchSpace({"a": (1, 3), "b": (1, 3)})


class Scripted(SpaceOptimizer[int]):
    """Suggests what it is given, then has no suggestion; notes what it is told."""

    asks_in_a_row = 3

    def __init__(
        self, space: Any, script: Iterable[tuple[int, int] | None] = (), **options: Any
    ) -> None:
        super().__init__(space, LOSS, seed=0, **options)
        self.script = list(script)
        self.asked = 0
        self.dropped: list[tuple[int, Dropped]] = []
        self.inserted: list[dict[str, Any]] = []
        self.learnt: list[tuple[int, str]] = []

    def _suggest(self) -> tuple[int, dict[str, Any]] | None:
        self.asked += 1
        point = self.script.pop(0) if self.script else None
        return point and (self.asked, dict(zip(self.space, point, strict=True)))

    def _insert(self, params: Mapping[str, Any]) -> int:
        self.inserted.append(dict(params))
        return -len(self.inserted)

    def _drop(self, handle: int, why: Dropped) -> None:
        self.dropped.append((handle, why))

    def _learn(self, handle: int, observation: Observation) -> None:
        self.learnt.append((handle, observation.status.value))


def points(optimizer: Scripted, count: int) -> list[tuple[Any, ...]]:
    return [tuple(treatment.params.values()) for treatment in optimizer.ask(count)]


def test_a_point_that_violates_a_constraint_is_dropped() -> None:
    space = SearchSpace(dict(GRID), ["a + b <= 4"])
    optimizer = Scripted(space, [(3, 3), (2, 3), (1, 1)])

    assert points(optimizer, 1) == [(1, 1)]
    assert optimizer.dropped == [(1, Dropped.INFEASIBLE), (2, Dropped.INFEASIBLE)]


def test_after_too_many_dropped_points_comes_a_random_one_that_may_be_tried() -> None:
    space = SearchSpace(dict(GRID), ["a + b <= 4"])
    optimizer = Scripted(space, [(3, 3)] * 3 + [(1, 1)])

    ((a, b),) = points(optimizer, 1)
    assert a + b <= 4
    assert len(optimizer.dropped) == 3
    assert optimizer.inserted == [{"a": a, "b": b}]
    optimizer.tell({"loss": 1.0})
    assert optimizer.learnt == [(-1, "completed")]


@pytest.mark.parametrize(
    ("repeats", "asked", "dropped"),
    [
        ("allowed", [(1, 1), (1, 1), (1, 1), (2, 2)], []),
        ("not pending", [(1, 1), (2, 2), (1, 1), (3, 3)], [2, 3]),
        ("never", [(1, 1), (2, 2), (3, 3), (1, 2)], [2, 3, 5]),
    ],
)
def test_whether_a_point_comes_again(
    repeats: Any, asked: list[tuple[int, int]], dropped: list[int]
) -> None:
    script = [(1, 1), (1, 1), (1, 1), (2, 2), (1, 1), (3, 3), (1, 2)]
    optimizer = Scripted(GRID, script, repeats=repeats)
    found = points(optimizer, 2)
    for treatment in optimizer.pending:
        optimizer.tell(Observation(treatment, {"loss": 1.0}))
    found += points(optimizer, 2)

    assert found == asked
    assert optimizer.dropped == [(handle, Dropped.REPEATED) for handle in dropped]
    assert optimizer.capabilities.unique_points == (repeats == "never")


def test_a_finite_space_ends_after_each_of_its_points() -> None:
    for repeats in ("never", "not pending"):
        optimizer = Scripted(GRID, [(1, 1), (1, 1)], repeats=repeats)
        assert sorted(points(optimizer, 20)) == [(a, b) for a in (1, 2, 3) for b in (1, 2, 3)]
        with pytest.raises(SpaceExhausted, match="All 9 points"):
            optimizer.ask()
    # What is attached or enqueued counts, too.
    optimizer = Scripted(GRID, repeats="never")
    known = optimizer.space.points()
    optimizer.attach([Observation(_named(next(known)), {"loss": 1.0}) for _ in range(5)])
    optimizer.enqueue(next(known))
    assert len(points(optimizer, 20)) == 4


def test_a_search_may_end_instead_of_going_on_at_random() -> None:
    optimizer = Scripted(GRID, [(1, 1)], repeats="never", gives_up="It is the end.")

    assert points(optimizer, 5) == [(1, 1)]
    with pytest.raises(SpaceExhausted, match="It is the end"):
        optimizer.ask()


def test_an_enqueued_point_that_is_completed_against_a_constraint_is_completed_anew() -> None:
    class Completes(Scripted):
        def _complete(self, params: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
            if "b" in params:
                return super()._complete(params)
            return 99, {**params, "b": 3}

    optimizer = Completes(SearchSpace(dict(GRID), ["a + b <= 4"]))
    optimizer.enqueue({"a": 3})

    assert points(optimizer, 1) == [(3, 1)]
    assert optimizer.dropped == [(99, Dropped.INFEASIBLE)]


def _named(point: dict[str, Any]) -> Treatment:
    return Treatment(f"known {point}", point)
