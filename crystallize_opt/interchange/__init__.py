"""Runs of the backends' own, read into a `History`; and a `History` as an `optuna.Study`.

Each function needs the library it is about, and imports it when it is called.
"""

from crystallize_opt.interchange.from_ax import history_from_ax
from crystallize_opt.interchange.from_smac import history_from_smac
from crystallize_opt.interchange.optuna_studies import history_from_optuna, study_of

__all__ = ["history_from_ax", "history_from_optuna", "history_from_smac", "study_of"]
