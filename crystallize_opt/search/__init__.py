"""The loop of a search, its settings, stop conditions and callbacks."""

from crystallize_opt.search.callbacks import (
    Callback,
    Event,
    LoggingCallback,
    RunStarted,
    RunStopped,
    TrialAsked,
    TrialCompleted,
    TrialFailed,
    TrialStarted,
    TrialStored,
    TrialTold,
)
from crystallize_opt.search.failures import Failures
from crystallize_opt.search.search import Search
from crystallize_opt.search.stopping import MaxTime, NoImprovement, SearchState, TargetValue

__all__ = [
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
    "TrialStarted",
    "TrialStored",
    "TrialTold",
]
