"""Tests of attached trials: they are learnt from as told ones are, status by status."""

# ruff: noqa: S101  (asserts are what tests are made of)

from __future__ import annotations

import itertools
import math
import random
import statistics
from collections.abc import Mapping
from typing import Any

import pytest

from crystallize_opt.testing._base import (
    FAILURES,
    ContractPart,
    ask_one,
    completed,
    exactly,
    must_agree_on_what_runs,
    points_of,
    search,
    who,
)
from crystallize_opt.testing._spaces import LOSS, SQUARE
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import Treatment

_BOWL: Mapping[str, Any] = {"x": (-5.0, 5.0), "y": (-5.0, 5.0)}


class WarmStart(ContractPart):
    """Attached is learnt from, or the capabilities say that it is not."""

    def test_attached_trials_are_learnt_from(self) -> None:
        """After 40 attached points of a bowl, half of the suggestions lie in its better part.

        The median loss of the next suggestions is less than half of that of a cold start.
        """
        if not self.capabilities.attached:
            pytest.skip("does not learn from attached trials, and says so")
        medians = []
        for attached in (0, 40):
            optimizer = self.make_optimizer(_BOWL, LOSS)
            rng = random.Random(0)
            points = [{name: rng.uniform(-5.0, 5.0) for name in _BOWL} for _ in range(attached)]
            optimizer.attach(
                completed(Treatment(f"attached_{number}", point), _loss(point))
                for number, point in enumerate(points)
            )
            asked = search(optimizer, self.warm_asks, lambda t: completed(t, _loss(t.params)))
            medians.append(statistics.median(_loss(treatment.params) for treatment in asked))
        cold, warm = medians
        assert warm < cold / 2, (
            f"{who(optimizer)} declares that it learns from attached trials. After 40 of them, the "
            f"median loss of its suggestions is {warm:.3g}, and {cold:.3g} without them."
        )

    def test_told_and_attached_trials_are_known_alike(self) -> None:
        """A trial of any status is the same to the backend, whether it was told or attached."""
        told, attached = (self.make_optimizer(SQUARE, LOSS) for _ in range(2))
        # A failure before any success, every status, and a success after all failures.
        for number, status in enumerate((Status.FAILED, *Status, Status.COMPLETED)):
            treatment = ask_one(told)
            metrics = {"loss": (number - 4.5) ** 2} if status.has_value else {}
            told.tell(Observation(treatment, metrics, status, error="boom"))
        attached.attach(told.observations)
        must_agree_on_what_runs(self, attached)
        both = [
            (
                [o.status for o in optimizer.observations],
                exactly(optimizer.get_best_treatment().params),
                self.knowledge_of(optimizer),
            )
            for optimizer in (told, attached)
        ]
        for what, one, other in zip(("statuses", "best", "knowledge"), *both, strict=True):
            assert one == other, (
                f"{who(told)}: the {what} of trials that were told, and of the same trials "
                f"attached, differ:\n  {one!r}\n  {other!r}"
            )

    def test_the_metrics_of_an_attached_failure_teach_nothing(self) -> None:
        """As those of a told one: the suggestions after them are the same, bit for bit."""
        statuses = [*FAILURES, *[Status.COMPLETED] * len(FAILURES)]
        rng = random.Random(1)
        points = [{name: rng.random() for name in SQUARE} for _ in statuses]
        suggested = []
        for values in ((), (-1e9, math.nan)):
            metrics = itertools.cycle([{"loss": value} for value in values] or [{}])
            optimizer = self.make_optimizer(SQUARE, LOSS)
            optimizer.attach(
                completed(Treatment(f"attached_{number}", point))
                if status is Status.COMPLETED
                else Observation(Treatment(f"attached_{number}", point), next(metrics), status)
                for number, (point, status) in enumerate(zip(points, statuses, strict=True))
            )
            suggested.append(
                points_of([ask_one(optimizer) for _ in range(min(6, self.most_pending))])
            )
        assert suggested[0] == suggested[1], (
            f"{who(optimizer)}: its suggestions depend on whether attached failures have metrics."
        )


def _loss(params: Mapping[str, Any]) -> float:
    return float((params["x"] - 3.0) ** 2 + (params["y"] - 3.0) ** 2)
