"""Each pair of features works together, or is refused when the optimizer is built."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.adapters import pairs

# Optuna marks whole samplers as experimental, and CMA-ES warns of constraints it ignores.
pytestmark = [
    pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning"),
]


@pytest.mark.parametrize(("name", "one", "other"), pairs.forty_pairs())
def test_forty_pairs_of_features(name: str, one: str, other: str, tmp_path: Path) -> None:
    pairs.run_or_refuse(name, frozenset({one, other}), tmp_path, 8)


def test_the_forty_pairs_are_of_all_features_and_optimizers() -> None:
    forty = pairs.forty_pairs()

    assert len(set(forty)) == 40
    assert {name for name, _, _ in forty} == {n for n, m in pairs.MAKERS.items() if not m.is_slow}
    assert len({(one, other) for _, one, other in forty}) == 21


@pytest.mark.slow
@pytest.mark.parametrize(("name", "one", "other"), pairs.all_pairs(slow=False))
def test_all_pairs_of_features(name: str, one: str, other: str, tmp_path: Path) -> None:
    pairs.run_or_refuse(name, frozenset({one, other}), tmp_path, 12)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "one", "other"), pairs.all_pairs(slow=True))
def test_all_pairs_of_features_of_the_slow(name: str, one: str, other: str, tmp_path: Path) -> None:
    pairs.run_or_refuse(name, frozenset({one, other}), tmp_path, 7)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "one", "other", "door", "home"), pairs.crossed_pairs())
def test_pairs_of_features_through_every_door_and_in_every_home(
    name: str, one: str, other: str, door: str, home: str, tmp_path: Path
) -> None:
    pairs.run_or_refuse(name, frozenset({one, other}), tmp_path, 8, door, home)


def test_the_crossed_pairs_are_of_all_features_doors_and_homes() -> None:
    crossed = pairs.crossed_pairs()

    assert len(set(crossed)) == 96
    assert {name for name, *_ in crossed} == {n for n, m in pairs.MAKERS.items() if not m.is_slow}
    assert len({(one, other) for _, one, other, _, _ in crossed}) == 21
    assert len({(door, home) for *_, door, home in crossed}) == 12
