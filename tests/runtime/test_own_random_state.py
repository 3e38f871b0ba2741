"""A library that draws from global generators has its own numbers, and the caller keeps theirs."""

from __future__ import annotations

import random

import numpy as np
import torch

from crystallize_opt.runtime.own_random_state import OwnRandomState, alone
from crystallize_opt.testing._world import RandomStateKept, disturb_random_state


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(1))


def test_each_owner_draws_its_numbers_and_the_caller_its_own() -> None:
    with RandomStateKept():
        disturb_random_state(3)
        expected = [draw() for _ in range(4)]

        disturb_random_state(3)
        owners = [OwnRandomState(seed, torch=True) for seed in (1, 1, 2)]
        drawn: list[list[tuple[float, float, float]]] = [[], [], []]
        callers = []
        for _ in range(4):
            callers.append(draw())
            for numbers, owner in zip(drawn, owners, strict=True):
                with owner:
                    numbers.append(draw())

    assert callers == expected
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 4


def test_the_state_and_the_threads_are_the_callers_again_after_an_error() -> None:
    threads = torch.get_num_threads()
    with RandomStateKept():
        disturb_random_state(3)
        expected = draw()
        disturb_random_state(3)
        try:
            with alone(OwnRandomState(1, torch=True)):
                torch.set_num_threads(1)
                draw()
                raise KeyError
        except KeyError:
            pass
        assert draw() == expected
    assert torch.get_num_threads() == threads
