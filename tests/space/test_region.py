"""Regions in which random points hardly ever lie: mixtures, chains, small corners."""

from __future__ import annotations

import itertools
import math
import pickle
import random
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from crystallize_opt import Float, Integer, LinearConstraint, SearchSpace
from crystallize_opt.errors import MissingExtraError, SpaceError
from crystallize_opt.space.lattice import Solids
from crystallize_opt.space.positions import positions_in


def box(names: str, **others: Any) -> dict[str, Any]:
    return {**dict.fromkeys(names, (0.0, 1.0)), **others}


MIXTURE = SearchSpace(box("abc"), ["a + b + c == 1"])
CHAIN = SearchSpace(box("abcdefgh"), ["a <= b <= c <= d <= e <= f <= g <= h"])
CORNER = SearchSpace(box("ab", kind=["x", "y"]), ["a + b <= 0.0014"])
WHOLE = SearchSpace(dict.fromkeys("abc", (0, 20)), ["a + b + c == 7"])
MIXED = SearchSpace({"n": (0, 9), "x": (0.0, 10.0), "y": (0.0, 10.0)}, ["n + x == 5", "y <= x"])
LOGS = SearchSpace({n: Float(1e-3, 1, log=True) for n in "abc"}, ["a + b + c == 1"])
PARTLY = SearchSpace(
    {"k": ["on", "off"], "a": (0.0, 1.0), "b": Float(0, 1).when(k="on"), "c": (0.0, 1.0)},
    ["a + c <= 0.001", "a + b == 0.0005"],
)
NARROW = [MIXTURE, CHAIN, CORNER, WHOLE, MIXED, LOGS, PARTLY]
IDS = ["mixture", "chain", "corner", "whole", "mixed", "logs", "partly"]


# Draws ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", NARROW, ids=IDS)
def test_every_draw_is_a_point_and_the_same_for_a_seed(space: SearchSpace) -> None:
    assert space.region is not None
    drawn = [space.sample(seed) for seed in range(10)]
    assert [space.validate(point) for point in drawn] == drawn
    again = pickle.loads(pickle.dumps(space))  # noqa: S301
    assert [again.sample(seed) for seed in range(10)] == drawn
    assert len({space.key(point) for point in drawn}) > 5


@st.composite
def regions(draw: st.DrawFn) -> tuple[dict[str, Any], list[LinearConstraint], dict[str, Any]]:
    """Ranges, and constraints which hold at a given point, closely."""
    ranges: dict[str, Any] = {}
    for name in "abcd"[: draw(st.integers(2, 4))]:
        low, width = draw(st.integers(-5, 5)), draw(st.integers(1, 20))
        whole = draw(st.booleans())
        ranges[name] = Integer(low, low + width) if whole else Float(low, low + width)
    inside = {
        name: each.low + draw(st.integers(0, each.high - each.low)) if isinstance(each, Integer)
        else each.low + (each.high - each.low) * draw(st.floats(0, 1))
        for name, each in ranges.items()
    }  # fmt: skip
    constraints = []
    for _ in range(draw(st.integers(1, 3))):
        factors = {name: draw(st.integers(-3, 3)) for name in ranges}
        if not any(factors.values()):
            continue
        total = sum(factor * inside[name] for name, factor in factors.items())
        each = LinearConstraint(factors, total + draw(st.sampled_from([0.0, 0.01, 1.0])))
        constraints += (
            [each, each.opposite]
            if draw(st.booleans()) and each.holds(inside) and each.bound == total
            else [each]
        )
    return ranges, constraints, inside


@settings(max_examples=15, deadline=None)
@given(regions(), st.integers(0, 2**32))
def test_a_region_with_a_point_is_accepted_and_every_draw_lies_in_it(
    given_: tuple[dict[str, Any], list[LinearConstraint], dict[str, Any]], seed: int
) -> None:
    ranges, constraints, inside = given_
    space = SearchSpace(ranges, constraints)
    space.validate(inside)
    rng = random.Random(seed)
    for _ in range(3):
        space.validate(space.sample(rng))
    positions = positions_in(space)
    if positions is not None:
        for _ in range(3):
            space.validate(positions.decode(positions.space.sample(rng)))


def test_draws_reach_every_part_of_a_mixture_evenly() -> None:
    # Of a uniform point of a triangle, each corner of half its size has a quarter of the area.
    rng = random.Random(1)
    drawn = [MIXTURE.sample(rng) for _ in range(400)]
    parts = Counter(max(p, key=p.__getitem__) if max(p.values()) > 0.5 else "" for p in drawn)
    for part in ("a", "b", "c", ""):
        assert abs(parts[part] - 100) < 4 * math.sqrt(400 * 0.25 * 0.75)


