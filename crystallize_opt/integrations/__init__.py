"""Connections to other tools: experiment trackers."""

from typing import TYPE_CHECKING

from crystallize_opt.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from crystallize_opt.integrations.mlflow import MLflowCallback

__all__ = ["MLflowCallback"]

__getattr__ = lazy_names(__name__, {"MLflowCallback": "crystallize_opt.integrations.mlflow"})
