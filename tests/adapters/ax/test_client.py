"""The native client, the generation strategy, and replays."""

from __future__ import annotations

import pytest
from ax.api.client import Client

from crystallize_opt import Observation, Status, Treatment
from crystallize_opt.adapters import AxOptimizer
from crystallize_opt.errors import UsageError
from tests.adapters.ax.native import LOSS, SQUARE, by_hand, quick_strategy, run, tell
from tests.adapters.parity import exactly


def test_the_client_is_native_and_has_every_trial() -> None:
    optimizer = AxOptimizer({"x": (0.0, 1.0), "c": ["a", "b"]}, LOSS, seed=0)
    run(optimizer, 3)
    (pending,) = optimizer.ask()

    assert type(optimizer.client) is Client
    with by_hand():
        table = optimizer.client.summarize()
    assert list(table["trial_status"]) == ["COMPLETED"] * 3 + ["RUNNING"]
    assert list(table["m0"])[:3] == [o["loss"] for o in optimizer.observations]
    assert table["p0"].iloc[3] == pending.params["x"]


def test_the_callers_strategy_stays_fresh() -> None:
    strategy = quick_strategy()
    first = run(AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=strategy), 2)

    assert strategy.last_generator_run is None
    assert "data_loader_config" not in strategy.nodes_by_name["GP"].generator_spec.generator_kwargs
    assert run(AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=strategy), 2) == first


def test_what_is_no_fresh_strategy_is_refused() -> None:
    with pytest.raises(UsageError, match="takes a GenerationStrategy"):
        AxOptimizer(SQUARE, LOSS, generation_strategy="fast")  # type: ignore[arg-type]
    used = AxOptimizer(SQUARE, LOSS)
    run(used, 1)
    with pytest.raises(UsageError, match="clone_reset"):
        AxOptimizer(SQUARE, LOSS, generation_strategy=used.client._generation_strategy)


def test_a_recorded_run_replays() -> None:
    recorded = AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=quick_strategy())
    recorded.attach(Observation(Treatment("old", {"x": 0.25, "y": 0.5}), {"loss": 1.0}))
    first, second = recorded.ask(2)
    recorded.tell(Observation(second, {"loss": 2.0}, sem={"loss": 0.5}))
    tell(recorded, first, Status.FAILED)
    run(recorded, 3)

    again = AxOptimizer(SQUARE, LOSS, seed=0, generation_strategy=quick_strategy())
    again.replay(recorded.events)  # raises where a suggestion differs
    assert exactly([dict(again.ask()[0].params)]) == exactly([dict(recorded.ask()[0].params)])
    assert {"ax-platform", "botorch", "torch"} <= set(again.versions)


def test_the_largest_seed_is_a_seed() -> None:
    suggested = [
        run(AxOptimizer(SQUARE, LOSS, seed=seed), 2) for seed in (2**32 - 1, 2**32 - 1, 2**31 - 1)
    ]

    assert suggested[0] == suggested[1] != suggested[2]
