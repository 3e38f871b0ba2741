"""Tests that an optimizer learns from attached trials, where it declares that it does."""

# ruff: noqa: S101  (asserts are what tests are made of)

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping
from typing import Any

import pytest

from crystallize_opt.testing._base import ContractPart, completed, search, who
from crystallize_opt.testing._spaces import LOSS
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


def _loss(params: Mapping[str, Any]) -> float:
    return float((params["x"] - 3.0) ** 2 + (params["y"] - 3.0) ** 2)
