"""The ask/tell protocol, and the base of every optimizer over a search space."""

from crystallize_opt.optimizers.base import BaseOptimizer
from crystallize_opt.optimizers.capabilities import Capabilities
from crystallize_opt.optimizers.replay import SavesState
from crystallize_opt.optimizers.space_optimizer import SpaceOptimizer
from crystallize_opt.optimizers.unique import Dropped

__all__ = ["BaseOptimizer", "Capabilities", "Dropped", "SavesState", "SpaceOptimizer"]
