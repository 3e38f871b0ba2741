"""Connections to other tools: experiment trackers, scikit-learn, a dashboard."""

from typing import TYPE_CHECKING

from crystallize_opt.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from crystallize_opt.integrations.mlflow import MLflowCallback
    from crystallize_opt.integrations.sklearn import OptimizerSearchCV

__all__ = ["MLflowCallback", "OptimizerSearchCV"]

__getattr__ = lazy_names(
    __name__,
    {
        "MLflowCallback": "crystallize_opt.integrations.mlflow",
        "OptimizerSearchCV": "crystallize_opt.integrations.sklearn",
    },
)
