"""The ask/tell protocol."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from crystallize_opt.trials.objective import Objective
from crystallize_opt.trials.treatment import Treatment


class BaseOptimizer(ABC):
    """The ask/tell protocol. A subclass needs just these three methods to run an experiment.

    Args:
        objective: The objective, or several; kept as `.objective`.

    When a stored run is resumed, the attributes of such an optimizer have to be as they were before
    the first ask. If one differs without an effect on the suggestions, such as a time, give the
    class an attribute `version`, a text that stands for all attributes.

    Example:
        >>> class Fixed(BaseOptimizer):
        ...     def ask(self):
        ...         return [Treatment("only", {"delta": 1})]
        ...     def tell(self, objective_values):
        ...         self.score = objective_values[self.objective.metric]
        ...     def get_best_treatment(self):
        ...         return Treatment("best", {"delta": 1})
        >>> Fixed(Objective("loss", "minimize")).ask()[0].params["delta"]
        1
    """

    def __init__(self, objective: Objective | Sequence[Objective]) -> None:
        self.objective: Any = objective

    @abstractmethod
    def ask(self) -> list[Treatment]:
        """Return a list with the next treatment. May be a coroutine function."""

    @abstractmethod
    def tell(self, objective_values: Mapping[str, float]) -> None:
        """Learn the outcome of a treatment. May be a coroutine function.

        Args:
            objective_values: An `Observation`: metric name to its mean over the replicates. For an
                optimizer that is not a `SpaceOptimizer`, every objective of a failed trial is
                infinite (`inf` to minimize, `-inf` to maximize), so every ask is followed by a
                tell.
        """

    @abstractmethod
    def get_best_treatment(self) -> Treatment:
        """Return the best treatment so far."""
