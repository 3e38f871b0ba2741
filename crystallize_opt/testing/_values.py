"""Tests of suggestions: every kind of parameter, conditions, constraints, names."""

# ruff: noqa: S101  (tests consist of asserts)

from __future__ import annotations

from collections.abc import Callable

import pytest

from crystallize_opt.errors import ObjectiveError, UnsupportedSpaceError
from crystallize_opt.space.numbers import Float, Integer
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.testing._base import (
    ContractPart,
    Optimizer,
    ask_one,
    completed,
    must_be_in_space,
    search,
    who,
)
from crystallize_opt.testing._spaces import (
    CONDITIONAL,
    CONSTRAINED,
    KINDS,
    LOSS,
    NAMES,
    SQUARE,
    mixed_space,
)
from crystallize_opt.trials.objective import Constraint, Objective
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.treatment import Treatment


class Values(ContractPart):
    """Every suggestion is a point of the space with the user's values."""

    @pytest.mark.parametrize("kind", KINDS)
    def test_every_kind_of_parameter(self, kind: str) -> None:
        """Values are in range and on the grid, as plain Python values or the user's objects."""
        space = {"other": (0.0, 1.0), kind: KINDS[kind]}
        if not self.takes(space):
            self.must_refuse(UnsupportedSpaceError, kind, space)
            return
        optimizer = self.make_optimizer(space, LOSS)
        treatments = checked_search(optimizer, self.asks_per_test)
        assert all(list(each.params) == list(space) for each in treatments), (
            f"{who(optimizer)} changes the order of the parameters."
        )

    @pytest.mark.parametrize("kind", ["log float", "huge log int"])
    def test_a_log_scale_is_searched_as_one(self, kind: str) -> None:
        """With log=True, the lower half of the logarithmic range is as likely as the upper half."""
        space = {"other": (0.0, 1.0), kind: KINDS[kind]}
        if not self.takes(space):
            pytest.skip(f"takes no {type(KINDS[kind]).__name__}")
        optimizer = self.make_optimizer(space, LOSS)
        treatments = search(optimizer, 10, lambda treatment: completed(treatment, 0.0))
        # The geometric means of the bounds are 0.03 and 3e4. On a linear scale, only one value in
        # 30 000 would be smaller.
        small = [t for t in treatments if t.params[kind] < (0.1 if kind == "log float" else 4e4)]
        assert 0 < len(small) < 10, (
            f"{who(optimizer)}: {len(small)} of 10 suggestions for {KINDS[kind]!r} are in the "
            "lower half of the logarithmic range."
        )

    @pytest.mark.parametrize("name", NAMES)
    def test_a_parameter_may_have_any_name(self, name: str) -> None:
        """The name of a parameter may be any string."""
        optimizer = self.make_optimizer({name: (0.0, 1.0), "other": (0.0, 1.0)}, LOSS)
        for treatment in search(optimizer, min(3, self.asks_per_test)):
            assert list(treatment.params) == [name, "other"], (
                f"{who(optimizer)} suggests {dict(treatment.params)!r} for the names {name!r} and "
                "'other'."
            )

    @pytest.mark.parametrize("name", NAMES)
    def test_a_metric_may_have_any_name(self, name: str) -> None:
        """The name of a metric may be any string."""
        optimizer = self.make_optimizer(
            SQUARE, Objective(name, "maximize"), constraints=[Constraint(f"{name}2", "<=", 1.0)]
        )
        for value in (1.0, 2.0):
            optimizer.tell(Observation(ask_one(optimizer), {name: value, f"{name}2": 0.5}))
        assert optimizer.get_best_treatment().name == optimizer.observations[1].treatment.name, (
            f"{who(optimizer)}: the best is the trial with the lower {name!r}, which is maximized."
        )
        ask_one(optimizer)

    @pytest.mark.parametrize("kind", CONDITIONAL)
    def test_only_active_parameters_are_suggested(self, kind: str) -> None:
        """A treatment has a parameter if and only if the parameter's conditions hold."""
        space = CONDITIONAL[kind]
        if not self.takes(space):
            pytest.skip("takes no such parameters")
        if not self.capabilities.conditions:
            (child, *_) = [n for n, p in SearchSpace(space).items() if p.conditions]
            self.must_refuse(UnsupportedSpaceError, child, space)
            return
        checked_search(self.make_optimizer(space, LOSS), self.asks_per_test)

    @pytest.mark.parametrize("kind", CONSTRAINED)
    def test_linear_constraints_hold(self, kind: str) -> None:
        """Every suggestion satisfies the linear constraints of the space."""
        space = SearchSpace(*CONSTRAINED[kind])
        if not self.takes(space):
            pytest.skip("takes no such parameters")
        if not self.capabilities.linear_constraints:
            self.must_refuse(UnsupportedSpaceError, "width", space)
            return
        # This loss draws the search to points that violate the constraints.
        optimizer = self.make_optimizer(space, LOSS)
        checked_search(optimizer, self.asks_per_test, is_pulled_to_the_largest_width)

    def test_linear_constraints_of_inactive_parameters(self) -> None:
        """A linear constraint does not apply if one of its parameters is inactive."""
        if not (self.capabilities.linear_constraints and self.capabilities.conditions):
            pytest.skip("takes no linear constraints, or no conditions")
        space = {"width": (0.0, 1.0), **CONDITIONAL["one child"]}
        optimizer = self.make_optimizer(SearchSpace(space, ["width + x <= 0.5"]), LOSS)
        checked_search(optimizer, self.asks_per_test, is_pulled_to_the_largest_width)

    def test_several_objectives_are_taken_or_refused(self) -> None:
        """An optimizer that does not declare several objectives refuses them."""
        objectives = [Objective("cost", "minimize"), Objective("gain", "maximize")]
        if self.capabilities.several_objectives:
            ask_one(self.make_optimizer(SQUARE, objectives))
        else:
            self.must_refuse(ObjectiveError, "objective", SQUARE, objectives)

    def test_a_fidelity_is_taken_or_refused(self) -> None:
        """An optimizer that does not declare a fidelity refuses it; others suggest it, too."""
        space = {**SQUARE, "epochs": Integer(1, 9, fidelity=True)}
        if self.capabilities.fidelity:
            checked_search(self.make_optimizer(space, LOSS), self.asks_per_test)
        else:
            self.must_refuse(UnsupportedSpaceError, "epochs", space)

    def test_everything_at_once(self) -> None:
        """One space can have parameters of all kinds, a default and a condition."""
        optimizer = self.make_optimizer(mixed_space(self.capabilities), LOSS)
        checked_search(optimizer, self.asks_per_test)

    def test_a_default_does_not_narrow_the_search(self) -> None:
        """A default does not restrict the search, and the search does not change the default."""
        space = SearchSpace({name: Float(0.0, 1.0, default=0.25) for name in ("x", "y")})
        optimizer = self.make_optimizer(space, LOSS)
        treatments = search(optimizer, max(6, self.asks_per_test))
        others = {v for t in treatments for v in t.params.values() if v != 0.25}
        assert len(others) > 1, f"{who(optimizer)} suggests hardly anything but the defaults."
        assert optimizer.space.defaults() == {"x": 0.25, "y": 0.25}, (
            f"{who(optimizer)} changes the defaults to {optimizer.space.defaults()!r}."
        )

    def test_treatments_have_names_of_their_own(self) -> None:
        """No two treatments have the same name, whether asked for or attached."""
        optimizer = self.make_optimizer(SQUARE, LOSS)
        names = [ask_one(optimizer).name]
        attached = [Treatment(f"trial_{i}", {"x": i / 10, "y": 0.5}) for i in (2, 3, 9)]
        optimizer.attach([completed(treatment) for treatment in attached])
        names += [treatment.name for treatment in attached]
        names += [t.name for t in optimizer.ask(3)] if self.most_pending > 3 else []
        names += [ask_one(optimizer).name for _ in range(4)]
        assert len(set(names)) == len(names), f"{who(optimizer)} uses a name twice: {names}."

    def test_a_batch(self) -> None:
        """`ask(n)` returns n distinct treatments, all of them pending."""
        optimizer = self.make_optimizer(SQUARE, LOSS)
        size = min(4, self.most_pending)
        for _ in range(2):
            treatments = optimizer.ask(size)
            for treatment in treatments:
                must_be_in_space(optimizer, treatment)
            names = [treatment.name for treatment in treatments]
            assert [each.name for each in optimizer.pending] == names, (
                f"{who(optimizer)}: ask({size}) returns {names}, but {optimizer.pending!r} are "
                "pending."
            )
            points = {tuple(treatment.params.values()) for treatment in treatments}
            assert len(treatments) == len(points) == size, (
                f"{who(optimizer)}: ask({size}) returns {len(treatments)} treatments, of which "
                f"{len(points)} are distinct."
            )
            for treatment in treatments:
                optimizer.tell(completed(treatment))


def checked_search(
    optimizer: Optimizer,
    trials: int,
    outcome: Callable[[Treatment], Observation] = completed,
) -> list[Treatment]:
    """Search, and check that every suggestion is a point of the space with the user's values."""

    def checked_outcome(treatment: Treatment) -> Observation:
        must_be_in_space(optimizer, treatment)
        return outcome(treatment)

    return search(optimizer, trials, checked_outcome)


def is_pulled_to_the_largest_width(treatment: Treatment) -> Observation:
    """Return a loss that draws the search to points that violate the linear constraints."""
    return completed(treatment, -float(treatment.params["width"]))
