"""The example optimizer is a good one: it runs, and keeps the contract."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from crystallize_opt import Constraint, Objective, SearchSpace, SpaceOptimizer
from crystallize_opt.testing import OptimizerContract

FILE = Path(__file__).parent.parent / "examples" / "custom_optimizer.py"
CmaOptimizer = runpy.run_path(str(FILE))["CmaOptimizer"]


class TestCmaOptimizer(OptimizerContract):
    def make_optimizer(
        self,
        space: SearchSpace | Mapping[str, Any],
        objective: Objective | Sequence[Objective],
        *,
        constraints: Iterable[Constraint] = (),
        seed: int | None = 0,
    ) -> SpaceOptimizer[Any]:
        optimizer: SpaceOptimizer[Any] = CmaOptimizer(
            space, objective, constraints=constraints, seed=seed
        )
        return optimizer


def test_the_example_runs_and_beats_random_search(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(FILE), run_name="__main__")

    found = re.findall(r"(\w+Optimizer) +(\d+\.\d+) degrees off", capsys.readouterr().out)
    assert [name for name, _ in found] == ["CmaOptimizer", "RandomOptimizer"]
    assert float(found[0][1]) < 0.6 < float(found[1][1])  # the thermometer itself is 0.5 off
