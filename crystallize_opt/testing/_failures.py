"""Tests of failed trials: every status has one meaning, and no failure is reported as data."""

# ruff: noqa: S101  (tests consist of asserts)

from __future__ import annotations

import dataclasses
import itertools
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from crystallize_opt.errors import NoCompletedTrialError
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
from crystallize_opt.testing._spaces import LOSS, SQUARE, any_loss
from crystallize_opt.trials.objective import Objective
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import Treatment

NO_NUMBERS: tuple[Any, ...] = (math.nan, math.inf, -math.inf, None, "-1e9", [-1e9])


class Failures(ContractPart):
    """A search learns from a failed trial only that it failed."""

    def test_every_status_ends_a_trial(self) -> None:
        """A told trial of any status is no longer pending; only a completed one can be the best."""
        optimizer = self.make_optimizer(SQUARE, LOSS)
        for loss in (3.0, 7.0, 5.0):
            optimizer.tell(completed(ask_one(optimizer), loss))
        for status in (*FAILURES, Status.PRUNED, Status.COMPLETED):
            treatment = ask_one(optimizer)
            optimizer.tell(Observation(treatment, {"loss": -1e9}, status, error="boom"))
            assert optimizer.pending == [], (
                f"{who(optimizer)}: a trial that is told as {status.value!r} stays pending."
            )
            must_agree_on_what_runs(self, optimizer)
            assert optimizer.observations[-1].status is status, (
                f"{who(optimizer)} records {optimizer.observations[-1].status!r} for {status!r}."
            )
            best = optimizer.get_best_treatment()
            assert (best is treatment) == (status is Status.COMPLETED), (
                f"{who(optimizer)}: the best is {best!r} after a trial with {status!r} and loss "
                "-1e9."
            )
            front = [o.status for o in optimizer.pareto_front()]
            assert front == [Status.COMPLETED], (
                f"{who(optimizer)}: the trials on the Pareto front have the statuses {front}."
            )
        ask_one(optimizer)

    @pytest.mark.parametrize(
        "statuses", [FAILURES[:3], FAILURES[3:]], ids=lambda s: ", ".join(each.value for each in s)
    )
    def test_failures_before_any_success(self, statuses: Sequence[Status]) -> None:
        """The search continues if trials fail before any trial completes."""
        optimizer = self.make_optimizer(SQUARE, LOSS)
        left = list(statuses)
        while left:
            for treatment in [ask_one(optimizer) for _ in left[: self.most_pending]]:
                optimizer.tell(Observation(treatment, status=left.pop(0), error="boom"))
        must_agree_on_what_runs(self, optimizer)
        treatment = ask_one(optimizer)
        optimizer.tell(completed(treatment))
        assert optimizer.get_best_treatment() is treatment, (
            f"{who(optimizer)}: the best is not the only completed trial."
        )
        ask_one(optimizer)

    @pytest.mark.parametrize("successes", [0, 4])
    @pytest.mark.parametrize("kind", ["all kinds", "abandoned"])
    def test_it_suggests_after_ten_failures_in_a_row(self, kind: str, successes: int) -> None:
        """While all trials fail, the backend still suggests, and does not repeat one point."""
        optimizer = self.make_optimizer(SQUARE, LOSS)
        search(optimizer, successes)
        treatments = []
        for number in range(10):
            status = FAILURES[number % len(FAILURES)]
            treatment = ask_one(optimizer)
            treatments.append(treatment)
            optimizer.tell(
                Observation(treatment, status=status if kind == "all kinds" else Status.ABANDONED)
            )
        treatments.append(ask_one(optimizer))
        # Some methods, such as evolution, may repeat a point, but not always the same.
        points = {tuple(treatment.params.values()) for treatment in treatments}
        assert len(points) > len(treatments) / 2, (
            f"{who(optimizer)}: while all trials fail, only {len(points)} of {len(treatments)} "
            "suggestions are distinct."
        )
        if not successes:
            must_raise(
                NoCompletedTrialError,
                optimizer,
                "asking for the best when all trials failed",
                optimizer.get_best_treatment,
            )
            assert optimizer.pareto_front() == []

    @pytest.mark.parametrize("way", ["plain mapping", "observation"])
    @pytest.mark.parametrize("direction", ["minimize", "maximize"])
    def test_what_is_no_number_is_never_the_best(self, direction: Any, way: str) -> None:
        """An objective that is nan, infinite, missing or not a number makes a trial INVALID."""
        optimizer = self.make_optimizer(SQUARE, Objective("loss", direction))
        best = ask_one(optimizer)
        optimizer.tell({"loss": 1.0})
        cases: list[dict[str, Any]] = [{"loss": value} for value in NO_NUMBERS]
        if way == "observation":  # A plain mapping without the objective is refused.
            cases.append({})
        for metrics in cases:
            treatment = ask_one(optimizer)
            optimizer.tell(metrics if way == "plain mapping" else Observation(treatment, metrics))
            observation = optimizer.observations[-1]
            assert observation.status is Status.INVALID, (
                f"{who(optimizer)} records {observation.status!r} for the metrics {metrics}."
            )
            assert optimizer.get_best_treatment() is best, (
                f"{who(optimizer)}: the best is the trial with the metrics {metrics}."
            )
            assert optimizer.pending == [], (
                f"{who(optimizer)}: a trial that is told with {metrics} stays pending."
            )
            must_agree_on_what_runs(self, optimizer)
        ask_one(optimizer)

    def test_the_metrics_of_a_failed_trial_teach_nothing(self) -> None:
        """The metrics of a failed trial are recorded, but do not change the search."""
        trials = max(self.asks_per_test, 3 * len(FAILURES) + 1)
        recorded: list[list[dict[str, float]]] = [
            [{}],
            [{"loss": -1e9}, {"loss": math.nan}],
            [{"loss": math.nan}, {"loss": -1e9}],
        ]

        def outcome(metrics: Iterable[dict[str, float]]) -> Callable[[Treatment], Observation]:
            fails = itertools.cycle([True, False, False])
            failures = zip(itertools.cycle(metrics), itertools.cycle(FAILURES), strict=True)

            def of(treatment: Treatment) -> Observation:
                if next(fails):
                    return Observation(treatment, *next(failures), error="boom")
                return completed(treatment)

            return of

        suggested = []
        for metrics in recorded:
            optimizer = self.make_optimizer(SQUARE, LOSS)
            suggested.append(points_of(search(optimizer, trials, outcome(metrics))))
            same = map(operator.eq, suggested[0], suggested[-1])
            number = next((number for number, equal in enumerate(same) if not equal), None)
            assert number is None, (
                f"{who(optimizer)}: its suggestion {number} depends on whether the trials that "
                f"failed before it have metrics. Their statuses are "
                f"{[o.status.value for o in optimizer.observations[:number:3]]}; of their metrics, "
                f"in turn, it was told {metrics}."
            )

    def test_a_failing_half_does_not_trap_the_search(self) -> None:
        """If all trials in the half with the optimum fail, the search moves to the other half."""
        if not self.trap_trials:
            pytest.skip("trap_trials = 0")
        shares = []
        for seed in self.trap_seeds:
            optimizer = self.make_optimizer(SQUARE, LOSS, seed=seed)
            treatments = search(optimizer, self.trap_trials, half_of_the_square_fails)
            last = treatments[self.trap_trials // 2 :]
            shares.append(sum(t.params["x"] >= 0.5 for t in last) / len(last))
        mean = sum(shares) / len(shares)
        assert mean >= self.trap_share, (
            f"{type(self).__name__}: in the second half of {self.trap_trials} trials, {mean:.0%} "
            f"are outside of the failing half; at least {self.trap_share:.0%} must be. The seeds "
            f"have {[f'{s:.0%}' for s in shares]}."
        )

    # Numbers -----------------------------------------------------------------------------------

    def test_any_finite_value_is_taken(self) -> None:
        """The optimizer accepts huge, tiny, equal and negative values."""
        optimizer = self.make_optimizer(SQUARE, LOSS)
        losses = [1.0, 1e300, -1e300, 5e-324, 0.0, 0.0, -1.0, 1e12]
        for index in range(max(8, self.asks_per_test)):
            optimizer.tell(completed(ask_one(optimizer), losses[index % len(losses)]))
        best = optimizer.get_best_treatment()
        assert best is optimizer.observations[2].treatment, (
            f"{who(optimizer)}: the best is {best!r}, not the first trial with -1e300."
        )

    def test_other_metrics_teach_nothing(self) -> None:
        """The search learns only from the metrics of objectives and constraints."""
        suggested = []
        for more in ({}, {"other": math.nan, "more": 1e9}):
            optimizer = self.make_optimizer(SQUARE, LOSS)
            treatments = search(
                optimizer,
                self.asks_per_test,
                lambda t, more=more: Observation(t, {**more, "loss": any_loss(t.params)}),  # type: ignore[misc]
            )
            assert all(o.status is Status.COMPLETED for o in optimizer.observations)
            suggested.append(points_of(treatments))
        assert suggested[0] == suggested[1], (
            f"{who(optimizer)}: metrics that are not objectives change its suggestions."
        )

    def test_standard_errors_may_come_and_go(self) -> None:
        """Some trials may lack standard errors; without the capability, these change nothing."""
        sems = itertools.cycle([0.1, None, 0.0, 1e-12, 3.0])

        def outcome(treatment: Treatment) -> Observation:
            return dataclasses.replace(completed(treatment), sem={"loss": next(sems)})

        optimizer = self.make_optimizer(SQUARE, LOSS)
        suggested = points_of(search(optimizer, self.asks_per_test, outcome))
        if not self.capabilities.standard_errors:
            plain = self.make_optimizer(SQUARE, LOSS)
            assert suggested == points_of(search(plain, self.asks_per_test)), (
                f"{who(optimizer)} does not declare `standard_errors`, but they change its "
                "suggestions."
            )

    def test_learning_curves_are_reported_where_it_prunes(self) -> None:
        """`report` says whether to prune; a step has one answer; the curve is kept."""
        optimizer = self.make_optimizer(SQUARE, LOSS)
        for _ in range(3):
            treatment = ask_one(optimizer)
            *before, _ = state_of(optimizer)
            points = {0: 0.5, 1: math.nan, 4: 1.5}
            prunes = [optimizer.report(treatment, step, points[step]) for step in points]
            again = [optimizer.report(treatment, step, 7.0) for step in points]
            assert prunes == again, (
                f"{who(optimizer)}: report() answers {prunes}, then for the same steps {again}."
            )
            if not self.capabilities.pruning:
                assert not any(prunes), f"{who(optimizer)} prunes, but does not declare `pruning`."
                *state, _ = state_of(optimizer)  # The calls have the points of the curve.
                assert state == before, (
                    f"{who(optimizer)} does not declare `pruning`, but report() changes its state."
                )
            status = Status.PRUNED if any(prunes) else Status.COMPLETED
            optimizer.tell(Observation(treatment, {"loss": 1.5}, status))
            (replicate,) = optimizer.observations[-1].replicates
            assert repr(dict(replicate.curves["loss"])) == repr(points), (
                f"{who(optimizer)}: {points} were reported, {replicate.curves} is kept."
            )

    def test_replicates_are_reported_where_it_prunes(self) -> None:
        """`report_replicate` says whether to prune; without the capability, it changes nothing."""
        optimizer = self.make_optimizer(SQUARE, LOSS)
        for _ in range(3):
            treatment = ask_one(optimizer)
            before = state_of(optimizer)
            prunes = [optimizer.report_replicate(treatment, r, {"loss": 0.5 + r}) for r in range(3)]
            assert all(type(prune) is bool for prune in prunes), (
                f"{who(optimizer)}: report_replicate() must return True or False, not {prunes}."
            )
            if not self.capabilities.pruning:
                assert not any(prunes), f"{who(optimizer)} prunes, but does not declare `pruning`."
                assert state_of(optimizer) == before, (
                    f"{who(optimizer)} does not declare `pruning`, but report() changes its state."
                )
            status = Status.PRUNED if any(prunes) else Status.COMPLETED
            optimizer.tell(Observation(treatment, {"loss": 1.5}, status))


def half_of_the_square_fails(treatment: Treatment) -> Observation:
    """Return a failure if x < 0.5; the loss has its minimum in that half."""
    x, y = treatment.params["x"], treatment.params["y"]
    loss = {"loss": (x - 0.25) ** 2 + (y - 0.5) ** 2}
    if x < 0.5:
        return Observation(treatment, loss, Status.FAILED, error="boom")
    return Observation(treatment, loss)
