"""An optimizer in a process of its own, of this Python or another one. Needs no other library."""

from crystallize_opt.adapters.remote.optimizer import RemoteOptimizer

__all__ = ["RemoteOptimizer"]
