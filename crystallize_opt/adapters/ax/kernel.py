"""Clears away what a killed process has left of BoTorch's build, which would stop every search.

With several objectives, BoTorch compiles a kernel at its first suggestion. PyTorch guards the build
by a file, and waits for ever while the file exists: also if the process that made it was killed,
and in every later process.
"""

from __future__ import annotations

import time
from pathlib import Path

from botorch.acquisition.multi_objective import logei
from torch.utils.cpp_extension import _get_build_directory

from crystallize_opt.pipeline.context import logger

UNGUARANTEED = (
    "botorch.acquisition.multi_objective.logei:_load_attempted",
    "torch.utils.cpp_extension:_get_build_directory",
)

_LONGEST_BUILD = 300.0
"""Seconds after which a build counts as dead; it takes about a minute."""


def wait_for_build(longest: float = _LONGEST_BUILD) -> None:
    """Wait while another process builds BoTorch's kernel, but not for one that was killed.

    Args:
        longest: The age in seconds at which the guard of a build is removed.
    """
    if logei._load_attempted:  # noqa: SLF001  (nothing else tells)
        return
    guard = Path(_get_build_directory("logei_fused_ext", verbose=False)) / "lock"
    has_said = False
    while True:
        try:
            age = time.time() - guard.stat().st_mtime
        except FileNotFoundError:
            return
        if age >= longest:
            logger.warning("Removing %s: the process that built there has ended.", guard)
            guard.unlink(missing_ok=True)
            return
        if not has_said:
            has_said = True
            logger.warning(
                "Another process seems to build BoTorch's kernel in %s: waiting for it, or until "
                "its guard is %.0f seconds old.",
                guard.parent,
                longest,
            )
        time.sleep(min(1.0, longest - age))
