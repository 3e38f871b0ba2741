"""A stored search is resumed exactly also where a study has more than the points of its trials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from crystallize_opt import Float, Observation, SearchSpace, Storage
from crystallize_opt.adapters import OptunaOptimizer
from crystallize_opt.recording.recorder import RecordedOptimizer
from crystallize_opt.runtime.sync import run_sync
from crystallize_opt.trials.treatment import Params
from tests.adapters.optuna.native import LOSS

NARROW = {name: Float(0.0, 1.0) for name in "uvw"}
STEPPED = {name: Float(0.0, 1.0, step=0.05) for name in "uvw"}
CONDITIONAL = {"kind": ["a", "b"], "c": Float(0.0, 1.0).when(kind="a"), "x": (0.0, 1.0)}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("space", "options"),
    [
        (SearchSpace(NARROW, ["u + v + w == 1"]), {}),
        (SearchSpace(STEPPED, ["u + v + w == 1"]), {}),
        (SearchSpace(CONDITIONAL), {}),
        (SearchSpace(CONDITIONAL), {"fill_inactive": True}),
    ],
    ids=["narrow", "stepped", "conditional", "filled in"],
)
def test_a_search_that_is_resumed_late_goes_on_as_it_would_have(
    space: SearchSpace, options: dict[str, Any], seed: int, tmp_path: Path
) -> None:
    """In a narrow region and with inactive values, a study has more than the points."""

    def make() -> OptunaOptimizer:
        return OptunaOptimizer(space, LOSS, seed=seed, **options)

    async def run(trials: int, storage: Storage | None) -> list[Params]:
        recorded = RecordedOptimizer(make(), storage)
        resumed = await recorded.resume()
        for _ in range(trials - resumed.count):
            (treatment,) = await recorded.ask()
            first = next(each for each in treatment.params.values() if type(each) is float)
            await recorded.tell(Observation(treatment, {"loss": (first - 0.3) ** 2}))
        recorded.close()
        return [each.params for each in recorded.optimizer.observations]

    run_sync(run(27, Storage(tmp_path / "runs.db")))
    assert run_sync(run(36, Storage(tmp_path / "runs.db"))) == run_sync(run(36, None))
