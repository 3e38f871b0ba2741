"""OptunaOptimizer against Optuna itself: `study.optimize` with `suggest_*`."""

from __future__ import annotations

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.samplers import GPSampler, TPESampler

from crystallize_opt import Categorical, Float, Objective, Ordinal, SearchSpace
from crystallize_opt.adapters import OptunaOptimizer
from crystallize_opt.trials.objective import Direction
from tests.adapters.optuna.native import LOSS, SAMPLERS, SQUARE, native_suggestions, suggest
from tests.adapters.parity import exactly, search
from tests.strategies import spaces

# Optuna marks whole samplers and pruners as experimental; that is no fault of a test.
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


@pytest.mark.parametrize("name", SAMPLERS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_suggestions_are_those_of_study_optimize(name: str, data: st.DataObject) -> None:
    space = data.draw(spaces(constraints=False))
    seed = data.draw(st.integers(0, 2**32 - 1))
    direction: Direction = data.draw(st.sampled_from(["minimize", "maximize"]))
    ours = OptunaOptimizer(space, Objective("loss", direction), sampler=SAMPLERS[name](seed))
    native = native_suggestions(space, SAMPLERS[name](seed), 16, direction)
    suggested = search(ours, 16)

    assert exactly(suggested) == exactly(native[: len(suggested)])
    if len(suggested) < 16:  # The end comes when every point has been suggested.
        seen = {space.key(point) for point in suggested}
        assert all(space.key(point) in seen for point in space.points())


def test_suggestions_of_gp_are_those_of_study_optimize() -> None:
    space = SearchSpace(
        {
            "x": (-5.0, 5.0),
            "rate": Float(1e-5, 1.0, log=True),
            "n": (1, 20),
            "kind": Categorical(["a", None, True, 1]),
            "size": Ordinal(["s", "m", "l"]),
        }
    )
    ours = OptunaOptimizer(space, LOSS, sampler=GPSampler(seed=1))

    assert exactly(search(ours, 13)) == exactly(native_suggestions(space, GPSampler(seed=1), 13))


def test_the_default_is_tpe_with_the_seed() -> None:
    space = SearchSpace({"x": (-5.0, 5.0), "kind": ["a", "b"]})

    for seed in (0, 1):
        ours = search(OptunaOptimizer(space, LOSS, seed=seed), 20)
        assert ours == native_suggestions(space, TPESampler(seed=seed), 20)


def test_the_default_for_several_objectives_is_that_of_optuna() -> None:
    objectives = [Objective("a", "minimize"), Objective("b", "maximize")]
    optimizer = OptunaOptimizer(SQUARE, objectives, seed=3)
    study = optuna.create_study(
        directions=["minimize", "maximize"], sampler=TPESampler(seed=3), study_name="native"
    )

    for _ in range(25):
        (treatment,) = optimizer.ask()
        trial = study.ask()
        assert dict(treatment.params) == suggest(trial, optimizer.space)
        x, y = treatment.params.values()
        optimizer.tell({"a": x + y, "b": x - y * y})
        study.tell(trial, [x + y, x - y * y])
