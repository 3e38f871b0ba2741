"""A parameter with `fidelity=True`."""

from __future__ import annotations

from typing import Annotated, Any

import pytest

from crystallize_opt import (
    Experiment,
    Float,
    FrozenContext,
    Integer,
    Objective,
    Pipeline,
    SearchSpace,
    data_source,
    pipeline_step,
)
from crystallize_opt.adapters import (
    AxOptimizer,
    GridOptimizer,
    OptunaOptimizer,
    RandomOptimizer,
    SMACOptimizer,
)
from crystallize_opt.errors import SpaceError, UnsupportedSpaceError

EPOCHS = Integer(1, 27, fidelity=True)
FLOAT: Any = Float  # Untyped, for arguments that a type checker refuses.
LOSS = Objective("loss", "minimize")


def test_a_space_knows_its_fidelity() -> None:
    space = SearchSpace({"x": (0.0, 1.0), "epochs": EPOCHS})

    assert space.fidelity == "epochs"
    assert SearchSpace.from_dict(space.to_dict()).fidelity == "epochs"
    assert "Integer(1, 27, fidelity=True)" in repr(space)
    assert space != SearchSpace({"x": (0.0, 1.0), "epochs": (1, 27)})
    assert SearchSpace({"x": (0.0, 1.0)}).fidelity is None
    # The description of a space without one is as it was before there were fidelities.
    assert "fidelity" not in str(SearchSpace({"x": (0.0, 1.0)}).to_dict())


def test_a_fixed_fidelity_is_a_parameter_like_others() -> None:
    space = SearchSpace({"x": (0.0, 1.0), "epochs": EPOCHS}).fixed(epochs=9)

    assert space.fidelity is None
    RandomOptimizer(space, LOSS)


def test_a_step_names_the_fidelity() -> None:
    @data_source
    def data(ctx: FrozenContext) -> int:
        return 0

    @pipeline_step()
    def train(data: int, ctx: FrozenContext, *, epochs: Annotated[int, EPOCHS] = 3) -> int:
        return data

    space = Experiment(data(), Pipeline([train()])).search_space()

    assert space.fidelity == "epochs"
    assert space.defaults() == {"epochs": 3}


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: FLOAT(0.1, 1.0, fidelity="yes"), "True or False, not 'yes'"),
        (lambda: Float(0.0, 1.0, fidelity=True), "0 < low < high"),
        (lambda: Integer(3, 3, fidelity=True), "0 < low < high"),
        (lambda: Integer(1, 9, step=2, fidelity=True), "no step.*step=2"),
        (lambda: Integer(1, 9, log=True, fidelity=True), "no log.*log=True"),
        (lambda: EPOCHS.when(kind="a"), "no conditions.*'kind'"),
    ],
)
def test_a_fidelity_that_makes_no_sense_is_refused(make: Any, why: str) -> None:
    with pytest.raises(SpaceError, match=why):
        make()


@pytest.mark.parametrize(
    ("parameters", "constraints", "why"),
    [
        ({"epochs": EPOCHS, "share": Float(0.1, 1.0, fidelity=True)}, [], "'epochs', 'share'"),
        ({"epochs": EPOCHS, "x": Float(0, 1).when(epochs=1)}, [], "'epochs'.*'x' cannot depend"),
        ({"epochs": EPOCHS, "n": (1, 9)}, ["n <= epochs"], "'epochs'.*'n': 1.0, 'epochs': -1.0"),
    ],
)
def test_nothing_depends_on_the_fidelity(parameters: Any, constraints: Any, why: str) -> None:
    with pytest.raises(SpaceError, match=why):
        SearchSpace(parameters, constraints)


@pytest.mark.parametrize(
    "kind", [RandomOptimizer, GridOptimizer, AxOptimizer, OptunaOptimizer, SMACOptimizer]
)
def test_an_optimizer_that_cannot_raise_a_fidelity_refuses_it_by_name(kind: Any) -> None:
    with pytest.raises(UnsupportedSpaceError) as refused:
        kind({"x": (1, 9), "epochs": EPOCHS}, LOSS)
    message = str(refused.value)
    for part in (kind.__name__, "'epochs'", "MultiFidelityFacade", "space.fixed({'epochs': 27})"):
        assert part in message
