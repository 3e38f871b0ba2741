"""Each pair of features works with NePS, or is refused when the optimizer is built."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("neps", reason="it has an environment of its own: see .ci/run")

from crystallize_opt.adapters import NePSOptimizer
from tests.adapters import pairs


@pytest.mark.parametrize(("name", "one", "other"), pairs.pairs_elsewhere("NePSOptimizer"))
def test_all_pairs_of_features(name: str, one: str, other: str, tmp_path: Path) -> None:
    pairs.run_or_refuse(name, frozenset({one, other}), tmp_path, 7)


def test_the_class_declares_what_an_optimizer_can_do() -> None:
    """The table in docs/optimizers.md is made where the library is not installed."""
    ((name, *_), *_) = pairs.pairs_elsewhere("NePSOptimizer")

    assert pairs.build(name, frozenset()).capabilities == NePSOptimizer.capabilities
