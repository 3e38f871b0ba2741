"""Samplers of OptunaHub: a local folder of the registry's form, loaded by `optunahub`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import optunahub
import pytest
from optuna.samplers import BaseSampler

from crystallize_opt import Categorical, Experiment, Float, Integer, SearchSpace
from crystallize_opt.adapters import OptunaOptimizer
from tests.adapters.optuna.native import LOSS, native_suggestions
from tests.adapters.parity import any_loss, exactly, search

SAMPLER = '''
"""A small evolution strategy: the best trial so far, and a step in each number."""

from random import Random

import optunahub
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState


class NearBestSampler(optunahub.samplers.SimpleBaseSampler):
    def __init__(self, search_space=None, seed=None):
        super().__init__(search_space)
        self._rng = Random(seed)

    def sample_relative(self, study, trial, search_space):
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len(trials) < 3 or not search_space:
            return {}
        best = min(trials, key=lambda each: each.value)
        return {name: self._near(best.params[name], d) for name, d in search_space.items()}

    def _near(self, value, distribution):
        if isinstance(distribution, CategoricalDistribution):
            return self._rng.choice([value, *distribution.choices])
        width = (distribution.high - distribution.low) / 10
        moved = value + self._rng.uniform(-width, width)
        moved = type(value)(round(moved) if isinstance(value, int) else moved)
        return min(max(moved, distribution.low), distribution.high)

    def sample_independent(self, study, trial, param_name, param_distribution):
        if isinstance(param_distribution, CategoricalDistribution):
            return self._rng.choice(param_distribution.choices)
        low, high = param_distribution.low, param_distribution.high
        if isinstance(low, int):
            return self._rng.randint(low, high)
        return self._rng.uniform(low, high)
'''
SPACE = SearchSpace(
    {
        "x": (-5.0, 5.0),
        "rate": Float(1e-3, 1.0, log=True),
        "n": Integer(1, 20),
        "kind": Categorical(["a", None]),
    }
)


@pytest.fixture
def sampler(tmp_path: Path) -> Callable[[int], BaseSampler]:
    """Return what builds the sampler of a package in a local registry."""
    folder = tmp_path / "samplers" / "near_best"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(SAMPLER, encoding="utf-8")
    module: Any = optunahub.load_local_module("samplers/near_best", registry_root=str(tmp_path))

    def make(seed: int) -> BaseSampler:
        made: BaseSampler = module.NearBestSampler(seed=seed)
        return made

    return make


def test_suggestions_are_those_of_study_optimize(sampler: Callable[[int], BaseSampler]) -> None:
    ours = OptunaOptimizer(SPACE, LOSS, sampler=sampler(3))

    assert exactly(search(ours, 25)) == exactly(native_suggestions(SPACE, sampler(3), 25))


def test_a_search_learns_prunes_no_trial_and_resumes_exactly(
    sampler: Callable[[int], BaseSampler], tmp_path: Path
) -> None:
    def loss(x: float, rate: float, n: int, kind: Any) -> float:
        if n == 7:
            raise ValueError("seven")
        return any_loss({"x": x, "rate": rate, "n": n, "kind": kind})

    whole = OptunaOptimizer(SPACE, LOSS, sampler=sampler(1), seed=1)
    Experiment.of(loss, metric="loss", seed=0).optimize(whole, 30, progress=False)
    parts = []
    for trials in (12, 30):
        parts.append(OptunaOptimizer(SPACE, LOSS, sampler=sampler(1), seed=1))
        Experiment.of(loss, metric="loss", seed=0).optimize(
            parts[-1], trials, storage=tmp_path / "runs.db", progress=False
        )

    points = [[dict(o.params) for o in each.observations] for each in (whole, parts[-1])]
    assert exactly(points[0]) == exactly(points[1])
    states = {trial.state for trial in whole.study.trials}
    assert states <= {optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL}
    assert whole.libraries[0] == "optuna"
