"""One experiment, any optimizer, a result you can trust.

Describe an `Experiment` once, pass an optimizer from `crystallize_opt.adapters` to its `optimize`
method, and change that one line to compare libraries.
"""

import logging
from typing import TYPE_CHECKING, Any

from crystallize_opt.errors import CrystallizeOptError, Pruned, ReplayDiverged, SpaceExhausted
from crystallize_opt.experiment import Experiment
from crystallize_opt.history.history import History
from crystallize_opt.optimizers.base import BaseOptimizer
from crystallize_opt.optimizers.capabilities import Capabilities
from crystallize_opt.optimizers.space_optimizer import SpaceOptimizer
from crystallize_opt.pipeline.context import FrozenContext
from crystallize_opt.pipeline.hypothesis import Hypothesis
from crystallize_opt.pipeline.pipeline import Choice, Pipeline
from crystallize_opt.pipeline.result import Result
from crystallize_opt.pipeline.seeding import BasePlugin, SeedPlugin
from crystallize_opt.pipeline.steps import (
    DataSource,
    PipelineStep,
    data_source,
    pipeline_step,
)
from crystallize_opt.runtime.lazy import lazy_names
from crystallize_opt.space.choices import Categorical, Constant, Ordinal
from crystallize_opt.space.constraint import LinearConstraint
from crystallize_opt.space.numbers import Float, Integer
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.trials.objective import Constraint, Objective
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.replicate import Replicate
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import Treatment

if TYPE_CHECKING:
    __version__: str
    from crystallize_opt.analysis.compare import compare
    from crystallize_opt.analysis.compare_runs import compare_runs
    from crystallize_opt.analysis.comparison import Comparison
    from crystallize_opt.analysis.report import report
    from crystallize_opt.search.adaptive import Adaptive
    from crystallize_opt.search.failures import Failures
    from crystallize_opt.search.search import Search
    from crystallize_opt.search.stopping import (
        MaxTime,
        NoImprovement,
        SearchState,
        TargetValue,
    )
    from crystallize_opt.storage.settings import Storage
    from crystallize_opt.workers.limits import TrialLimits
    from crystallize_opt.workers.workers import Workers
else:
    # A search, and what it takes, is imported when it is first used: a worker process needs none.
    _of_a_search = lazy_names(
        __name__,
        {
            "Adaptive": "crystallize_opt.search.adaptive",
            "Comparison": "crystallize_opt.analysis.comparison",
            "Failures": "crystallize_opt.search.failures",
            "MaxTime": "crystallize_opt.search.stopping",
            "NoImprovement": "crystallize_opt.search.stopping",
            "Search": "crystallize_opt.search.search",
            "SearchState": "crystallize_opt.search.stopping",
            "Storage": "crystallize_opt.storage.settings",
            "TargetValue": "crystallize_opt.search.stopping",
            "TrialLimits": "crystallize_opt.workers.limits",
            "Workers": "crystallize_opt.workers.workers",
            "compare": "crystallize_opt.analysis.compare",
            "compare_runs": "crystallize_opt.analysis.compare_runs",
            "report": "crystallize_opt.analysis.report",
        },
    )

    def __getattr__(name: str) -> Any:
        """Look up what is not imported at once, and the version, which takes long to find."""
        if name == "__version__":
            from importlib.metadata import version

            return version("crystallize-opt")
        return _of_a_search(name)


__all__ = [
    "Adaptive",
    "BaseOptimizer",
    "BasePlugin",
    "Capabilities",
    "Categorical",
    "Choice",
    "Comparison",
    "Constant",
    "Constraint",
    "CrystallizeOptError",
    "DataSource",
    "Experiment",
    "Failures",
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
    "Pruned",
    "ReplayDiverged",
    "Replicate",
    "Result",
    "Search",
    "SearchSpace",
    "SearchState",
    "SeedPlugin",
    "SpaceExhausted",
    "SpaceOptimizer",
    "Status",
    "Storage",
    "TargetValue",
    "Treatment",
    "TrialLimits",
    "Workers",
    "compare",
    "compare_runs",
    "data_source",
    "pipeline_step",
    "report",
]

# Without this handler, Python prints the package's warnings where nobody has configured logging.
logging.getLogger(__name__).addHandler(logging.NullHandler())


_MODULES = ("adapters", "errors", "integrations", "interchange", "recording", "search", "testing")
"""The modules that the documentation tells users to import from."""


def __dir__() -> list[str]:
    loaded = (name for name in globals() if name in _MODULES or name.startswith("__"))
    return sorted({*loaded, *__all__, "__version__"})
