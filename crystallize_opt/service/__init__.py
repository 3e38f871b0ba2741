"""An optimizer behind HTTP, which SigOpt's client drives: over HTTP, or in this process."""

from typing import TYPE_CHECKING

from crystallize_opt.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from crystallize_opt.service.driver import Driver
    from crystallize_opt.service.handler import Handler
    from crystallize_opt.service.serve import serve

__all__ = ["Driver", "Handler", "serve"]

__getattr__ = lazy_names(
    __name__,
    {
        "Driver": "crystallize_opt.service.driver",
        "Handler": "crystallize_opt.service.handler",
        "serve": "crystallize_opt.service.serve",
    },
)
