"""The loop of a search, its settings, stop conditions and callbacks."""

from typing import TYPE_CHECKING

from crystallize_opt.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from crystallize_opt.search.adaptive import Adaptive
    from crystallize_opt.search.callbacks import (
        BaselineCompleted,
        Callback,
        Event,
        LoggingCallback,
        RunStarted,
        RunStopped,
        TrialAsked,
        TrialCompleted,
        TrialFailed,
        TrialRepeated,
        TrialStarted,
        TrialStored,
        TrialTold,
    )
    from crystallize_opt.search.failures import Failures
    from crystallize_opt.search.search import Search
    from crystallize_opt.search.stopping import MaxTime, NoImprovement, SearchState, TargetValue

__all__ = [
    "Adaptive",
    "BaselineCompleted",
    "Callback",
    "Event",
    "Failures",
    "LoggingCallback",
    "MaxTime",
    "NoImprovement",
    "RunStarted",
    "RunStopped",
    "Search",
    "SearchState",
    "TargetValue",
    "TrialAsked",
    "TrialCompleted",
    "TrialFailed",
    "TrialRepeated",
    "TrialStarted",
    "TrialStored",
    "TrialTold",
]

# Not at once: a worker process, for example, runs trials and needs no search.
__getattr__ = lazy_names(
    __name__,
    {
        "Adaptive": "crystallize_opt.search.adaptive",
        "BaselineCompleted": "crystallize_opt.search.callbacks",
        "Callback": "crystallize_opt.search.callbacks",
        "Event": "crystallize_opt.search.callbacks",
        "Failures": "crystallize_opt.search.failures",
        "LoggingCallback": "crystallize_opt.search.callbacks",
        "MaxTime": "crystallize_opt.search.stopping",
        "NoImprovement": "crystallize_opt.search.stopping",
        "RunStarted": "crystallize_opt.search.callbacks",
        "RunStopped": "crystallize_opt.search.callbacks",
        "Search": "crystallize_opt.search.search",
        "SearchState": "crystallize_opt.search.stopping",
        "TargetValue": "crystallize_opt.search.stopping",
        "TrialAsked": "crystallize_opt.search.callbacks",
        "TrialCompleted": "crystallize_opt.search.callbacks",
        "TrialFailed": "crystallize_opt.search.callbacks",
        "TrialRepeated": "crystallize_opt.search.callbacks",
        "TrialStarted": "crystallize_opt.search.callbacks",
        "TrialStored": "crystallize_opt.search.callbacks",
        "TrialTold": "crystallize_opt.search.callbacks",
    },
)
