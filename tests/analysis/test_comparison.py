"""What a comparison says: ranks, tests, verdicts, curves, tables and pictures."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import imread
from scipy import stats

from crystallize_opt.analysis.cells import Cell, Goal
from crystallize_opt.analysis.comparison import Comparison
from crystallize_opt.analysis.ranks import friedman, mean_ranks, pairs
from crystallize_opt.errors import StorageError, UsageError

LOSS = {"f": Goal("loss", "minimize")}
COST = st.one_of(st.floats(-1e6, 1e6), st.just(math.inf), st.sampled_from([0.0, 1.0]))
TABLES = (
    st.integers(2, 8)
    .flatmap(
        lambda blocks: st.lists(
            st.lists(COST, min_size=blocks, max_size=blocks), min_size=2, max_size=5
        )
    )
    .map(lambda rows: {f"optimizer {i}": row for i, row in enumerate(rows)})
)


def of(
    finals: Mapping[str, list[float]], goals: Mapping[str, Goal] = LOSS, alpha: float = 0.05
) -> Comparison:
    """Build the comparison of searches of two trials, the first of which is worse."""
    cells = []
    for name, values in finals.items():
        for seed, value in enumerate(values):
            sign = next(iter(goals.values())).sign
            cells.append(
                Cell(next(iter(goals)), name, seed, (value + sign, value), (1.0, 2.0), (0.1, 0.3))
            )
    return Comparison(cells, goals, 2, alpha)


@given(costs=TABLES)
def test_mean_ranks_are_those_of_scipy(costs: dict[str, list[float]]) -> None:
    ranks = np.mean([stats.rankdata(block) for block in zip(*costs.values(), strict=True)], axis=0)

    assert list(mean_ranks(costs).values()) == pytest.approx(list(ranks))


@given(costs=TABLES, alpha=st.sampled_from([0.05, 0.5, 0.99]))
@settings(max_examples=15)
def test_the_tests_are_antisymmetric_and_a_search_without_result_loses(
    costs: dict[str, list[float]], alpha: float
) -> None:
    found = pairs(costs, alpha)
    back = pairs(dict(reversed(costs.items())), alpha)

    assert {frozenset((e.one, e.other)): e.better for e in found} == {
        frozenset((e.one, e.other)): e.better for e in back
    }
    for each in found:
        assert 0 <= each.raw_p_value <= each.p_value <= 1
        assert each.better in (None, each.one, each.other)
        if each.better is not None:
            loser = each.other if each.better == each.one else each.one
            assert costs[each.better] != costs[loser]
            assert not all(map(math.isinf, costs[each.better]))
    tested = friedman(costs)
    assert (tested is None) == (len(costs) < 3)
    assert tested is None or 0 <= tested <= 1


def test_the_p_values_are_those_of_scipy() -> None:
    rng = random.Random(0)
    costs = {
        name: [rng.random() + shift for _ in range(12)]
        for name, shift in (("a", 0.0), ("b", 0.3), ("c", 0.4))
    }

    assert friedman(costs) == pytest.approx(stats.friedmanchisquare(*costs.values()).pvalue)
    for each in pairs(costs, 0.05):
        expected = stats.wilcoxon(costs[each.one], costs[each.other]).pvalue
        assert each.raw_p_value == pytest.approx(expected)


def test_a_flat_comparison_shows_no_difference_as_often_as_alpha_says() -> None:
    rng = random.Random(1)
    wrong = 0
    for _ in range(200):
        comparison = of({name: [rng.gauss(0, 1) for _ in range(10)] for name in "abc"})
        wrong += any(each.better for each in comparison.pairs)

    # Of 200 at 5 %, more than 19 have a probability of 0.3 % (binomial).
    assert wrong <= 19


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_the_verdict_on_many_optimizers_counts_the_pairs_without_a_difference(
    direction: str,
) -> None:
    sign = 1 if direction == "minimize" else -1
    values = [float(n) for n in range(20)]
    worse = {name: [value + sign * 0.5 for value in values] for name in "bcdef"}
    comparison = of({"a": values, **worse}, {"f": Goal("m", direction)})

    assert comparison.verdict.startswith("a is better than b, c, d, e and f (corrected p <= ")
    assert comparison.verdict.endswith("). No difference shown between the other 10 pairs.")
    assert len(comparison.pairs) == 15


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_the_verdict_names_the_better_one(direction: str) -> None:
    sign = 1 if direction == "minimize" else -1
    values = [float(n) for n in range(8)]
    worse = [value + sign * 0.5 for value in values]
    comparison = of({"b": worse, "a": values, "c": worse}, {"f": Goal("m", direction)})

    assert comparison.verdict == (
        "a is better than b and c (corrected p <= 0.023). No difference shown between b and c."
    )
    assert list(comparison.ranks) == ["a", "b", "c"]
    assert comparison.ranks == {"a": 1.0, "b": 2.5, "c": 2.5}


def test_equal_searches_show_no_difference() -> None:
    assert of({"a": [1.0, 2.0], "b": [1.0, 2.0]}).verdict == "No difference shown (2 blocks)."
    three = of({name: [1.0, 2.0] for name in "abc"})
    assert three.verdict == "No difference shown (2 blocks, Friedman's test: p = 1)."
    assert "nothing to compare" in of({"a": [1.0]}).verdict


def test_a_fresh_value_counts_instead_of_the_flattered_one() -> None:
    cells = [
        Cell("f", name, seed, (flattered,), (1.0,), (0.1,), confirmed=fresh)
        for seed in range(8)
        for name, flattered, fresh in (("lucky", -5.0, 1.0 + seed), ("good", 0.5, 0.1 + seed))
    ]
    comparison = Comparison(cells, LOSS, 1)

    assert comparison.ranks == {"good": 1.0, "lucky": 2.0}
    assert comparison.verdict.startswith("good is better than lucky")
    assert comparison.summary().final.max() == pytest.approx(4.5)


def test_the_mean_curve_begins_where_every_seed_has_a_value() -> None:
    cells = [
        Cell("f", "a", 0, (None, 4.0, 2.0), (1.0, 2.0, 3.0), (0.0, 0.0, 0.0)),
        Cell("f", "a", 1, (6.0, 6.0, 4.0), (2.0, 4.0, 6.0), (0.0, 0.0, 0.0)),
        Cell("f", "a", 2, error="it failed"),
    ]
    comparison = Comparison(cells, LOSS, 3)

    curve = comparison.curve("a")
    assert (curve.places, curve.mean) == ([2.0, 3.0], [5.0, 3.0])
    assert curve.low == [4.0, 2.0]
    assert curve.high == [6.0, 4.0]
    over_time = comparison.curve("a", over="seconds")
    assert over_time.places[0] >= 2.0
    assert over_time.places[-1] == 6.0
    assert over_time.mean[-1] == 3.0
    assert comparison.area(cells[0]) == pytest.approx((6.0 + 4.0 + 2.0) / 3)
    assert comparison.area(cells[2]) is None
    with pytest.raises(UsageError, match="over= is 'trials' or 'seconds'"):
        comparison.curve("a", over="days")


def test_tables() -> None:
    comparison = of({"a": [1.0, 2.0], "b": [3.0, 4.0]})
    frame, summary = comparison.to_frame(), comparison.summary()

    assert len(frame) == 8
    assert frame.ask_seconds.tolist() == [0.1, 0.3] * 4
    assert summary.optimizer.tolist() == ["a", "b"]
    assert summary["rank"].tolist() == [1.0, 2.0]
    assert summary.final.tolist() == [1.5, 3.5]
    assert summary.ask_seconds.tolist() == [0.2, 0.2]
    assert "Minimize loss. 2 trials, 2 seeds" in str(comparison)
    assert "<table" in comparison._repr_html_()
    assert "2 optimizers" in repr(comparison)


def test_pictures(tmp_path: Path) -> None:
    rng = random.Random(0)
    comparison = of({name: [rng.random() for _ in range(6)] for name in ("tpe", "ax", "smac")})

    for figure, name in ((comparison.plot(), "curves"), (comparison.plot_ranks(), "ranks")):
        figure.savefig(tmp_path / f"{name}.png")
        assert np.ptp(imread(tmp_path / f"{name}.png")[..., :3]) == 1.0
    left, right = comparison.plot().axes
    assert left.get_ylabel() == "best loss so far (minimize)"
    assert [line.get_label() for line in left.lines] == ["tpe", "ax", "smac"]
    assert left.get_legend() is not None
    assert {line.get_linestyle() for line in left.lines} == {"-", "--", "-."}
    assert right.get_xlabel() == "seconds, with the asks"


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    for content in ("", "[]", "{}", '{"format": "other"}'):
        (tmp_path / "no.json").write_text(content)
        with pytest.raises(StorageError, match=r"no\.json' is no comparison"):
            Comparison.load(tmp_path / "no.json")
    with pytest.raises(StorageError, match="none"):
        Comparison.load(tmp_path / "none.json")
