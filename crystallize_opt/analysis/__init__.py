"""What the results of searches say: the winner tested on fresh seeds."""

from typing import TYPE_CHECKING

from crystallize_opt.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from crystallize_opt.analysis.confirmation import Confirmation, Effect

__all__ = ["Confirmation", "Effect"]

__getattr__ = lazy_names(
    __name__,
    {
        "Confirmation": "crystallize_opt.analysis.confirmation",
        "Effect": "crystallize_opt.analysis.confirmation",
    },
)
