"""Read runs of Optuna, Ax and SMAC into a `History`; write a `History` as an `optuna.Study`.

A function imports the library it needs when it is called.
"""

from crystallize_opt.adapters.ax.history import history_from_ax
from crystallize_opt.adapters.optuna.export import study_of
from crystallize_opt.adapters.optuna.studies import history_from_optuna
from crystallize_opt.adapters.smac.history import history_from_smac

__all__ = ["history_from_ax", "history_from_optuna", "history_from_smac", "study_of"]
