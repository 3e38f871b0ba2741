"""`TrialLimits`: how much time and memory one trial may take."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from crystallize_opt.errors import UsageError
from crystallize_opt.runtime.checks import finite_number

_UNITS = {
    "": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
}  # fmt: skip


@dataclass(frozen=True)
class TrialLimits:
    """Time and memory limits of one trial. A trial that reaches a limit is killed.

    Only a process can be killed, so `Workers` refuses limits for threads and for this process.

    Args:
        seconds: Wall time of the whole trial, all replicates together. The clock starts when the
            worker process has loaded the experiment.
        memory: Memory in use by the trial's process and the processes it started, together: a
            number of bytes, or text such as `"2GB"` (10**9 bytes each) or `"2GiB"` (2**30). Pages
            that several of them share count once: on Linux as the proportional set size (PSS); on
            macOS and Windows not at all (USS). It is measured 20 times a second.

    Raises:
        UsageError: A limit is not positive, or its text cannot be read.

    Example:
        >>> TrialLimits(seconds=60, memory="1.5 GB").memory_bytes
        1500000000
    """

    seconds: float | None = None
    memory: str | int | None = None

    def __post_init__(self) -> None:
        if self.seconds is not None:
            seconds = finite_number("TrialLimits: seconds", self.seconds, above=0)
            object.__setattr__(self, "seconds", seconds)
        if self.memory is not None:
            _bytes_of(self.memory)

    @property
    def memory_bytes(self) -> int | None:
        """The memory limit in bytes, or None."""
        return None if self.memory is None else _bytes_of(self.memory)

    @property
    def need_processes(self) -> bool:
        """Whether there is a limit; only a process can be killed at a limit."""
        return self.seconds is not None or self.memory is not None


def _bytes_of(memory: Any) -> int:
    number, unit = 0.0, ""
    if isinstance(memory, str):
        match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([A-Za-z]*)\s*", memory)
        if match and match[2].upper() in _UNITS:
            number, unit = float(match[1]), match[2].upper()
    elif isinstance(memory, (int, float)) and not isinstance(memory, bool):
        number = memory if math.isfinite(memory) else 0.0
    size = int(number * _UNITS[unit])
    if size < 1:
        raise UsageError(
            "TrialLimits: memory is a positive number of bytes or text such as '2GB', not "
            f"{memory!r}."
        )
    return size
