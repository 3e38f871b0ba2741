"""What the base of all optimizers decides on its own, whatever the backend."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crystallize_opt import (
    Constraint,
    Objective,
    Observation,
    SpaceOptimizer,
    Status,
    Treatment,
)
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
    found.ask()
    found.tell({"loss": 0.0, "lag": 1.5})
    assert re.search(r"satisfies \['lag <= 1.0'\]. The nearest, 'trial_4', .* by 0.5\.", why())


@given(st.lists(st.sampled_from(["ask", "trial_0", "trial_1", "trial_0_1"]), max_size=12))
def test_a_name_stands_for_one_trial(calls: list[str]) -> None:
    """Whatever is asked for and attached, in any order; and a replay gives the same names."""
    found = optimizer()
    for call in calls:
        if call == "ask":
            found.ask()
        else:
            found.attach(Observation(Treatment(call, {"x": 0.5}), {"loss": 1.0}))
    attached = [o.treatment.name for o in found.observations]
    for treatment in found.pending:
        found.tell(Observation(treatment, {"loss": 2.0}))

    names = [o.treatment.name for o in found.observations]
    assert len(names) == len(set(names)) == len(calls)
    assert {o.treatment.name for o in found.observations if o["loss"] == 1.0} == set(attached)
    again = optimizer()
    again.replay(found.events)
    assert [o.treatment.name for o in again.observations] == names