def test_the_order_statistics_of_a_chain_are_those_of_uniform_numbers() -> None:
    rng = random.Random(2)
    drawn = np.array([list(CHAIN.sample(rng).values()) for _ in range(200)])
    expected = np.arange(1, 9) / 9
    deviation = np.sqrt(expected * (1 - expected) / 10)
    assert np.all(np.abs(drawn.mean(axis=0) - expected) < 4.5 * deviation / math.sqrt(200))


def test_all_whole_points_come_equally_often() -> None:
    space = SearchSpace(dict.fromkeys("abc", (0, 20)), ["a + b + c == 3"])
    points = [p for p in itertools.product(range(4), repeat=3) if sum(p) == 3]
    rng = random.Random(3)
    counts = Counter(tuple(space.sample(rng).values()) for _ in range(200))
    assert set(counts) == set(points)
    assert sum((counts[p] - 20) ** 2 / 20 for p in points) < 30  # chi-squared, 9 degrees


# Positions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", NARROW[:-1], ids=IDS[:-1])
def test_each_position_is_a_point_and_each_point_has_its_positions(space: SearchSpace) -> None:
    positions = positions_in(space)
    assert positions is not None
    assert not positions.space.constraints
    rng = random.Random(0)
    for _ in range(30):
        point = space.validate(positions.decode(positions.space.sample(rng)))
        assert list(point) == list(space)
        there = positions.space.validate(positions.encode(point))
        back = positions.decode(there)
        assert back.pop("kind", None) == point.pop("kind", None)
        assert back == pytest.approx(point, rel=1e-9, abs=1e-12)


def test_what_the_others_determine_has_no_position() -> None:
    positions = positions_in(MIXTURE)
    assert positions is not None
    assert list(positions.space) == ["position of a", "position of b"]
    assert positions_in(SearchSpace(box("ab"), ["a + b <= 1"])) is None
    assert positions_in(PARTLY) is None


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1.0, 1e3, 1e9])
def test_what_has_a_position_does_not_depend_on_the_unit(scale: float) -> None:
    ranges = dict.fromkeys("abc", (0.0, scale))
    whole = LinearConstraint(dict.fromkeys("abc", 1.0), scale)
    positions = positions_in(SearchSpace(ranges, [whole, whole.opposite]))
    assert positions is not None
    assert list(positions.space) == ["position of a", "position of b"]


def test_random_positions_are_spread_like_random_points() -> None:
    positions = positions_in(CHAIN)
    assert positions is not None
    rng = random.Random(0)
    found = [positions.decode(positions.space.sample(rng)) for _ in range(400)]
    means = np.array([list(point.values()) for point in found]).mean(axis=0)
    assert np.all(np.abs(means - np.arange(1, 9) / 9) < 0.06)


# Refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "constraints", "named"),
    [
        (box("abc"), ["a + b >= 1.5", "b + c <= 0.4", "c >= 0.1"],
         ["a + b >= 1.5", "b + c <= 0.4"]),
        (box("abc"), ["a + b <= 1", "a <= b", "b <= c", "a >= c + 0.1"],
         ["a - b <= 0", "b - c <= 0", "-a + c <= -0.1"]),
        (box("ab"), ["a + b <= 1", "a + b >= 1.0001"], ["a + b <= 1", "a + b >= 1.0001"]),
        ({"n": (0, 9), "m": (0, 9)}, ["2*n + 4*m == 11"], ["2*n + 4*m <= 11", "2*n + 4*m >= 11"]),
        ({"n": (0, 9), "x": (0.2, 0.8)}, ["n + x == 5"], ["n + x <= 5", "n + x >= 5"]),
        (box("abc", k=["on"], d=Float(0, 1).when(k="on")), ["a + d == 1", "a + d == 0.5"], []),
    ],
)  # fmt: skip
def test_a_contradiction_is_refused_with_the_constraints_named(
    parameters: Any, constraints: list[str], named: list[str]
) -> None:
    with pytest.raises(SpaceError, match="contradict each other") as caught:
        SearchSpace(parameters, constraints)
    for text in named:
        assert repr(text) in str(caught.value)
    assert ("'c >= 0.1'" in str(caught.value)) is False  # It holds, whatever the others say.


def test_without_scipy_a_wide_region_works_and_a_narrow_one_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Missing:
        @staticmethod
        def find_spec(name: str, *_: Any) -> None:
            if name == "scipy":
                raise ModuleNotFoundError("No module named 'scipy'", name=name)

    monkeypatch.setattr(sys, "meta_path", [Missing, *sys.meta_path])
    for name in [*sys.modules]:
        if name.partition(".")[0] == "scipy" or name == "crystallize_opt.space.lattice":
            monkeypatch.delitem(sys.modules, name)
    SearchSpace(box("ab"), ["a + b <= 1"]).sample(0)
    with pytest.raises(MissingExtraError, match=r"crystallize-opt\[constraints\]"):
        SearchSpace(box("abc"), ["a + b + c == 1"])


