"""What is known of an exception that ended a replicate: its kind, its place, the user's lines."""

from __future__ import annotations

import traceback
from typing import NamedTuple

from crystallize_opt.errors import MissingParameterError
from crystallize_opt.runtime.tracebacks import is_of_library, is_own

_BUGS = (NameError, ImportError, SyntaxError, MissingParameterError)


class Fault(NamedTuple):
    """An exception as plain data, which may cross processes.

    Attributes:
        kind: The name of the exception's class.
        place: File and line where the exception was raised; frames of this package do not count.
        is_bug: Whether the exception can only come from the program itself: an unknown name, a
            missing module or parameter, or invalid syntax.
        text: The user's own lines of the traceback, and the exception.
    """

    kind: str
    place: str
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
        place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
        own = [frame for frame in frames if not is_of_library(frame.filename)]
        if own[-1:] != frames[-1:]:  # The innermost frame is shown even if it is a library's.
            own.append(frames[-1])
        shown = traceback.StackSummary.from_list(own).format()
        lines = [*shown, *trace.format_exception_only()]
        if first is not error:
            lines += traceback.format_exception_only(error)
        text = "".join(lines).rstrip()
        return cls(type(first).__qualname__, place, isinstance(first, _BUGS), text)
