"""Short tracebacks: an error shows the user's own lines, not the frames of this package.

Set the environment variable `CRYSTALLIZE_OPT_FULL_TRACEBACKS` to see every frame.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import ParamSpec, TypeVar

from crystallize_opt.errors import CrystallizeOptError

P = ParamSpec("P")
T = TypeVar("T")

_PACKAGE = str(Path(__file__).parents[1]) + os.sep


def is_own(filename: str) -> bool:
    """Whether a file belongs to this package."""
    return filename.startswith(_PACKAGE)


def is_of_library(filename: str) -> bool:
    """Whether a file belongs to the standard library or to an installed package."""
    return filename.startswith(_libraries())


@functools.cache
def _libraries() -> tuple[str, ...]:
    import sysconfig  # Only an error needs it, and it is slow to import.

    return tuple(
        sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")
    )


def short_traceback(door: Callable[P, T]) -> Callable[P, T]:
    """Drop the frames of this package from the errors that a function raises.

    Frames are dropped from the errors of this package, whose messages say what to do, and from
    those that the user's own code raised. Any other error keeps all frames: it may be a fault of
    this package or of a library.
    """

    @functools.wraps(door)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        __tracebackhide__ = True  # IPython and pytest leave out this frame.
        try:
            return door(*args, **kwargs)
        except BaseException as error:
            if not os.environ.get("CRYSTALLIZE_OPT_FULL_TRACEBACKS"):
                _shorten(error)
            raise

    return call


def _shorten(error: BaseException) -> None:
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        each = left.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        left += [each.__cause__, each.__context__]
        frames = _frames(each)
        names = [frame.tb_frame.f_code.co_filename for frame in frames]
        if isinstance(each, CrystallizeOptError) or (
            names and not is_own(names[-1]) and not is_of_library(names[-1])
        ):
            shown: TracebackType | None = None
            for frame, name in zip(reversed(frames), reversed(names), strict=True):
                if not is_own(name):
                    shown = TracebackType(shown, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
            each.__traceback__ = shown


def _frames(error: BaseException) -> list[TracebackType]:
    frames, frame = [], error.__traceback__
    while frame is not None:
        frames.append(frame)
        frame = frame.tb_next
    return frames