def test_constraints_with_too_many_sides_are_drawn_from_all_the_same() -> None:
    rng = np.random.default_rng(0)
    names = [f"x{i}" for i in range(12)]
    constraints = [
        LinearConstraint(dict(zip(names, row, strict=True)), float(row.sum() / 2 - 0.3))
        for row in rng.normal(size=(14, 12))
    ]
    space = SearchSpace(dict.fromkeys(names, (0.0, 1.0)), constraints)
    assert space.region is not None
    assert space.region.whole is not None
    assert not space.region.whole.polytope.has_intervals
    assert positions_in(space) is None
    for seed in range(5):
        space.validate(space.sample(seed))


# Which regions are narrow, and with conditions ----------------------------------------------------


@pytest.mark.parametrize(
    ("bound", "share", "is_narrow"), [(0.15, 0.011, True), (0.5, 0.125, False)]
)
def test_a_region_is_narrow_where_less_than_a_twentieth_of_the_draws_hit_it(
    bound: float, share: float, is_narrow: bool
) -> None:
    assert bound**2 / 2 == pytest.approx(share, rel=0.05)
    space = SearchSpace(box("ab"), [f"a + b <= {bound}"])
    assert (space.region is not None) is is_narrow


@pytest.mark.parametrize("kinds", [["p", "q"], ["q", "p"]])
def test_a_contradiction_under_one_choice_only_is_no_contradiction(kinds: list[str]) -> None:
    space = SearchSpace(
        {
            "a": (0.0, 1.0),
            "kind": kinds,
            "c": Float(0.5, 1.0).when(kind="p"),
            "d": Float(0.0, 1.0).when(kind="q"),
        },
        ["a + c <= 0.7", "c <= a", "a + d <= 0.002"],
    )
    for seed in range(5):
        point = space.sample(seed)
        assert point["kind"] == "q"
        assert space.validate(point) == point


def test_the_children_of_a_constrained_number_follow_its_drawn_value() -> None:
    space = SearchSpace(
        {"n": (1, 30), "m": (1, 30), "child": Float(0, 1).when(n=2)}, ["n + m <= 4"]
    )
    assert space.region is not None
    points = [space.sample(seed) for seed in range(30)]

    assert [space.validate(point) for point in points] == points
    assert {"child" in point for point in points} == {True, False}


def test_draws_of_numbers_on_a_log_scale_are_uniform_on_it() -> None:
    """As those among plain draws that happen to satisfy the constraint."""
    names = "abc"
    logs = {n: Float(1e-4, 1.0, log=True) for n in names}
    space = SearchSpace(logs, ["a + b + c <= 0.002"])
    assert space.region is not None
    whole = space.region.whole
    assert whole is not None
    rng = random.Random(0)
    plain = (space.draw(rng) for _ in range(5_000))
    expected = [
        math.log(each[n]) for each in plain if space.satisfies_constraints(each) for n in names
    ]
    drawn = [math.log(v) for _ in range(60) for v in whole.draw(rng).values()]

    error = math.hypot(*(np.std(each) / math.sqrt(len(each)) for each in (drawn, expected)))
    assert abs(np.mean(drawn) - np.mean(expected)) < 4 * error


def test_a_step_keeps_numbers_on_a_log_scale_uniform_on_it() -> None:
    low, names = 1e-4, "abc"
    logs = {n: Float(low, 1.0, log=True) for n in names}
    constraint = LinearConstraint(dict.fromkeys(names, 1.0), 0.002)
    polytope, rng = Solids(logs, [constraint]).polytope, np.random.default_rng(0)
    values = np.exp(rng.uniform(math.log(low), math.log(0.002), (40_000, 3)))
    points = values[values.sum(axis=1) <= 0.002] - low
    moved = points
    for _ in range(20):
        directions = rng.permutation(moved) - rng.permutation(moved)
        moved = polytope._step(moved, directions, rng.random((2, len(moved))))

    assert np.mean(np.any(moved != points, axis=1)) > 0.9
    before, after = np.log(points + low).ravel(), np.log(moved + low).ravel()
    error = math.hypot(before.std(), after.std()) / math.sqrt(len(points))
    assert abs(before.mean() - after.mean()) < 4 * error
    assert after.std() == pytest.approx(before.std(), rel=0.03)


