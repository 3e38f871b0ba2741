"""Runs of the backends' own, read into a `History`; and a `History` as an `optuna.Study`.

Each function needs the library it is about, and imports it when it is called.
"""

from crystallize_opt.adapters.ax.history import history_from_ax
from crystallize_opt.adapters.optuna.studies import history_from_optuna, study_of
from crystallize_opt.adapters.smac.history import history_from_smac

__all__ = ["history_from_ax", "history_from_optuna", "history_from_smac", "study_of"]
