"""What is said of a trial: treatments, objectives, observations, and which is best."""

from crystallize_opt.trials.best import Criterion
from crystallize_opt.trials.objective import Constraint, Objective
from crystallize_opt.trials.observation import Observation, Replicate, Status
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
