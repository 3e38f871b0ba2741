"""Which trial is best, against definitions that are plain and slow."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crystallize_opt import Constraint, Objective, Observation, Replicate, Status, Treatment
from crystallize_opt.errors import ObjectiveError
from crystallize_opt.trials.best import ENOUGH, Criterion
from crystallize_opt.trials.best_so_far import BestSoFar
from crystallize_opt.trials.front import dominates, non_dominated
from crystallize_opt.trials.objective import Direction

NAMES = ("a", "b", "c")
LAG = Constraint("lag", "<=", 1.0)
FULL = Constraint("lag", ">=", 0.0)

# Few values, so that there are ties and dominated trials.
few = st.integers(-2, 2).map(float)


@st.composite
def criteria(draw: st.DrawFn, several: bool | None = None) -> Criterion:
    low, high = {None: (1, 3), False: (1, 1), True: (2, 3)}[several]
    directions: st.SearchStrategy[Direction] = st.sampled_from(("minimize", "maximize"))
    objectives = [
        Objective(NAMES[i], draw(directions)) for i in range(draw(st.integers(low, high)))
    ]
    constraints = draw(st.sampled_from([(), (LAG,), (LAG, FULL)]))
    return Criterion(tuple(objectives), constraints, draw(st.sampled_from([None, "epochs"])))


@st.composite
def observations(draw: st.DrawFn) -> list[Observation]:
    statuses = st.sampled_from([*([Status.COMPLETED] * 6), *Status])
    found = []
    for number in range(draw(st.integers(0, 12))):
        status = draw(statuses)
        metrics = {name: draw(few) for name in (*NAMES, "lag")}
        treatment = Treatment(str(number), {"epochs": draw(st.integers(1, 3))})
        found.append(Observation(treatment, metrics if status.has_value else {}, status))
    return found


# The definitions --------------------------------------------------------------------------------


def candidates(criterion: Criterion, given: Sequence[Observation]) -> list[Observation]:
    completed = [each for each in given if each.status is Status.COMPLETED]
    found = [
        each
        for each in completed
        if all(
            each[c.metric] <= c.bound if c.comparison == "<=" else each[c.metric] >= c.bound
            for c in criterion.constraints
        )
    ]
    if criterion.fidelity is None:
        return found
    for enough in (ENOUGH, 1):
        for level in (3, 2, 1):
            of_level = [each for each in found if each.treatment.params["epochs"] == level]
            reached = [each for each in completed if each.treatment.params["epochs"] == level]
            if of_level and len(reached) >= enough:
                return of_level
    return []


def better(criterion: Criterion, one: Observation, other: Observation) -> bool:
    """Whether a trial is nowhere worse than another one, and somewhere better."""
    gains = [
        one[o.metric] - other[o.metric]
        if o.direction == "maximize"
        else other[o.metric] - one[o.metric]
        for o in criterion.objectives
    ]
    return min(gains) >= 0 and max(gains) > 0


def front(criterion: Criterion, given: Sequence[Observation]) -> list[Observation]:
    found = candidates(criterion, given)
    return [each for each in found if not any(better(criterion, other, each) for other in found)]


def distances(
    criterion: Criterion, given: Sequence[Observation], weights: Mapping[str, float] | None = None
) -> list[float]:
    """Return how far each trial of a front is from the best of each objective, in its range."""
    squares = [0.0] * len(given)
    for objective in criterion.objectives:
        values = [objective.sign * each[objective.metric] for each in given]
        weight = (weights or {}).get(objective.metric, 1.0)
        for number, value in enumerate(values):
            if max(values) > min(values):
                scaled = (value - min(values)) / (max(values) - min(values))
                squares[number] += (weight * scaled) ** 2
    return squares


def names(given: Sequence[Observation]) -> list[str]:
    return [each.treatment.name for each in given]


# The rule ---------------------------------------------------------------------------------------


@given(criteria(), observations())
def test_candidates_and_front_are_as_defined(
    criterion: Criterion, given: list[Observation]
) -> None:
    assert names(criterion.candidates(given)) == names(candidates(criterion, given))
    assert names(criterion.front(given)) == names(front(criterion, given))


@given(criteria(several=False), observations())
def test_the_best_of_one_objective_is_the_first_that_none_is_better_than(
    criterion: Criterion, given: list[Observation]
) -> None:
    assert criterion.best(given) is next(iter(front(criterion, given)), None)


@given(criteria(several=True), observations())
def test_the_best_of_several_objectives_is_a_compromise(
    criterion: Criterion, given: list[Observation]
) -> None:
    on_front = front(criterion, given)
    best = criterion.best(given)

    if best is None:
        assert on_front == []
        return
    found = distances(criterion, on_front)
    assert found[names(on_front).index(best.treatment.name)] == pytest.approx(
        min(found), rel=0, abs=1e-12
    )


weights = st.dictionaries(st.sampled_from(NAMES), st.sampled_from([0.0, 0.5, 1.0, 1e200]))


@given(criteria(several=True), observations(), weights)
def test_a_weight_multiplies_the_distance_in_an_objective(
    criterion: Criterion, given: list[Observation], weights: dict[str, float]
) -> None:
    known = {each.metric for each in criterion.objectives}
    weights = {metric: weight for metric, weight in weights.items() if metric in known}
    on_front = front(criterion, given)
    if known == set(weights) and not any(weights.values()):
        with pytest.raises(ObjectiveError, match="leaves no objective"):
            criterion.compromise(on_front, weights)
        return
    best = criterion.compromise(on_front, weights)
    if best is None:
        assert on_front == []
        return
    largest = max(weights.get(metric, 1.0) for metric in known)
    found = distances(criterion, on_front, {m: weights.get(m, 1.0) / largest for m in known})
    assert found[names(on_front).index(best.treatment.name)] == pytest.approx(
        min(found), rel=0, abs=1e-12
    )


@pytest.mark.parametrize("weights", [{"size": -1.0}, {"size": math.inf}, {"sise": 1.0}])
def test_weights_that_mean_nothing_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(ObjectiveError, match=r"for objectives of the search, \['loss', 'size'\]"):
        Criterion((LOSS, SIZE)).compromise([], weights)
    with pytest.raises(ObjectiveError, match="several objectives; here is one"):
        Criterion((LOSS,)).compromise([], {"loss": 1.0})


@given(criteria(), observations(), st.integers(1, 13))
def test_the_top_are_the_best_in_order_each_point_once(
    criterion: Criterion, given: list[Observation], count: int
) -> None:
    top = criterion.top(given, count)

    expected = candidates(criterion, given)
    if len(criterion.objectives) > 1:
        expected = front(criterion, expected)
    ranks = {}
    for each, distance in zip(expected, distances(criterion, expected), strict=True):
        several = len(criterion.objectives) > 1
        ranks[each.treatment.name] = distance if several else criterion.costs(each)[0]
    found = [ranks[each.treatment.name] for each in top]
    assert found == pytest.approx(sorted(found), rel=0, abs=1e-12)
    assert len({repr(each.params) for each in top}) == len(top)
    assert len(top) == min(count, len({repr(each.params) for each in expected}))
    left = {name: rank for name, rank in ranks.items() if name not in names(top)}
    points = [each.params for each in top]
    for each in expected:
        if each.treatment.name in left and each.params not in points:
            assert left[each.treatment.name] >= max(found) - 1e-12
    if top:
        best = criterion.best(given)
        assert best is not None
        assert top[0].treatment.name == best.treatment.name


few_lags = st.sampled_from([0.0, 1.0, 1.5, 3.0, 1e308])


@given(st.lists(st.tuples(few_lags, few_lags), min_size=1, max_size=6))
@example([(3.0, 1.0), (1.5, 3.0), (1.0, 1e308)])  # The second one, although it fails by more.
def test_the_nearest_trial_fails_the_least_of_what_trials_fail_at_most(
    values: list[tuple[float, float]],
) -> None:
    limits = (Constraint("lag", "<=", 1.0), Constraint("size", "<=", 1.0))
    trials = [of(loss=1.0, lag=lag, size=size) for lag, size in values]
    criterion = Criterion((LOSS,), limits)

    over = [(max(lag - 1, 0.0), max(size - 1, 0.0)) for lag, size in values]
    most = [max(column) or 1.0 for column in zip(*over, strict=True)]
    sums = [lag / most[0] + size / most[1] for lag, size in over]
    assert criterion.nearest(trials) is trials[sums.index(min(sums))]
    assert (criterion.best(trials) is None) == (min(sums) > 0)


def test_the_nearest_trial_is_named_with_all_that_it_violates() -> None:
    limits = (Constraint("lag", "<=", 1.0), Constraint("size", ">=", 0.5))
    trials = [of(loss=1.0, lag=2.0, size=0.25), of(loss=1.0, lag=9.0, size=0.0)]

    assert (
        Criterion((LOSS,), limits)
        .why_none(trials)
        .endswith("violates lag <= 1.0 by 1 and size >= 0.5 by 0.25.")
    )


def of(**metrics: float) -> Observation:
    return Observation(Treatment(repr(metrics), {}), metrics)


LOSS, SIZE = Objective("loss", "minimize"), Objective("size", "maximize")


@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e9, 1e-300, 1e300])
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_each_objective_counts_in_its_range_over_the_front(scale: float, offset: float) -> None:
    # Unscaled, the first one (of a tiny size) or the last one (of a huge size) would be best.
    losses, sizes = [0.0, 0.4, 1.0], [0.0, 0.7, 1.0]
    trials = [
        of(loss=loss, size=(size + offset) * scale)
        for loss, size in zip(losses, sizes, strict=True)
    ]

    assert Criterion((LOSS, SIZE)).best(trials) is trials[1]


def test_of_equally_close_trials_the_first_is_best() -> None:
    trials = [of(loss=0.0, size=0.0), of(loss=1.0, size=1.0), of(loss=0.0, size=0.0)]

    assert Criterion((LOSS, SIZE)).best(trials) is trials[0]
    assert Criterion((LOSS, SIZE)).best(trials[::-1]) is trials[2]
    assert Criterion((LOSS, SIZE)).best(trials[1:]) is trials[1]
    assert Criterion((LOSS,)).best([trials[2], trials[0]]) is trials[2]


def test_a_range_may_be_wider_than_the_largest_float() -> None:
    trials = [
        of(loss=loss, size=size)
        for loss, size in [(-1.7e308, -1.7e308), (0.0, 1e308), (1.7e308, 1.7e308)]
    ]

    assert Criterion((LOSS, SIZE)).best(trials) is trials[1]


def test_an_objective_that_is_the_same_over_the_front_does_not_count() -> None:
    trials = [of(loss=1.0, size=5.0), of(loss=1.0, size=5.0), of(loss=2.0, size=5.0)]

    assert Criterion((LOSS, SIZE)).front(trials) == trials[:2]
    assert Criterion((LOSS, SIZE)).best(trials) is trials[0]


def test_the_best_is_of_the_highest_fidelity_that_enough_trials_reached() -> None:
    def trial(epochs: int, loss: float, lag: float = 0.0) -> Observation:
        return Observation(Treatment("", {"epochs": epochs}), {"loss": loss, "lag": lag})

    low, high, late, infeasible = trial(1, 0.1), trial(9, 0.5), trial(3, 0.2), trial(27, 0.1, 2.0)
    criterion = Criterion((LOSS,), (LAG,), "epochs")

    assert ENOUGH == 2
    assert criterion.best([low, late]) is late  # No fidelity has enough trials: the highest.
    assert criterion.best([high, low, low]) is low
    assert criterion.best([high, low, low, late, late]) is late
    assert criterion.best([high, low, low, late, late, trial(9, 0.6)]) is high
    assert criterion.best([low, high, high, late, infeasible, infeasible]) is high
    # A trial that violates a constraint has reached the fidelity, too.
    assert criterion.best([low, low, high, trial(9, 0.1, 2.0)]) is high
    assert Criterion((LOSS,)).best([low, high]) is low


# One by one -------------------------------------------------------------------------------------


@given(criteria(), observations())
def test_the_best_so_far_is_the_best_of_every_prefix(
    criterion: Criterion, given: list[Observation]
) -> None:
    so_far = BestSoFar(criterion)
    assert so_far.best is None
    before: list[str] = []
    for number, observation in enumerate(given, 1):
        changed = so_far.add(observation)

        prefix = given[:number]
        best = criterion.best(prefix)
        assert so_far.best is best
        if len(criterion.objectives) > 1:
            now = names(criterion.front(prefix))
            assert names(so_far.front) == now
            costs = [criterion.costs(each) for each in criterion.front(prefix)]
            assert so_far.front_costs == costs
        else:
            now = [] if best is None else names([best])
        # Names, because observations with equal metrics are equal.
        assert changed == (now != before)
        before = now


# Fronts -----------------------------------------------------------------------------------------

costs = st.integers(1, 4).flatmap(
    lambda count: st.lists(st.tuples(*[few | st.floats(-1, 1)] * count), max_size=30)
)


@given(costs)
def test_what_nothing_dominates(points: list[tuple[float, ...]]) -> None:
    kept = non_dominated(points)

    for point in points:
        pairs = [list(zip(other, point, strict=True)) for other in points]
        dominated = any(all(a <= b for a, b in p) and any(a < b for a, b in p) for p in pairs)
        assert (point in kept) == (not dominated)
        assert dominated == any(dominates(other, point) for other in points)


@pytest.mark.parametrize("count", [4095, 4096, 4097, 9000])
def test_a_front_of_many_blocks(count: int) -> None:
    rng = random.Random(count)
    on_front = [(x, -x) for x in (rng.random() for _ in range(count))]
    above = [(x + 0.5, y + 0.5) for x, y in itertools.islice(on_front, 500)]
    points = [*on_front, *above]
    rng.shuffle(points)

    assert non_dominated(points) == set(on_front) | {
        point for point in above if not any(dominates(other, point) for other in on_front)
    }


@given(st.permutations([("lucky", 0.0, 1), ("known", 0.5, 3), ("poor", 0.9, 3), ("new", 0.1, 2)]))
def test_a_raced_trial_with_fewer_replicates_is_not_the_best(
    order: list[tuple[str, float, int]],
) -> None:
    trials = [
        Observation(
            Treatment(name),
            {"loss": loss},
            replicates=[Replicate(r, r, {"loss": loss}) for r in range(count)],
            raced=True,
        )
        for name, loss, count in order
    ]
    criterion = Criterion((Objective("loss", "minimize"),))
    so_far = BestSoFar(criterion)
    for each in trials:
        so_far.add(each)

    assert criterion.best(trials) is trials[[name for name, _, _ in order].index("known")]
    assert so_far.best is criterion.best(trials)
