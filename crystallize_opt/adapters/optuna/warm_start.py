"""Starts CMA-ES from attached trials, which it would otherwise ignore.

CMA-ES learns from generations of its own suggestions only. Optuna starts it from trials of another
study (`source_trials`: warm-started CMA-ES, https://arxiv.org/abs/2012.06932): the first
generation is drawn around the best tenth of them. The argument is given when a sampler is built;
attached trials come later.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

# Of fewer trials, a tenth is none, and the library cmaes raises an error.
_FEWEST = 10


def start_from_attached(sampler: Any, study: optuna.Study, attached: set[int]) -> None:
    """Let the first generation of a sampler be drawn around the best of the attached trials.

    Fewer attached trials than a generation, or than ten, change nothing; neither do trials that are
    attached after the first generation.

    Args:
        sampler: The CMA-ES sampler of the study, or the one that its sampler wraps.
        study: The study.
        attached: The numbers of the completed attached trials; more may be added.
    """
    start: Any = sampler._init_optimizer  # noqa: SLF001  (there is no public way after building)

    def warm_start(transform: Any, direction: Any) -> Any:
        names = transform._search_space  # noqa: SLF001
        trials = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        source = [
            _part(trial, names)
            for trial in trials
            if trial.number in attached and names.keys() <= trial.params.keys()
        ]
        generation = sampler._popsize or 4 + math.floor(3 * math.log(len(names)))  # noqa: SLF001
        if len(source) < max(generation, _FEWEST):
            return start(transform, direction)
        sampler._source_trials = source  # noqa: SLF001
        try:
            return start(transform, direction)
        finally:
            sampler._source_trials = None  # noqa: SLF001

    # An attribute of this object hides the method of its class.
    vars(sampler)["_init_optimizer"] = warm_start


def _part(trial: FrozenTrial, names: Any) -> FrozenTrial:
    """Return a trial with some of its parameters: Optuna compares the whole space."""
    part = copy.copy(trial)  # `create_trial` would check the values: see `takes_grid`.
    part.params = {name: trial.params[name] for name in names}
    part.distributions = {name: trial.distributions[name] for name in names}
    return part
