"""The code of the two tutorials the project began with runs, with only its import lines changed."""

import runpy
from pathlib import Path
from typing import Any

import pytest

import crystallize_opt

TUTORIALS = Path(__file__).parent / "tutorials"


def run_tutorial(name: str) -> dict[str, Any]:
    return runpy.run_path(str(TUTORIALS / name))


def test_seed_000_finds_the_smallest_sum(capsys: pytest.CaptureFixture[str]) -> None:
    names = run_tutorial("seed_000.py")

    assert capsys.readouterr().out == "grid_best {'delta': 0.0}\n"
    assert names["optimizer"]._scores == [6.0, 9.0, 12.0]


def test_seed_001_optimizes_validates_and_applies(capsys: pytest.CaptureFixture[str]) -> None:
    names = run_tutorial("seed_001.py")

    assert names["optimizer"].results == [6, 9, 12]
    assert names["best"]._apply_value == {"delta": 0}
    metrics = names["result"].metrics
    assert metrics.baseline.metrics == {"total": [6, 6, 6]}
    assert metrics.treatments["best"].metrics == {"total": [6, 6, 6]}
    (hypothesis,) = metrics.hypotheses
    assert hypothesis.results == {"best": {"p_value": 0.01, "accepted": True, "significant": True}}
    assert hypothesis.ranking == {"best": "best", "ranked": [("best", 0.01)]}
    assert names["result"].errors == {}
    assert names["output"] == [1, 2, 3]
    assert "[6, 6, 6]" in capsys.readouterr().out


def test_seed_001_optimizer_shares_no_class_with_this_package() -> None:
    """Its first block defines Objective and BaseOptimizer itself: the protocol is all there is."""
    names = run_tutorial("seed_001.py")

    assert not isinstance(names["optimizer"], crystallize_opt.BaseOptimizer)
    assert not isinstance(names["optimizer"].objective, crystallize_opt.Objective)
