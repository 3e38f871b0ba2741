"""BayBE, imported without side effects, and called without them.

The other modules get BayBE from here. It imports torch when it is first used.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from crystallize_opt.runtime.own_random_state import OwnRandomState, alone
from crystallize_opt.runtime.quiet_import import quiet_import
from crystallize_opt.runtime.random_state import CallersRandomState

with quiet_import("BayBE", "baybe", undo_logging=True), CallersRandomState():
    import baybe  # Before pandas: if it is missing, the error must name BayBE.
    import pandas as pd
    from baybe import Campaign
    from baybe.constraints import ContinuousLinearConstraint
    from baybe.exceptions import (
        IncompatibilityError,
        NoMCAcquisitionFunctionError,
        NoRecommendersLeftError,
        NotEnoughPointsLeftError,
        OptionalImportError,
    )
    from baybe.objectives import ParetoObjective
    from baybe.parameters import (
        CategoricalParameter,
        NumericalContinuousParameter,
        NumericalDiscreteParameter,
    )
    from baybe.recommenders import TwoPhaseMetaRecommender
    from baybe.recommenders.base import RecommenderProtocol
    from baybe.searchspace import SearchSpace as BayBESearchSpace
    from baybe.targets import NumericalTarget

WRONG_RECOMMENDER: tuple[type[Exception], ...] = (
    IncompatibilityError,
    NoMCAcquisitionFunctionError,
    NoRecommendersLeftError,
    NotImplementedError,  # A recommender for another kind of space raises it.
    OptionalImportError,
)
"""The errors of a recommender that cannot suggest anything in this search."""

__all__ = [
    "WRONG_RECOMMENDER",
    "BayBESearchSpace",
    "Campaign",
    "CategoricalParameter",
    "ContinuousLinearConstraint",
    "NotEnoughPointsLeftError",
    "NumericalContinuousParameter",
    "NumericalDiscreteParameter",
    "NumericalTarget",
    "ParetoObjective",
    "RecommenderProtocol",
    "TwoPhaseMetaRecommender",
    "baybe",
    "pd",
    "quietly",
]


@contextmanager
def quietly(own: OwnRandomState) -> Iterator[None]:
    """Give BayBE its own global generators, one torch thread, and no warnings.

    Its models log to `botorch`, which is silent meanwhile.
    """
    with quiet_import("BayBE's models", "botorch", undo_logging=True), CallersRandomState():
        import botorch  # noqa: F401  (BayBE would import it within a call)
    with alone(own):
        botorch_logger = logging.getLogger("botorch")
        botorch_logger.addFilter(_drop)
        try:
            yield
        finally:
            botorch_logger.removeFilter(_drop)


def _drop(_: Any) -> bool:
    return False
