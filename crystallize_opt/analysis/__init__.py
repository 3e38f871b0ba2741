"""What the results of searches say: the winner tested on fresh seeds, optimizers compared."""

from typing import TYPE_CHECKING

from crystallize_opt.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from crystallize_opt.analysis.cells import Cell
    from crystallize_opt.analysis.comparison import Comparison
    from crystallize_opt.analysis.confirmation import Confirmation, Effect

__all__ = ["Cell", "Comparison", "Confirmation", "Effect"]

__getattr__ = lazy_names(
    __name__,
    {
        "Cell": "crystallize_opt.analysis.cells",
        "Comparison": "crystallize_opt.analysis.comparison",
        "Confirmation": "crystallize_opt.analysis.confirmation",
        "Effect": "crystallize_opt.analysis.confirmation",
    },
)
