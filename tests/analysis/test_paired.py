"""The tests of paired differences are valid: simulated under the null, with fixed seeds."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crystallize_opt.analysis.paired import Test, chosen_test, evidence, holm, paired_test
from crystallize_opt.errors import MissingExtraError, UsageError

SIMULATED = 300
NULLS: dict[str, Callable[[random.Random], float]] = {
    "normal": lambda rng: rng.gauss(0, 1),
    "heavy tails": lambda rng: rng.gauss(0, 1) / max(abs(rng.gauss(0, 1)), 0.05),
    "mostly equal": lambda rng: rng.choice([0.0, 0.0, 1.0, -1.0]),
}


def most(rate: float, count: int) -> float:
    """Return how many of `count` may happen at this rate, 3.5 standard deviations included."""
    return rate * count + 3.5 * math.sqrt(count * rate * (1 - rate))


def p_values(test: Test, null: str, pairs: int = 9) -> list[float]:
    rng = random.Random(f"{test} {null}")
    return [
        paired_test([NULLS[null](rng) for _ in range(pairs)], test, 0.05).p_value
        for _ in range(SIMULATED)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("null", NULLS)
def test_the_permutation_test_is_valid_under_symmetric_noise(null: str) -> None:
    found = p_values("permutation", null)
    for alpha in (0.02, 0.05, 0.2):
        assert sum(p <= alpha for p in found) <= most(alpha, SIMULATED)


@pytest.mark.parametrize("test", ["t", "permutation"])
def test_the_p_values_are_valid_and_not_idle_under_normal_noise(test: Test) -> None:
    found = p_values(test, "normal")
    for alpha in (0.02, 0.05, 0.2):
        assert sum(p <= alpha for p in found) <= most(alpha, SIMULATED)
    assert sum(p <= 0.5 for p in found) >= SIMULATED - most(0.6, SIMULATED)


@pytest.mark.parametrize("null", NULLS)
def test_the_evidence_stays_small_whenever_one_stops(null: str) -> None:
    rng = random.Random(null)
    reached = sum(
        max(evidence([NULLS[null](rng) for _ in range(40)])) >= 20 for _ in range(SIMULATED)
    )
    assert reached <= most(0.05, SIMULATED)


@given(st.lists(st.floats(0.001, 1e300), min_size=1, max_size=7))
def test_the_evidence_is_a_martingale_under_random_signs(sizes: list[float]) -> None:
    every = [
        evidence([size if bits >> i & 1 else -size for i, size in enumerate(sizes)])[-1]
        for bits in range(2 ** len(sizes))
    ]
    assert math.isclose(sum(every) / len(every), 1.0, rel_tol=1e-9)


def test_the_evidence_grows_with_an_effect() -> None:
    rng = random.Random(0)
    assert max(evidence([1 + rng.gauss(0, 1) for _ in range(20)])) > 20


def test_the_interval_of_the_sequential_test_covers_the_centre() -> None:
    rng = random.Random(1)
    missed = 0
    for _ in range(60):
        low, high = paired_test(
            [3 + rng.gauss(0, 1) for _ in range(12)], "sequential", 0.05
        ).interval
        missed += not low <= 3 <= high
        assert low < high
    assert missed <= most(0.05, 60)


@pytest.mark.parametrize("test", ["t", "permutation", "wilcoxon", "sequential"])
def test_differences_that_are_all_equal(test: Test) -> None:
    assert paired_test([0.0] * 8, test, 0.05).p_value == 1.0
    found = paired_test([-2.0] * 8, test, 0.05)
    assert found.p_value <= 0.05
    assert found.interval[0] <= -2.0 <= found.interval[1]


def test_auto_depends_on_the_numbers_only() -> None:
    assert chosen_test("auto", 5, 0.05, 1) == "t"
    assert chosen_test("auto", 6, 0.05, 1) == "permutation"
    assert chosen_test("auto", 6, 0.05, 2) == "t"
    assert chosen_test("wilcoxon", 2, 0.05, 1) == "wilcoxon"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_keeps_the_order_and_corrects_the_smallest_fully(p_values: list[float]) -> None:
    corrected = holm(p_values)
    pairs = sorted(zip(p_values, corrected, strict=True))
    assert [c for _, c in pairs] == sorted(corrected)
    assert min(corrected) == min(1.0, len(p_values) * min(p_values))
    assert all(p <= c <= 1 for p, c in pairs)


def test_a_missing_scipy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "scipy", None)
    with pytest.raises(MissingExtraError, match=r"scipy.*crystallize-opt\[analysis\]"):
        paired_test([1.0, 2.0], "t", 0.05)


def test_an_unknown_test_is_refused() -> None:
    from crystallize_opt.analysis.paired import checked_test

    with pytest.raises(UsageError, match=r"'auto', 't', 'wilcoxon', .* not 'z'"):
        checked_test("z")


@pytest.mark.parametrize(("test", "p_value"), [("permutation", 2**-4), ("t", 0.0)])
def test_equal_differences_are_as_unlikely_as_the_test_can_say(test: Test, p_value: float) -> None:
    assert paired_test([1.5] * 5, test, 0.05).p_value == p_value
    assert paired_test([0.0] * 5, test, 0.05).p_value == 1.0


@given(st.lists(st.floats(0.01, 9).flatmap(lambda v: st.sampled_from([v, -v])), min_size=1))
def test_the_evidence_is_the_mean_of_what_the_bets_have_won(differences: list[float]) -> None:
    """Computed as it is defined, without the scaling that prevents overflows."""
    won = []
    for bet in (0.25, -0.25, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0):
        wealth = 1.0
        for count, difference in enumerate(differences, 1):
            size = math.sqrt(math.fsum(each**2 for each in differences[:count]) / count)
            wealth *= 1 + math.tanh(bet * difference / size)
        won.append(wealth)

    assert evidence(differences)[-1] == pytest.approx(math.fsum(won) / len(won))


TESTS: list[Test] = ["t", "permutation", "wilcoxon", "sequential"]


@pytest.mark.parametrize("test", TESTS)
@settings(max_examples=20)
@given(st.lists(st.integers(-9, 9), min_size=2, max_size=7), st.integers(-1000, 1000))
def test_the_scale_of_the_differences_changes_nothing(
    test: Test, differences: list[int], exponent: int
) -> None:
    unit = math.ldexp(1.0, exponent)
    plain = paired_test(list(map(float, differences)), test, 0.05)
    scaled = paired_test([unit * each for each in differences], test, 0.05)
    assert scaled.p_value == pytest.approx(plain.p_value)
    for one, other in zip(scaled.interval, plain.interval, strict=True):
        assert one / unit == pytest.approx(other, abs=1e-9)


@pytest.mark.parametrize("test", TESTS)
@settings(max_examples=20)
@given(st.lists(st.floats(-1, 1), min_size=3, max_size=20), st.floats(0.01, 1))
def test_an_interval_where_the_pairs_differ_but_for_rounding_is_their_difference(
    test: Test, noise: list[float], effect: float
) -> None:
    low, high = paired_test([(each + effect) - each for each in noise], test, 0.05).interval
    assert low <= effect + 1e-12
    assert high >= effect - 1e-12
    if test in ("t", "permutation"):
        assert (low, high) == pytest.approx((effect, effect))


@pytest.mark.parametrize("equal", [20, 90, 400])
def test_one_difference_among_equal_ones_is_no_end_of_the_sequential_test(equal: int) -> None:
    for last in (-1.0, 1.0):
        found = paired_test([0.0] * equal + [last], "sequential", 0.05)
        assert found.p_value == 1.0
        low, high = sorted((last / (equal + 1), 0.0))
        assert found.interval == pytest.approx((low, high))


@pytest.mark.parametrize("differ", [0.02, 0.1, 0.2, 0.5])
def test_the_sequential_interval_covers_zero_where_most_pairs_are_equal(differ: float) -> None:
    rng, missed = random.Random(str(differ)), 0
    for _ in range(40):
        differences = [rng.choice([-1.0, 1.0]) * (rng.random() < differ) for _ in range(40)]
        low, high = paired_test(differences, "sequential", 0.05).interval
        missed += not low - 1e-9 <= 0 <= high + 1e-9
    assert missed <= most(0.05, 40)


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=15))
def test_the_sequential_interval_lacks_zero_only_where_zero_is_rejected(
    differences: list[float],
) -> None:
    found = paired_test(differences, "sequential", 0.05)
    low, high = found.interval
    if found.p_value > 0.05:
        assert low <= 0 <= high
    mean = math.fsum(differences) / len(differences)
    assert low - 1e-9 <= mean <= high + 1e-9
