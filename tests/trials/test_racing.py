"""Whether a trial is given up in favour of another one, and the distribution that decides it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from crystallize_opt import Constraint, Objective, Observation, Replicate, Treatment
from crystallize_opt.trials.best import Criterion
from crystallize_opt.trials.racing import Race, is_above_zero, upper_tail

MINIMIZE, MAXIMIZE = Objective("loss", "minimize"), Objective("gain", "maximize")
NEW = Treatment("new")


def runs(metric: str, *values: float) -> list[Replicate]:
    return [Replicate(i, i, {metric: value}) for i, value in enumerate(values)]


def of(name: str, replicates: list[Replicate]) -> Observation:
    return Observation.of_replicates(Treatment(name), replicates)


@given(st.floats(0, 1e6), st.integers(1, 300))
def test_the_tail_of_t_is_that_of_scipy(t: float, freedom: int) -> None:
    assert upper_tail(t, freedom) == pytest.approx(stats.t.sf(t, freedom), rel=1e-9, abs=1e-13)


@given(
    st.lists(st.floats(-1e3, 1e3, width=16), min_size=2, max_size=8),
    st.sampled_from([0.01, 0.05, 0.2, 0.5]),
)
def test_the_test_is_scipys_paired_test_on_one_side(values: list[float], alpha: float) -> None:
    if len(set(values)) == 1:
        assert is_above_zero(values, alpha) == (values[0] > 0)
        return
    p_value = stats.ttest_1samp(values, 0.0, alternative="greater").pvalue
    if abs(p_value - alpha) > 1e-9:
        assert is_above_zero(values, alpha) == (p_value < alpha)


def test_noise_that_comes_with_the_seed_cancels() -> None:
    """The means overlap by far, but every replicate is worse by about one."""
    race = Race(Criterion((MINIMIZE,)), alpha=0.05)
    race.add(of("best", runs("loss", 0.0, 100.0, 50.0, 20.0)))

    assert race.beaten_by(NEW, runs("loss", 1.0, 101.1)) == "best"
    assert race.beaten_by(NEW, runs("loss", 100.0, 0.0)) is None


def test_the_test_gives_up_an_equal_trial_as_seldom_as_its_level_says() -> None:
    rng = random.Random(0)
    given_up = 0
    for _ in range(2000):
        race = Race(Criterion((MINIMIZE,)), alpha=0.1)
        race.add(of("best", runs("loss", *(rng.gauss() for _ in range(4)))))
        given_up += race.beaten_by(NEW, runs("loss", *(rng.gauss() for _ in range(4)))) is not None

    assert 160 <= given_up <= 240  # 200 expected; three standard deviations are 40


def test_only_the_best_trial_beats_others_and_only_on_common_replicates() -> None:
    race = Race(Criterion((MAXIMIZE,)), alpha=0.05)
    assert race.beaten_by(NEW, runs("gain", -1.0, -1.1)) is None  # There is no other trial.
    race.add(of("poor", runs("gain", 2.0, 2.1, 2.0)))
    race.add(of("best", [Replicate(0, 0, {"gain": 5.0}), Replicate(2, 2, {"gain": 5.1})]))

    assert race.beaten_by(NEW, runs("gain", 1.0, 1.1, 1.0)) == "best"
    assert (
        race.beaten_by(NEW, runs("gain", 1.0, 1.1)) is None
    )  # One common replicate is not enough.


def test_with_several_objectives_one_trial_must_be_better_in_every_one() -> None:
    def both(*pairs: tuple[float, float]) -> list[Replicate]:
        return [Replicate(i, i, {"loss": a, "gain": b}) for i, (a, b) in enumerate(pairs)]

    race = Race(Criterion((MINIMIZE, MAXIMIZE)), alpha=0.05)
    race.add(of("cheap", both((1.0, 1.0), (1.1, 1.0), (1.0, 1.1))))
    race.add(of("good", both((5.0, 9.0), (5.1, 9.0), (5.0, 9.1))))

    assert race.beaten_by(NEW, both((6.0, 8.0), (6.2, 8.0), (6.0, 8.2))) == "good"
    assert race.beaten_by(NEW, both((3.0, 5.0), (3.2, 5.0), (3.0, 5.2))) is None


def test_a_constraint_is_violated_significantly_or_not() -> None:
    race = Race(Criterion((MINIMIZE,), (Constraint("loss", "<=", 1.0),)), alpha=0.05)

    assert race.is_infeasible(runs("loss", 2.0, 2.1))
    assert not race.is_infeasible(runs("loss", 0.0, 9.0))
    assert not race.is_infeasible(runs("loss", 0.5, 0.6))


def test_trials_of_different_fidelities_are_not_compared() -> None:
    race = Race(Criterion((MINIMIZE,), fidelity="epochs"), alpha=0.05)
    best = Treatment("best", {"epochs": 9})
    race.add(Observation.of_replicates(best, runs("loss", 1.0, 1.1)))

    poor = runs("loss", 5.0, 5.2)
    assert race.beaten_by(Treatment("new", {"epochs": 1}), poor) is None
    assert race.beaten_by(Treatment("new", {"epochs": 9}), poor) == "best"
