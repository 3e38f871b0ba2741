"""Where trials run: in this process, in threads, in processes, on other machines."""

from crystallize_opt.workers.limits import TrialLimits
from crystallize_opt.workers.workers import Workers

__all__ = ["TrialLimits", "Workers"]
