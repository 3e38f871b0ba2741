"""Short tracebacks: an error shows the user's own lines, not the frames of this package.

Set the environment variable `CRYSTALLIZE_OPT_FULL_TRACEBACKS` to see every frame.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast

from crystallize_opt.errors import CrystallizeOptError

P = ParamSpec("P")
T = TypeVar("T")

# Not by pathlib: the package's import takes a tenth less without it.
_PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep  # noqa: PTH120


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

    The function may be a coroutine function. For a generator, use `shortened` in its body.
    """

    @functools.wraps(door)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        __tracebackhide__ = True  # IPython and pytest leave out this frame.
        with shortened:
            return door(*args, **kwargs)

    @functools.wraps(door)
    async def acall(*args: P.args, **kwargs: P.kwargs) -> Any:
        __tracebackhide__ = True
        with shortened:
            return await door(*args, **kwargs)  # type: ignore[misc]

    return cast("Callable[P, T]", acall) if inspect.iscoroutinefunction(door) else call


class _Shortened:
    """A context manager that drops the frames of this package from an error.

    Frames are dropped from the errors of this package, whose messages say what to do, and from
    those that the user's own code raised. Any other error keeps all frames: it may be a fault of
    this package or of a library.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None and not os.environ.get("CRYSTALLIZE_OPT_FULL_TRACEBACKS"):
            _shorten(error)


shortened = _Shortened()


def _shorten(error: BaseException) -> None:
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        each = left.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        left += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            left += each.exceptions
        frames = _frames(each)
        names = [frame.tb_frame.f_code.co_filename for frame in frames]
        if isinstance(each, CrystallizeOptError) or _is_of_user(each, names):
            shown: TracebackType | None = None
            for frame in reversed(_without_own(frames, names)):
                shown = TracebackType(shown, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
            each.__traceback__ = shown


def _is_of_user(error: BaseException, names: list[str]) -> bool:
    """Whether the user's own code raised an error, or a task group in that code did."""
    if isinstance(error, BaseExceptionGroup):
        return any(not is_own(name) and not is_of_library(name) for name in names)
    return bool(names) and not is_own(names[-1]) and not is_of_library(names[-1])


def _without_own(frames: list[TracebackType], names: list[str]) -> list[TracebackType]:
    """Drop the frames of this package, and those of the event loop that it runs."""
    kept, within = [], False
    for frame, name in zip(frames, names, strict=True):
        within = is_own(name) or (within and is_of_library(name))
        if not within:
            kept.append(frame)
    return kept


def _frames(error: BaseException) -> list[TracebackType]:
    frames, frame = [], error.__traceback__
    while frame is not None:
        frames.append(frame)
        frame = frame.tb_next
    return frames
