"""What is known of an exception that ended a replicate: its place and the user's lines."""

from __future__ import annotations

import re
import traceback
from typing import NamedTuple

from crystallize_opt.errors import MissingParameterError
from crystallize_opt.runtime.tracebacks import is_of_library, is_own

_BUGS = (NameError, ImportError, SyntaxError, MissingParameterError)


class Fault(NamedTuple):
    """An exception as plain data, which may cross processes.

    Attributes:
        is_bug: Whether the exception can only come from the program itself: an unknown name, a
            missing module or parameter, or invalid syntax.
        text: The user's own lines of the traceback, and the exception.
    """

    is_bug: bool
    text: str

    @classmethod
    def of(cls, error: BaseException) -> Fault:
        """Describe an exception that has just been caught.

        A group, such as that of an `asyncio.TaskGroup`, failed where its first exception did.
        """
        first = error
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        trace = traceback.TracebackException.from_exception(first, compact=True)
        frames = [frame for frame in trace.stack if not is_own(frame.filename)]
        own = [frame for frame in frames if not is_of_library(frame.filename)]
        if own[-1:] != frames[-1:]:  # The innermost frame is shown even if it is a library's.
            own.append(frames[-1])
        shown = traceback.StackSummary.from_list(own).format()
        lines = [*shown, *trace.format_exception_only()]
        if first is not error:
            lines += traceback.format_exception_only(error)
        text = "".join(lines).rstrip()
        return cls(isinstance(first, _BUGS), text)


_FRAME = re.compile(r'^[ |]*File "(.+)", line (\d+), in ', re.MULTILINE)
_SECOND_OF_GROUP = re.compile(r"^[ |]*\+-+ 2 -+$", re.MULTILINE)


def place_of(traceback_text: str) -> str:
    r"""Return file and line where an exception was raised; frames of this package do not count.

    Of a group, such as that of an `asyncio.TaskGroup`, the place of the first exception. The place
    is read from the text, which is all that a stored trial has of its exception, so that a resumed
    search decides as one that was never interrupted.

    Example:
        >>> place_of('Traceback (most recent call last):\n  File "a.py", line 3, in f\n')
        'a.py:3'
    """
    first, *_ = _SECOND_OF_GROUP.split(traceback_text, maxsplit=1)
    places = [f"{file}:{line}" for file, line in _FRAME.findall(first) if not is_own(file)]
    return places[-1] if places else ""
