"""One experiment, any optimizer, a result one can believe.

Describe an `Experiment` once, hand its `optimize` an optimizer from `crystallize_opt.adapters`, and
swap that one line to compare libraries.
"""

import logging
from typing import TYPE_CHECKING

from crystallize_opt.capabilities import Capabilities
from crystallize_opt.context import FrozenContext
from crystallize_opt.errors import CrystallizeOptError, ReplayDiverged, SpaceExhausted
from crystallize_opt.experiment import Experiment
from crystallize_opt.history import History
from crystallize_opt.hypothesis import Hypothesis
from crystallize_opt.limits import TrialLimits
from crystallize_opt.linear_constraint import LinearConstraint
from crystallize_opt.objective import Constraint, Objective
from crystallize_opt.observation import Observation, Replicate, Status
from crystallize_opt.optimizer import BaseOptimizer, SpaceOptimizer
from crystallize_opt.parameters import Categorical, Constant, Float, Integer, Ordinal
from crystallize_opt.pipeline import (
    DataSource,
    Pipeline,
    PipelineStep,
    data_source,
    pipeline_step,
)
from crystallize_opt.plugins import BasePlugin, SeedPlugin
from crystallize_opt.result import Result
from crystallize_opt.space import SearchSpace
from crystallize_opt.stopping import MaxTime, NoImprovement, SearchState, TargetValue
from crystallize_opt.treatment import Treatment

if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name: str) -> str:
        """Look the version up when it is asked for: the look-up costs as much as all the rest."""
        if name == "__version__":
            from importlib.metadata import version

            return version("crystallize-opt")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "BaseOptimizer",
    "BasePlugin",
    "Capabilities",
    "Categorical",
    "Constant",
    "Constraint",
    "CrystallizeOptError",
    "DataSource",
    "Experiment",
    "Float",
    "FrozenContext",
    "History",
    "Hypothesis",
    "Integer",
    "LinearConstraint",
    "MaxTime",
    "NoImprovement",
    "Objective",
    "Observation",
    "Ordinal",
    "Pipeline",
    "PipelineStep",
    "ReplayDiverged",
    "Replicate",
    "Result",
    "SearchSpace",
    "SearchState",
    "SeedPlugin",
    "SpaceExhausted",
    "SpaceOptimizer",
    "Status",
    "TargetValue",
    "Treatment",
    "TrialLimits",
    "data_source",
    "pipeline_step",
]

# A library is silent unless its user configures logging.
logging.getLogger(__name__).addHandler(logging.NullHandler())
