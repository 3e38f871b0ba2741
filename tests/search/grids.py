"""A grid over one parameter, and the two objectives of the small experiment."""

from typing import Any

from crystallize_opt import Categorical, Objective
from crystallize_opt.adapters import GridOptimizer

MINIMIZE = Objective("sum", "minimize")
MAXIMIZE = Objective("sum", "maximize")


def grid(values: list[Any], objective: Any = MINIMIZE, name: str = "delta") -> GridOptimizer:
    return GridOptimizer({name: Categorical(values)}, objective)