def test_numbers_with_steps_fill_the_grid_of_their_region() -> None:
    space = SearchSpace(
        {"a": Float(0, 20, step=0.5), "b": Float(0, 20, step=0.25)}, ["a + b == 3.5"]
    )
    points = [space.sample(seed) for seed in range(60)]

    assert [space.validate(point) for point in points] == points
    assert {point["a"] for point in points} == {number / 2 for number in range(8)}


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(0.1, 10.0), min_size=3, max_size=5), st.floats(0.05, 0.3))
def test_a_line_within_an_equality_is_not_ended_by_the_equality(
    factors: list[float], share: float
) -> None:
    """Rounding lets the line and the equality meet far outside, or at once."""
    names = "abcde"[: len(factors)]
    each = LinearConstraint(dict(zip(names, factors, strict=True)), max(share * sum(factors), 1e-3))
    solids = Solids(SearchSpace(box(names)), [each, each.opposite])  # type: ignore[arg-type]
    polytope, rng = solids.polytope, np.random.default_rng(0)
    points = polytope.population
    directions = points - points[rng.permutation(len(points))]
    moved = polytope._step(points, directions, rng.random((2, len(points))))

    sums = moved @ np.array(factors)
    assert sums == pytest.approx(np.full(len(moved), each.bound), rel=1e-6)
    assert np.mean(np.any(np.abs(moved - points) > 1e-6, axis=1)) > 0.9


def test_a_draw_within_an_equality_walks_away_from_its_start() -> None:
    whole = LinearConstraint(dict.fromkeys("abc", 1.0), 1.0)
    parts = dict.fromkeys("abc", Float(0, 1))
    polytope = Solids(parts, [whole, whole.opposite]).polytope

    class Numbers(random.Random):
        """Begins with the same numbers: the start is the same, the walk is another one."""

        def __init__(self, seed: int) -> None:
            super().__init__(seed)
            self.start = [0.2, 0.4, 0.6]

        def random(self) -> float:
            return self.start.pop() if self.start else super().random()

    drawn = [polytope.draw(Numbers(seed)) for seed in range(40)]
    assert np.array(drawn).sum(axis=1) == pytest.approx(np.ones(40))
    # As far from each other as uniform points of a mixture, each of which has a variance of 1/18.
    assert np.var(np.array(drawn), axis=0) == pytest.approx(np.full(3, 1 / 18), rel=0.5)


@settings(max_examples=15, deadline=None)
@given(regions())
def test_intervals_are_those_that_linear_programming_finds(
    given_: tuple[dict[str, Any], list[LinearConstraint], dict[str, Any]],
) -> None:
    ranges, constraints, _ = given_
    looser = [LinearConstraint(each.coefficients, each.bound + 5.0) for each in constraints]
    polytope = Solids(ranges, [*looser, *constraints]).polytope
    point, width = polytope.population[0], polytope._width
    for index in range(polytope.count):
        ends = []
        for sign in (1.0, -1.0):
            box = [*((v, v) for v in point[:index]), *((None, None) for _ in point[index:])]
            cost = sign * np.eye(polytope.count)[index]
            # The values before may satisfy an equality but for a rounding.
            solved = linprog(cost, polytope._rows, polytope._bounds + 1e-7, bounds=box)
            ends.append(solved.x[index])
        assert polytope.interval(index, point[:index]) == pytest.approx(
            ends, abs=1e-5 * width.max()
        )


@pytest.mark.parametrize("factor", [0.1, 0.3, 0.7, 1.1, 1 / 3])
def test_an_equality_and_a_multiple_of_it_do_not_contradict_each_other(factor: float) -> None:
    """But for a rounding, they do."""
    once = LinearConstraint(dict(zip("abc", (0.1, 0.7, 0.3), strict=True)), 0.37)
    again = LinearConstraint(
        {name: factor * each for name, each in once.coefficients.items()}, factor * once.bound
    )
    constraints = [once, once.opposite, again, again.opposite]
    space = SearchSpace(box("abc"), constraints)

    space.validate(space.sample(0))


@pytest.mark.parametrize(("constraint", "value"), [("a + b <= 0", 0.0), ("a + b >= 2", 1.0)])
def test_a_region_may_be_a_corner(constraint: str, value: float) -> None:
    assert SearchSpace(box("ab"), [constraint]).sample(0) == {"a": value, "b": value}


@pytest.mark.parametrize("constraint", ["a + b + 3*k <= 6.001", "a + b - 3*k >= -4.001"])
def test_a_number_with_one_value_counts_in_a_constraint(constraint: str) -> None:
    space = SearchSpace({**box("ab"), "k": Integer(2, 2)}, constraints=[constraint])
    rng = random.Random(0)

    assert space.region is not None
    for _ in range(20):
        point = space.sample(rng)
        assert point["k"] == 2
        assert min(point["a"] + point["b"], 2 - point["a"] - point["b"]) <= 0.001
