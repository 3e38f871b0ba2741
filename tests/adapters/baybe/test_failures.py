"""What BayBE is told of trials without a value, and of pending ones."""

from __future__ import annotations

from typing import Any

import pytest
from baybe import Campaign
from baybe.recommenders import RandomRecommender

from crystallize_opt import Observation, Status
from crystallize_opt.adapters import BayBEOptimizer
from crystallize_opt.errors import UsageError
from tests.adapters.baybe.native import LOSS, SQUARE


def random_points(space: Any = SQUARE) -> BayBEOptimizer:
    return BayBEOptimizer(space, LOSS, seed=0, recommender=RandomRecommender())


def test_failures_have_the_worst_value_also_when_it_changes() -> None:
    optimizer = random_points()
    assert optimizer.campaign is not None
    outcomes = [
        (Status.FAILED, 9.0),
        (Status.COMPLETED, 2.0),
        (Status.TIMED_OUT, -1.0),
        (Status.ABANDONED, -1.0),
        (Status.COMPLETED, 5.0),
        (Status.COMPLETED, 3.0),
    ]
    known = []
    for status, loss in outcomes:
        (treatment,) = optimizer.ask()
        optimizer.tell(Observation(treatment, {"loss": loss}, status))
        table = optimizer.campaign.measurements
        known.append([] if table.empty else list(table["m0"]))

    assert known == [
        [],
        [2.0, 2.0],
        [2.0, 2.0, 2.0],
        [2.0, 2.0, 2.0],
        [2.0, 5.0, 5.0, 5.0],
        [2.0, 5.0, 5.0, 5.0, 3.0],
    ]
    order = [optimizer.observations[number].params["x"] for number in (1, 0, 2, 4, 5)]
    assert list(optimizer.campaign.measurements["p0"]) == order


def test_pending_trials_are_passed_to_each_recommendation(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Any] = []
    recommend = Campaign.recommend

    def listen(campaign: Campaign, batch_size: int, pending_experiments: Any = None) -> Any:
        heard.append(None if pending_experiments is None else list(pending_experiments["p0"]))
        return recommend(campaign, batch_size, pending_experiments)

    monkeypatch.setattr(Campaign, "recommend", listen)
    optimizer = random_points()
    first, second = optimizer.ask(), optimizer.ask()
    optimizer.tell(Observation(first[0], {"loss": 1.0}))
    optimizer.ask(2)
    x = second[0].params["x"]

    assert heard == [None, [first[0].params["x"]], [x]]


def test_an_error_of_baybe_gives_way_to_a_random_point(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    optimizer = random_points()

    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("the matrix is not positive definite")

    monkeypatch.setattr(Campaign, "recommend", fail)

    points = [dict(treatment.params) for treatment in (*optimizer.ask(), *optimizer.ask(2))]
    assert len({repr(point) for point in points}) == 3
    assert caplog.text.count("not positive definite), so a random one is used") == 1


def test_a_recommender_that_does_not_fit_ends_the_search() -> None:
    from baybe.recommenders import FPSRecommender

    optimizer = BayBEOptimizer(SQUARE, LOSS, seed=0, recommender=FPSRecommender())

    with pytest.raises(NotImplementedError, match="continuous space"):
        optimizer.ask()


def test_global_generators_stay_and_play_no_part() -> None:
    import torch

    found = []
    for seed in (1, 2):
        optimizer = random_points({"x": (0.0, 1.0), "k": ["a", "b"]})
        points = []
        for _ in range(4):
            torch.manual_seed(seed)
            before = torch.get_rng_state()
            (treatment,) = optimizer.ask()
            assert bool((torch.get_rng_state() == before).all())
            points.append(dict(treatment.params))
            optimizer.tell({"loss": 1.0})
        found.append(points)

    assert found[0] == found[1]


def test_what_is_no_recommender_is_refused() -> None:
    with pytest.raises(UsageError, match=r"recommender of BayBE.*not 'botorch'"):
        BayBEOptimizer(SQUARE, LOSS, recommender="botorch")


def test_settings_tell_one_recommender_from_another() -> None:
    from baybe.recommenders import TwoPhaseMetaRecommender

    def settings(recommender: Any) -> str:
        return repr(BayBEOptimizer(SQUARE, LOSS, seed=0, recommender=recommender).settings)

    made = [TwoPhaseMetaRecommender(switch_after=number) for number in (2, 2, 3)]
    first, same, other = map(settings, made)
    assert first == same
    assert len({first, other, settings(None)}) == 3
