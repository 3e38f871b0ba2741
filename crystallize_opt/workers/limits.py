"""What a single trial may take, and how often it is tried again."""

from __future__ import annotations

import math
import operator
import re
from dataclasses import dataclass
from typing import Any

from crystallize_opt.errors import UsageError

_UNITS = {
    "": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
}  # fmt: skip


@dataclass(frozen=True)
class TrialLimits:
    """What one trial may take. A trial that reaches a limit is killed, whatever it is doing.

    `seconds` and `memory` need an executor whose workers are processes; on others they are refused.

    Args:
        seconds: Wall time of the whole trial, all replicates together. It begins when the worker
            process has imported what the experiment needs.
        memory: Resident memory (what `top` shows as RES; not virtual memory) of the trial's
            process and of the processes it starts, together: bytes, or a text such as `"2GB"`
            (10**9 bytes each) or `"2GiB"` (2**30). Looked at 20 times a second.
        retries: How often a trial is run again that raised, timed out, ran out of memory or whose
            worker died. Only its last outcome is told.

    Example:
        >>> TrialLimits(seconds=60, memory="1.5 GB").memory_bytes
        1500000000
    """

    seconds: float | None = None
    memory: str | int | None = None
    retries: int = 0

    def __post_init__(self) -> None:
        seconds = self.seconds
        if seconds is not None and not (_is_number(seconds) and 0 < seconds < math.inf):
            raise UsageError(f"TrialLimits: seconds is a number above 0, not {seconds!r}.")
        if self.memory is not None:
            _bytes_of(self.memory)
        try:
            retries = -1 if isinstance(self.retries, bool) else operator.index(self.retries)
        except TypeError:
            retries = -1
        if retries < 0:
            raise UsageError(f"TrialLimits: retries is a whole number >= 0, not {self.retries!r}.")

    @property
    def memory_bytes(self) -> int | None:
        """The memory limit in bytes, or None."""
        return None if self.memory is None else _bytes_of(self.memory)

    @property
    def need_processes(self) -> bool:
        """Whether only a process can be held to them."""
        return self.seconds is not None or self.memory is not None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _bytes_of(memory: Any) -> int:
    number, unit = 0.0, ""
    if isinstance(memory, str):
        match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([A-Za-z]*)\s*", memory)
        if match and match[2].upper() in _UNITS:
            number, unit = float(match[1]), match[2].upper()
    elif _is_number(memory) and math.isfinite(memory):
        number = memory
    size = int(number * _UNITS[unit])
    if size < 1:
        raise UsageError(
            f"TrialLimits: memory is a number of bytes or a text like '2GB', not {memory!r}."
        )
    return size
