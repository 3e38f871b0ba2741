"""An error of a library gives way to a random point: it must not end a search."""

from __future__ import annotations

from types import TracebackType

from crystallize_opt.pipeline.context import logger


class RandomInstead:
    """A block in which a library makes a suggestion; if the library raises an error, there is none.

    `SpaceOptimizer` then takes a random point. The log says so, once for each optimizer. Errors of
    any class count, because libraries let those of the libraries that they call through.

    Args:
        library: The name of the library, for the log.
        unless: The errors that are raised, because no later suggestion would be made either.

    Example:
        >>> suggestion = None
        >>> with RandomInstead("The library"):
        ...     suggestion = [0.5][1]
        >>> suggestion is None
        True
    """

    def __init__(self, library: str, *, unless: tuple[type[Exception], ...] = ()) -> None:
        self._library = library
        self._unless = unless
        self._has_said = False

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        # An interrupt, for example, is no `Exception`.
        if not isinstance(error, Exception) or isinstance(error, self._unless):
            return False
        if not self._has_said:
            self._has_said = True
            logger.warning(
                "%s cannot suggest a point (%s: %s), so a random one is used. This is said once, "
                "even if it happens again.",
                self._library,
                type(error).__name__,
                error,
            )
        return True
