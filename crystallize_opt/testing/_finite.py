"""Tests of spaces with few points, which a search exhausts."""

# ruff: noqa: S101  (tests consist of asserts)

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from crystallize_opt.errors import SpaceExhausted
from crystallize_opt.space.numbers import Integer
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.space.unseen import LISTED
from crystallize_opt.testing._base import (
    ContractPart,
    Optimizer,
    ask_one,
    completed,
    must_be_in_space,
    must_raise,
    search,
    who,
)
from crystallize_opt.testing._spaces import FINITE, LOSS, finite_space
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.treatment import Treatment


class FiniteSpaces(ContractPart):
    """A finite space ends with `SpaceExhausted` when all of its points have been suggested."""

    @pytest.mark.parametrize("kind", FINITE)
    def test_a_finite_space_ends(self, kind: str) -> None:
        """Every point is suggested; with `unique_points`, every point is suggested only once.

        As in a search, the outcome of a point that is suggested again is reported again.
        """
        space = self._finite_space(kind)
        optimizer = self.make_optimizer(space, LOSS)
        count = sum(1 for _ in space.points())
        asked: list[Treatment] = []
        known: dict[Any, Observation] = {}
        for _ in range(count if self.capabilities.unique_points else 30 * count):
            try:
                asked.append(ask_one(optimizer))
            except SpaceExhausted:
                break
            key = space.key(space.validate(asked[-1].params))
            first = known.setdefault(key, completed(asked[-1]))
            repeats = first.treatment is not asked[-1]
            optimizer.tell(first.repeated_by(asked[-1]) if repeats else first)
        self._must_be_exhausted(optimizer)
        self._must_be_all_points(optimizer, asked)
        if self.capabilities.unique_points:
            assert len(asked) == count, (
                f"{who(optimizer)} makes {len(asked)} suggestions, but the space has {count} "
                "points and `unique_points` is declared."
            )

    @pytest.mark.parametrize("kind", FINITE)
    def test_a_finite_space_ends_while_all_is_pending(self, kind: str) -> None:
        """The space is exhausted while all points are pending; they can still be told."""
        space = self._finite_space(kind)
        count = sum(1 for _ in space.points())
        if count > self.most_pending:
            pytest.skip(f"most_pending is less than {count}")
        optimizer = self.make_optimizer(space, LOSS)
        asked = [ask_one(optimizer) for _ in range(count)]
        self._must_be_exhausted(optimizer)
        self._must_be_all_points(optimizer, asked)
        for treatment in reversed(asked):
            optimizer.tell(completed(treatment))
        self._must_be_exhausted(optimizer)
        optimizer.get_best_treatment()

    @pytest.mark.parametrize("kind", FINITE)
    def test_the_last_batch_is_what_is_left(self, kind: str) -> None:
        """`ask(n)` returns fewer treatments if the space ends within the batch."""
        space = self._finite_space(kind)
        count = sum(1 for _ in space.points())
        if count > self.most_pending:
            pytest.skip(f"most_pending is less than {count}")
        optimizer = self.make_optimizer(space, LOSS)
        asked = optimizer.ask(count + 5)
        self._must_be_all_points(optimizer, asked)
        assert len(asked) == count, (
            f"{who(optimizer)}: ask({count + 5}) returns {len(asked)} treatments; the space has "
            f"{count} points."
        )
        self._must_be_exhausted(optimizer)

    def test_attached_points_are_not_suggested(self) -> None:
        """With `unique_points`, attached points count as suggested."""
        if not self.capabilities.unique_points:
            pytest.skip("may suggest a point twice")
        space = self._finite_space("integers")
        points = list(space.points())
        optimizer = self.make_optimizer(space, LOSS)
        known = [Treatment(f"old_{i}", point) for i, point in enumerate(points[::2])]
        optimizer.attach([completed(treatment) for treatment in known])
        asked = [ask_one(optimizer) for _ in points[1::2]]
        self._must_be_all_points(optimizer, [*known, *asked])
        self._must_be_exhausted(optimizer)

    def test_a_large_finite_space_is_not_listed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The optimizer does not list 10**8 points, even if most of them violate a constraint."""
        if not self.takes({"a": Integer(1, 2)}):
            pytest.skip("takes no integers")
        constraints = ["a + b <= 2000"] if self.capabilities.linear_constraints else []
        space = SearchSpace({"a": Integer(1, 10_000), "b": Integer(1, 10_000)}, constraints)
        points = SearchSpace.points

        def counted(*arguments: Any, **more: Any) -> Iterator[dict[str, Any]]:
            for number, point in enumerate(points(*arguments, **more)):
                assert number <= LISTED, f"{type(self).__name__} lists the points of a large space."
                yield point

        monkeypatch.setattr(SearchSpace, "points", counted)
        search(self.make_optimizer(space, LOSS), 4)

    def _finite_space(self, kind: str) -> SearchSpace:
        parameters, constraints = FINITE[kind]
        if not self.takes(parameters):
            pytest.skip("takes no such parameters")
        space = finite_space(kind)
        if space.is_conditional and not self.capabilities.conditions:
            pytest.skip("takes no conditions")
        if constraints and not self.capabilities.linear_constraints:
            pytest.skip("takes no linear constraints")
        return space

    def _must_be_exhausted(self, optimizer: Optimizer) -> None:
        pending = [treatment.name for treatment in optimizer.pending]
        for _ in range(2):
            what = f"asking after all points of {dict(optimizer.space)!r}"
            must_raise(SpaceExhausted, optimizer, what, optimizer.ask)
        assert [treatment.name for treatment in optimizer.pending] == pending, (
            f"{who(optimizer)}: an ask that raises changes the pending treatments."
        )

    def _must_be_all_points(self, optimizer: Optimizer, asked: Iterable[Treatment]) -> None:
        space = optimizer.space
        keys: set[Any] = set()
        for treatment in asked:
            must_be_in_space(optimizer, treatment)
            keys.add(space.key(space.validate(treatment.params)))
        left = [point for point in space.points() if space.key(point) not in keys]
        assert not left, f"{who(optimizer)} never suggests {left}."
