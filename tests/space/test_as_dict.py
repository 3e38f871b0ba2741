"""A space as plain data, and back."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest
from hypothesis import given

from crystallize_opt import Constant, Ordinal, SearchSpace
from crystallize_opt.errors import SpaceError
from crystallize_opt.space.parameter import same_value
from tests.strategies import seeds, spaces


@given(spaces(fidelity=True), seeds)
def test_data_give_back_an_equal_space(space: SearchSpace, seed: int) -> None:
    again = SearchSpace.from_dict(space.to_dict())
    assert again == space
    assert again.to_dict() == space.to_dict()
    assert same_value(again.defaults(), space.defaults())
    assert same_value(again.sample(seed), space.sample(seed))


@given(spaces(objects=False, fidelity=True), seeds)
def test_json_gives_back_an_equal_space(space: SearchSpace, seed: int) -> None:
    again = SearchSpace.from_dict(json.loads(json.dumps(space.to_dict())))
    assert again == space
    assert same_value(again.sample(seed), space.sample(seed))


@given(spaces(objects=False, fidelity=True))
def test_a_pickle_and_a_copy_are_equal(space: SearchSpace) -> None:
    assert pickle.loads(pickle.dumps(space)) == space  # noqa: S301
    assert copy.deepcopy(space) == space


def test_json_keeps_equal_choices_apart() -> None:
    values = [None, True, 1, 1.0, "1", "None", (1, (True,)), [1], {"a": (1,)}, {"tuple": [1]}]
    space = SearchSpace(
        {
            "a": values,
            "b": Ordinal(tuple(values), default=1.0),
            "k": Constant({(1, 2): [True]}),
            **{f"c{i}": Constant(value).when(a=value) for i, value in enumerate(values)},
        }
    )
    again = SearchSpace.from_dict(json.loads(json.dumps(space.to_dict())))
    assert again == space
    for before, after in zip(space["a"].values(), again["a"].values(), strict=True):
        assert same_value(before, after)
    assert not same_value(again["b"].default, 1)


A_SPACE = SearchSpace({"a": (0, 1), "b": (0.0, 1.0)}, ["a <= b"]).to_dict()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "Not a search space"),
        (None, "Not a search space"),
        ({**A_SPACE, "parameters": [3]}, "Not a search space"),
        ({**A_SPACE, "parameters": [{"name": "a"}]}, "Not a search space"),
        ({**A_SPACE, "parameters": [{"name": "a", "type": "Real"}]}, "Unknown type 'Real'. Known"),
        (
            {
                "parameters": [{**A_SPACE["parameters"][0], "colour": "red"}],
                "constraints": [],
            },
            "colour",
        ),
        (
            {
                "parameters": [{"name": "a", "type": "Constant", "value": {}, "conditions": []}],
                "constraints": [],
            },
            "Not a search space",
        ),
        (
            {
                "parameters": [{**A_SPACE["parameters"][0], "default": 7}],
                "constraints": [],
            },
            r"7 is not in Integer\(0, 1",
        ),
        ({**A_SPACE, "constraints": [{"coefficients": {"a": "x"}, "bound": 0}]}, "finite numbers"),
        ({**A_SPACE, "constraints": [{"coefficients": [1], "bound": 0}]}, "Not a search space"),
    ],
)
def test_other_data_are_refused(data: Any, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        SearchSpace.from_dict(data)
