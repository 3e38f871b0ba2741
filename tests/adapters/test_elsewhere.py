"""NePS and HEBO, each in its own environment: what kills and pairs of features do to a search.

The tests of a library run in its environment only: see `.ci/run`.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest

from crystallize_opt import adapters
from tests.adapters import pairs
from tests.recording.kills import assert_nothing_happened, killed

KINDS = {"neps": "NePSOptimizer", "hebo": "HEBOOptimizer"}
HERE = [library for library in KINDS if importlib.util.find_spec(library)]

pytestmark = pytest.mark.skipif(not HERE, reason="NePS and HEBO have environments of their own")

each_library = pytest.mark.parametrize("library", HERE)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forks of a process")
@each_library
@pytest.mark.parametrize("deaths", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_a_killed_search_goes_on_as_if_nothing_had_happened(
    library: str, deaths: int, tmp_path: Path
) -> None:
    found = killed(tmp_path, library, trials=6, deaths=deaths)

    assert_nothing_happened(found, deaths)


@pytest.mark.parametrize(
    ("name", "one", "other"), [each for key in HERE for each in pairs.pairs_elsewhere(KINDS[key])]
)
def test_all_pairs_of_features(name: str, one: str, other: str, tmp_path: Path) -> None:
    pairs.run_or_refuse(name, frozenset({one, other}), tmp_path, 7)


@each_library
def test_the_class_declares_what_an_optimizer_can_do(library: str) -> None:
    """The table in docs/optimizers.md is made where the library is not installed."""
    kind: Any = getattr(adapters, KINDS[library])
    ((name, *_), *_) = pairs.pairs_elsewhere(KINDS[library])

    assert pairs.build(name, frozenset()).capabilities == kind.capabilities
