"""Tests of tells: pending trials in any order, attached trials, and refused tells."""

# ruff: noqa: S101  (tests consist of asserts)

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest

from crystallize_opt.errors import (
    InvalidParametersError,
    TellError,
    UnknownMetricError,
    UsageError,
)
from crystallize_opt.testing._base import (
    FAILURES,
    ContractPart,
    ask_one,
    completed,
    must_agree_on_what_runs,
    must_raise,
    points_of,
    search,
    state_of,
    who,
)
from crystallize_opt.testing._spaces import CONDITIONAL, LOSS, SQUARE, any_loss
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import Treatment


class Tells(ContractPart):
    """A tell matches a pending treatment, or it is refused and changes nothing."""

    # Pending -----------------------------------------------------------------------------------

    def test_several_pending_are_told_in_any_order(self) -> None:
        """Up to `most_pending` treatments are pending, and can be told in any order."""
        optimizer = self.make_optimizer(SQUARE, LOSS)
        for number in (self.most_pending, 3):
            asked = [ask_one(optimizer) for _ in range(min(number, self.most_pending))]
            names = [treatment.name for treatment in asked]
            assert [t.name for t in optimizer.pending] == names, (
                f"{who(optimizer)}: {names} were asked for, but {optimizer.pending!r} are pending."
            )
            must_agree_on_what_runs(self, optimizer)
            told = [*asked[1::2], *reversed(asked[::2])]
            for treatment in told:
                optimizer.tell(completed(treatment))
            assert [o.treatment.name for o in optimizer.observations[-len(told) :]] == [
                treatment.name for treatment in told
            ], f"{who(optimizer)}: the observations are not in the order of the tells."
            assert optimizer.pending == [], (
                f"{who(optimizer)}: {optimizer.pending!r} are still pending, though told."
            )
            must_agree_on_what_runs(self, optimizer)
        for observation in optimizer.observations:
            assert observation["loss"] == any_loss(observation.treatment.params), (
                f"{who(optimizer)} has mixed up the results of different treatments."
            )

    @pytest.mark.parametrize("space", ["continuous", "finite"])
    def test_pending_points_differ(self, space: str) -> None:
        """A pending point is not suggested again."""
        # With 20 points, a search that forgets pending points soon suggests one of them again.
        given = SQUARE if space == "continuous" else {"a": (1, 5), "b": (1, 4)}
        if not self.takes(given):
            pytest.skip("takes no such parameters")
        optimizer = self.make_optimizer(given, LOSS)
        search(optimizer, min(6, self.asks_per_test))
        pending = [ask_one(optimizer) for _ in range(min(8, self.most_pending))]
        points = {tuple(treatment.params.values()) for treatment in pending}
        assert len(points) == len(pending), (
            f"{who(optimizer)}: only {len(points)} of {len(pending)} pending treatments are "
            "distinct."
        )

    def test_a_treatment_may_have_been_to_another_process(self) -> None:
        """An observation may contain a copy of the treatment, such as a worker process returns."""
        optimizer = self.make_optimizer(SQUARE, LOSS)
        treatment = ask_one(optimizer)
        optimizer.tell(completed(pickle.loads(pickle.dumps(treatment))))  # noqa: S301  (our own)
        assert optimizer.pending == [], f"{who(optimizer)}: {treatment!r} is still pending."

    # Refused -----------------------------------------------------------------------------------

    def test_what_matches_no_pending_treatment_is_refused(self) -> None:
        """A repeated, unknown or ambiguous tell raises TellError and changes nothing."""
        optimizer, twin = (self.make_optimizer(SQUARE, LOSS) for _ in range(2))
        for each in (optimizer, twin):
            search(each, 2)
            ask_one(each)
            ask_one(each)
        told = optimizer.observations[0].treatment
        first, second = optimizer.pending
        stranger = Treatment(first.name, {"x": 0.123, "y": 0.456})
        wrong: list[tuple[str, type[Exception], Any]] = [
            ("telling a treatment twice", TellError, completed(told)),
            (
                "telling a treatment that was never asked for",
                TellError,
                completed(Treatment("stranger", {"x": 0.5, "y": 0.5})),
            ),
            ("telling another optimizer's treatment", TellError, completed(stranger)),
            ("telling a plain mapping while two are pending", TellError, {"loss": -1e9}),
            ("telling a number", TellError, -1e9),
        ]
        for what, error, given in wrong:
            before = state_of(optimizer)
            must_raise(error, optimizer, what, lambda given=given: optimizer.tell(given))  # type: ignore[misc]
            assert state_of(optimizer) == before, f"{who(optimizer)}: {what} changes its state."
            must_agree_on_what_runs(self, optimizer)
        for each in (optimizer, twin):
            for treatment in each.pending:
                each.tell(completed(treatment))
        assert points_of(search(optimizer, 4)) == points_of(search(twin, 4)), (
            f"{who(optimizer)}: refused tells have changed its suggestions."
        )
        assert {first.name, second.name} <= {o.treatment.name for o in optimizer.observations}

    def test_a_plain_mapping_without_the_metric_is_refused(self) -> None:
        """A plain mapping without every objective is refused and changes nothing."""
        optimizer = self.make_optimizer(SQUARE, LOSS)
        ask_one(optimizer)
        before = state_of(optimizer)
        error = must_raise(
            UnknownMetricError,
            optimizer,
            "telling a mapping without the objective",
            lambda: optimizer.tell({"accuracy": 0.5}),
        )
        assert "'loss'" in str(error), (
            f"{who(optimizer)}: the error must name the metric, but says: {error}"
        )
        assert state_of(optimizer) == before, (
            f"{who(optimizer)}: a tell that is refused changes its state."
        )
        optimizer.tell({"loss": 1})
        assert optimizer.observations[0]["loss"] == 1.0

    @pytest.mark.parametrize("number", [0, -1, 1.5, None, "2"])
    def test_a_batch_of_no_whole_number_is_refused(self, number: Any) -> None:
        """`ask(n)` takes only a whole number, at least 1."""
        optimizer = self.make_optimizer(SQUARE, LOSS)
        must_raise(UsageError, optimizer, f"ask({number!r})", lambda: optimizer.ask(number))
        assert optimizer.pending == [], (
            f"{who(optimizer)}: ask({number!r}) is refused, but {optimizer.pending!r} are pending."
        )

    # Attached ----------------------------------------------------------------------------------

    def test_trials_of_others_are_attached(self) -> None:
        """Attached trials are recorded, whatever their status, and the search continues."""
        optimizer = self.make_optimizer(SQUARE, LOSS)
        own = ask_one(optimizer)
        first = Treatment("old", {"x": 0.25, "y": 0.0})
        optimizer.attach(Observation(first, {"loss": 1.0}))
        attached = [first]
        for number, status in enumerate((*FAILURES, Status.PRUNED, Status.COMPLETED), start=1):
            attached.append(Treatment(f"old_{number}", {"x": 0.25, "y": number / 10}))
            optimizer.attach([Observation(attached[-1], {"loss": -1.0}, status, error="boom")])
            assert [o.treatment for o in optimizer.observations] == attached, (
                f"{who(optimizer)}: attached trials are not among the observations."
            )
            best = attached[-1] if status is Status.COMPLETED else first
            assert optimizer.get_best_treatment() is best, (
                f"{who(optimizer)}: the best is {optimizer.get_best_treatment()!r}; attached were "
                f"a completed trial with 1.0 and a trial with -1.0 and {status!r}."
            )
            assert optimizer.pending == [own], (
                f"{who(optimizer)}: attaching trials changes the pending treatments."
            )
        optimizer.tell(completed(own))
        search(optimizer, 3)

    def test_points_outside_of_the_space_are_not_attached(self) -> None:
        """An invalid point is refused by name, and none of the other observations is attached."""
        optimizer, twin = (self.make_optimizer(SQUARE, LOSS) for _ in range(2))
        good = completed(Treatment("good", {"x": 0.5, "y": 0.5}))
        outside: dict[str, dict[str, Any]] = {
            "too large": {"x": 0.5, "y": 1.5},
            "missing": {"x": 0.5},
            "unknown": {"x": 0.5, "y": 0.5, "z": 0.5},
            "no number": {"x": 0.5, "y": "0.5"},
        }
        for name, params in outside.items():
            bad = Observation(Treatment(name, params), {"loss": 0.0})
            before = state_of(optimizer)
            error = must_raise(
                InvalidParametersError,
                optimizer,
                f"attaching {params}",
                lambda bad=bad: optimizer.attach([good, bad]),  # type: ignore[misc]
            )
            assert repr(name) in str(error), (
                f"{who(optimizer)}: the error must name the treatment, but says: {error}"
            )
            assert state_of(optimizer) == before, (
                f"{who(optimizer)} has attached the other observations of a refused call."
            )
        assert points_of(search(optimizer, 3)) == points_of(search(twin, 3)), (
            f"{who(optimizer)}: refused observations have changed its suggestions."
        )

    def test_inactive_parameters_are_not_attached(self) -> None:
        """A point with an inactive parameter is refused; without the parameter, it is accepted."""
        space = CONDITIONAL["one child"]
        if not self.capabilities.conditions or not self.takes(space):
            pytest.skip("takes no conditions")
        optimizer = self.make_optimizer(space, LOSS)
        optimizer.attach(completed(Treatment("active", {"kind": "a", "x": 0.5})))
        optimizer.attach(completed(Treatment("inactive", {"kind": "b"})))
        bad = completed(Treatment("bad", {"kind": "b", "x": 0.5}))
        must_raise(
            InvalidParametersError,
            optimizer,
            "attaching an inactive parameter",
            lambda: optimizer.attach(bad),
        )
        search(optimizer, 3)

    # Abandoned ---------------------------------------------------------------------------------

    def test_an_abandoned_trial_may_have_a_late_outcome(self) -> None:
        """A trial is abandoned by its name; the outcome that comes after all takes its place."""
        optimizer = self.make_optimizer(SQUARE, LOSS)
        search(optimizer, 2)
        number = min(3, self.most_pending)
        asked = [ask_one(optimizer) for _ in range(number)]
        for treatment in asked:
            optimizer.abandon(treatment.name)
        told = [(o.treatment.name, o.status) for o in optimizer.observations[2:]]
        assert told == [(treatment.name, Status.ABANDONED) for treatment in asked], (
            f"{who(optimizer)}: {number} trials were abandoned, but {told} are told."
        )
        must_agree_on_what_runs(self, optimizer)
        late = [
            Observation(asked[0], {"loss": -1e3}),
            *(Observation(each, status=Status.FAILED, error="late") for each in asked[1:]),
        ]
        search(optimizer, 1)
        for observation in late:
            optimizer.tell(observation)
        outcomes = {o.treatment.name: o.status for o in optimizer.observations[-number:]}
        assert outcomes == {o.treatment.name: o.status for o in late}, (
            f"{who(optimizer)}: late outcomes were told, but its last observations are {outcomes}."
        )
        assert len(optimizer.observations) == 3 + number, (
            f"{who(optimizer)} has {len(optimizer.observations)} observations of {3 + number} "
            "trials: a late outcome takes the place of the abandonment."
        )
        assert optimizer.get_best_treatment() is asked[0], (
            f"{who(optimizer)}: the best trial is one that was abandoned, and completed after all."
        )
        must_agree_on_what_runs(self, optimizer)
        twin = self.make_optimizer(SQUARE, LOSS)
        twin.replay(optimizer.events)
        assert points_of(search(twin, 3)) == points_of(search(optimizer, 3)), (
            f"{who(optimizer)} suggests other points after its calls are replayed."
        )

    def test_what_is_not_pending_is_not_abandoned(self) -> None:
        """What was told or abandoned before, or never asked for, raises TellError."""
        optimizer = self.make_optimizer(SQUARE, LOSS)
        search(optimizer, 1)
        abandoned = ask_one(optimizer)
        optimizer.abandon(abandoned)
        told = optimizer.observations[0].treatment
        wrong: list[tuple[str, Any, str]] = [
            ("abandoning a treatment twice", abandoned, "already been abandoned"),
            ("abandoning a treatment that was told", told.name, "already been told"),
            ("abandoning what was never asked for", "stranger", "never asked for"),
            ("abandoning a number", 3, "not 3"),
        ]
        for what, given, message in wrong:
            before = state_of(optimizer)
            error = must_raise(
                TellError,
                optimizer,
                what,
                lambda given=given: optimizer.abandon(given),  # type: ignore[misc]
            )
            assert message in str(error), (
                f"{who(optimizer)}: {what} must say {message!r}, but says: {error}"
            )
            assert state_of(optimizer) == before, f"{who(optimizer)}: {what} changes its state."
        late = Observation(abandoned, status=Status.ABANDONED)
        must_raise(TellError, optimizer, "abandoning twice by tell", lambda: optimizer.tell(late))

    def test_a_trial_expires_and_may_have_a_late_outcome(self) -> None:
        """`ask(ttl=)` bounds how long a trial is pending; in a replay no time passes."""
        optimizer, twin = (self.make_optimizer(SQUARE, LOSS) for _ in range(2))
        now = 1000.0
        optimizer.ledger.clock = twin.ledger.clock = lambda: now
        (lost,) = optimizer.ask(ttl=60)
        now = 1059.0
        late = ask_one(optimizer)
        assert optimizer.pending == [lost, late], (
            f"{who(optimizer)}: pending are {optimizer.pending!r}, although no time is over."
        )
        now = 1060.0
        assert optimizer.pending == [late], (
            f"{who(optimizer)}: {optimizer.pending!r} are pending; the first has expired."
        )
        twin.replay(optimizer.events)
        assert points_of(twin.pending) == points_of([late]), (
            f"{who(optimizer)} forgets in a replay when a trial expires."
        )
        for each in (optimizer, twin):
            ask_one(each)
            (abandoned,) = each.observations
            assert (abandoned.treatment.name, abandoned.status) == (lost.name, Status.ABANDONED), (
                f"{who(optimizer)}: the next ask must abandon {lost!r}, but told {abandoned!r}."
            )
            must_agree_on_what_runs(self, each)
            each.tell(completed(lost))
        assert points_of(search(twin, 2)) == points_of(search(optimizer, 2)), (
            f"{who(optimizer)} suggests other points after its calls are replayed."
        )
        for wrong in (0, -1, math.nan, math.inf, "60", True):
            must_raise(
                UsageError,
                optimizer,
                f"ask(ttl={wrong!r})",
                lambda wrong=wrong: optimizer.ask(ttl=wrong),  # type: ignore[misc]
            )
