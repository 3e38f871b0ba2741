"""Optuna (extra `optuna`)."""

from typing import TYPE_CHECKING

from crystallize_opt.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from crystallize_opt.adapters.optuna.export import study_of
    from crystallize_opt.adapters.optuna.optimizer import OptunaOptimizer
    from crystallize_opt.adapters.optuna.studies import history_from_optuna

__all__ = ["OptunaOptimizer", "history_from_optuna", "study_of"]

__getattr__ = lazy_names(
    __name__,
    {
        "OptunaOptimizer": "crystallize_opt.adapters.optuna.optimizer",
        "history_from_optuna": "crystallize_opt.adapters.optuna.studies",
        "study_of": "crystallize_opt.adapters.optuna.export",
    },
    extra="optuna",
    libraries=("optuna",),
)
