"""The ask/tell protocol."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from crystallize_opt.trials.objective import Objective
from crystallize_opt.trials.treatment import Treatment


class BaseOptimizer(ABC):
    """The ask/tell protocol. A subclass with just these three methods runs everywhere.

    Args:
        objective: What to optimize; kept as `.objective`.

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
        """Suggest the next treatment, in a list. May be a coroutine function."""

    @abstractmethod
    def tell(self, objective_values: Mapping[str, float]) -> None:
        """Learn what came of a treatment. May be a coroutine function.

        Args:
            objective_values: Metric name to its mean over the replicates: an `Observation`. In an
                optimizer that is no `SpaceOptimizer`, a failed trial has the infinity that loses
                (`inf` to minimize), so that every ask is followed by a tell.
        """

    @abstractmethod
    def get_best_treatment(self) -> Treatment:
        """Return the best treatment so far."""
