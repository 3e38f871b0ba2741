"""What the base of all optimizers decides on its own, whatever the backend."""

from __future__ import annotations

import re
from typing import Any

import pytest

from crystallize_opt import Constraint, Objective, Observation, SpaceOptimizer, Status
from crystallize_opt.adapters import RandomOptimizer
from crystallize_opt.errors import CrystallizeOptError, NoCompletedTrialError

LOSS = Objective("loss", "minimize")


def optimizer(**arguments: Any) -> SpaceOptimizer[Any]:
    return RandomOptimizer(
        **{"space": {"x": (0.0, 1.0)}, "objective": LOSS, "seed": 0, **arguments}
    )


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"seed": -1}, "not -1"),
        ({"seed": 2**32}, "not 4294967296"),
        ({"seed": 0.5}, "not 0.5"),
        ({"space": {"x": (1.0, 0.0)}}, "'x'.*Swap"),
        ({"objective": "loss"}, r"Objective\(metric, direction\)"),
    ],
)
def test_bad_arguments_are_refused_at_once(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(CrystallizeOptError, match=match):
        optimizer(**arguments)


def test_the_message_says_why_there_is_no_best() -> None:
    found = optimizer(constraints=[Constraint("lag", "<=", 1.0)])

    def why() -> str:
        with pytest.raises(NoCompletedTrialError) as error:
            found.get_best_treatment()
        return str(error.value)

    assert "nothing has been told yet" in why()
    for _ in range(3):
        (treatment,) = found.ask()
        found.tell(Observation(treatment, status=Status.FAILED, error="boom"))
    assert re.search(r"none of 3 trials completed.*'trial_2', is failed: boom", why())
    found.ask()
    found.tell({"loss": 0.0, "lag": 2.0})
    assert re.search(r"no trial satisfies .*lag", why())
