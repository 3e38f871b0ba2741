"""The vocabulary of trials: treatments, objectives, observations, and the rule for the best."""

from crystallize_opt.trials.best import Criterion
from crystallize_opt.trials.objective import Constraint, Objective
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.replicate import Replicate
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import Treatment

__all__ = [
    "Constraint",
    "Criterion",
    "Objective",
    "Observation",
    "Replicate",
    "Status",
    "Treatment",
]
