"""Enqueued points are suggested first."""

# ruff: noqa: S101  (tests consist of asserts)

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from crystallize_opt.errors import InvalidParametersError
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.testing._base import (
    ContractPart,
    ask_one,
    completed,
    exactly,
    must_be_in_space,
    must_raise,
    points_of,
    search,
    who,
)
from crystallize_opt.testing._spaces import CONDITIONAL, CONSTRAINED, LOSS, SQUARE, mixed_space


class EnqueuedPoints(ContractPart):
    """`enqueue` makes the optimizer suggest points first, in order, complete or partial."""

    def test_enqueued_points_come_first(self) -> None:
        """Complete points come in order, in batches of any size, before other suggestions."""
        space = mixed_space(self.capabilities)
        points = [space.sample(seed) for seed in (1, 2, 3)]
        optimizer = self.make_optimizer(space, LOSS)
        search(optimizer, 2)
        optimizer.enqueue(*points[:2])
        optimizer.enqueue(points[2])
        asked = [ask_one(optimizer), *(optimizer.ask(2) if self.most_pending > 2 else ())]
        assert points_of(asked) == [exactly(point) for point in points[: len(asked)]], (
            f"{who(optimizer)} suggests {points_of(asked)} first, but {points} were enqueued."
        )
        for treatment in asked:
            must_be_in_space(optimizer, treatment)
            optimizer.tell(completed(treatment))
        search(optimizer, self.asks_per_test)

    @pytest.mark.parametrize(
        ("space", "constraints", "part"),
        [
            (SQUARE, [], {"y": 0.25}),
            (SQUARE, [], {}),
            (CONDITIONAL["one child"], [], {"kind": "a"}),
            (CONDITIONAL["one child"], [], {"kind": "a", "x": 0.75}),
            (CONDITIONAL["nested"], [], {"root": False}),
            (CONSTRAINED["sum"][0], CONSTRAINED["sum"][1], {"width": 0.875}),
            (CONSTRAINED["integers"][0], CONSTRAINED["integers"][1], {"width": 14}),
        ],
        ids=["one", "none", "parent", "child", "no child", "constraint", "integers"],
    )
    def test_a_part_of_a_point_is_kept(
        self, space: Mapping[str, Any], constraints: list[str], part: Mapping[str, Any]
    ) -> None:
        """The optimizer keeps the given values, and completes them to a point of the space."""
        if not self.takes(space):
            pytest.skip("takes no such parameters")
        whole = SearchSpace(space, constraints)
        if whole.is_conditional and not self.capabilities.conditions:
            pytest.skip("takes no conditions")
        if constraints and not self.capabilities.linear_constraints:
            pytest.skip("takes no linear constraints")
        optimizer = self.make_optimizer(whole, LOSS)
        optimizer.enqueue(part)
        treatment = ask_one(optimizer)
        must_be_in_space(optimizer, treatment)
        assert {**treatment.params, **part} == dict(treatment.params), (
            f"{who(optimizer)} suggests {dict(treatment.params)!r} for the enqueued {part!r}."
        )
        optimizer.tell(completed(treatment))
        ask_one(optimizer)

    def test_what_is_no_part_of_a_point_is_not_enqueued(self) -> None:
        """An unknown name or a value out of range is refused at once, and nothing is enqueued."""
        optimizer = self.make_optimizer(SQUARE, LOSS)
        for wrong in ({"z": 1.0}, {"x": 2.0}, {"x": "a"}):
            must_raise(
                InvalidParametersError,
                optimizer,
                f"enqueueing {wrong!r}",
                lambda wrong=wrong: optimizer.enqueue({"x": 0.5, "y": 0.5}, wrong),  # type: ignore[misc]
            )
        twin = self.make_optimizer(SQUARE, LOSS)
        assert points_of([ask_one(optimizer)]) == points_of([ask_one(twin)]), (
            f"{who(optimizer)} has enqueued a point from a call that it refused."
        )

    def test_enqueued_points_are_replayed(self) -> None:
        """A replay repeats a recording with enqueued points exactly."""
        optimizer = self.make_optimizer(SQUARE, LOSS)
        search(optimizer, 2)
        optimizer.enqueue({"x": 0.5, "y": 0.25}, {"y": 0.75})
        search(optimizer, 4)
        optimizer.enqueue({"x": 0.125, "y": 0.5})  # The recording ends before this point is asked.
        again = self.make_optimizer(SQUARE, LOSS)
        again.replay(optimizer.events)
        assert points_of(again.ask()) == points_of(optimizer.ask()), (
            f"{who(optimizer)}: a replay loses the point that was enqueued last."
        )
        assert points_of(again.ask()) == points_of(optimizer.ask())
