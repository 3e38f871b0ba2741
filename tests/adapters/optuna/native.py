"""What the tests of OptunaOptimizer share: samplers, and Optuna's own loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optuna
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import Trial

from crystallize_opt import Categorical, Constant, Float, Integer, Objective, Ordinal, SearchSpace
from crystallize_opt.trials.objective import Direction
from tests.adapters.parity import any_loss

LOSS = Objective("loss", "minimize")
SQUARE = {"x": (0.0, 1.0), "y": (0.0, 1.0)}
SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "TPE": lambda seed: TPESampler(seed=seed),
    "Random": lambda seed: RandomSampler(seed=seed),
    "CMA-ES": lambda seed: CmaEsSampler(seed=seed, warn_independent_sampling=False),
    "NSGA-II": lambda seed: NSGAIISampler(seed=seed, population_size=6),
    "QMC": lambda seed: QMCSampler(seed=seed, warn_independent_sampling=False),
}


def suggest(trial: Trial, space: SearchSpace) -> dict[str, Any]:
    """Suggest every active parameter in the space's order, as a user of Optuna would."""
    params: dict[str, Any] = {}
    for name, p in space.items():
        if not space.is_active(name, params):
            continue
        match p:
            case Float():
                params[name] = trial.suggest_float(name, p.low, p.high, step=p.step, log=p.log)
            case Integer():
                params[name] = trial.suggest_int(name, p.low, p.high, step=p.step or 1, log=p.log)
            case Ordinal():
                params[name] = p.choices[trial.suggest_int(name, 0, len(p.choices) - 1)]
            case Categorical():
                index = trial.suggest_categorical(name, range(len(p.choices)))
                params[name] = p.choices[index]
            case Constant():
                params[name] = p.value
    return params


def native_suggestions(
    space: SearchSpace, sampler: BaseSampler, trials: int, direction: Direction = "minimize"
) -> list[dict[str, Any]]:
    """The suggestions of `study.optimize`."""
    suggested = []

    def objective(trial: Trial) -> float:
        suggested.append(suggest(trial, space))
        return any_loss(suggested[-1])

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=sampler, direction=direction)
    study.optimize(objective, n_trials=trials)
    optuna.logging.set_verbosity(level)
    return suggested
