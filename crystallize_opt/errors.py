"""Every error this package raises on purpose, as one tree under `CrystallizeOptError`.

Each class also derives from the built-in exception a Python user would expect, so
`except ValueError` works too. An exception raised by a *step* is never wrapped: it keeps its own
type and gets a note (`BaseException.add_note`) saying in which step and replicate it happened. (The
exception of a `teardown` is the cause of a `TeardownError`, because the results exist by then.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def printable(text: object, keep: str = "") -> str:
    r"""Return a text for logs and terminals, in which control characters are escaped.

    Errors, names and metrics may come from data. With a line feed they could forge a line of a log,
    with an escape sequence change what a terminal shows.

    Args:
        text: Any object; its `str` is taken.
        keep: Characters that are not escaped.

    Example:
        >>> printable("low\n12:00 all is well\x1b[2J")
        'low\\n12:00 all is well\\x1b[2J'
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each in keep else each.encode("unicode_escape").decode()
        for each in text
    )


class CrystallizeOptError(Exception):
    """Base of every error this package raises on purpose."""


class UsageError(CrystallizeOptError, ValueError):
    """An argument is out of range: zero trials, no replicate, two treatments with one name."""


class SpaceError(CrystallizeOptError, ValueError):
    """A search space is not well defined: reversed bounds, an unknown parent, a cycle."""


class UnsupportedSpaceError(SpaceError):
    """A search space is well defined, but this optimizer cannot take it."""


class CheckpointError(CrystallizeOptError, RuntimeError):
    """A step asked for its checkpoint's folder, which the machine of the trial does not have."""


class InvalidParametersError(CrystallizeOptError, ValueError):
    """Parameter values that are not a point of the search space."""


class ObjectiveError(CrystallizeOptError, ValueError):
    """An objective or an outcome constraint is not well defined, for example its direction."""


class UnknownMetricError(CrystallizeOptError, LookupError):
    """A metric was asked for that was not recorded. The message lists the recorded ones."""


class MissingParameterError(CrystallizeOptError, TypeError):
    """A step needs a parameter that neither its factory, the context nor a default provides."""


class UnreadParameterError(CrystallizeOptError, ValueError):
    """A treatment sets a parameter that no step reads. The message lists what the steps read."""


class ContextMutationError(CrystallizeOptError, TypeError):
    """A key of a `FrozenContext` that is already set was set again."""


class TellError(CrystallizeOptError, ValueError):
    """A result matches no single pending treatment: told twice, never asked for, or ambiguous."""


class NoCompletedTrialError(CrystallizeOptError, RuntimeError):
    """There is no best treatment, because no trial has completed."""


class RemoteError(CrystallizeOptError, RuntimeError):
    """The process of an optimizer ended twice in one call, or raised an error unknown here."""


class TrialsFailedError(CrystallizeOptError, RuntimeError):
    """The search was stopped because of failing trials. The message shows the causes."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message, keep="\n"))


class Pruned(CrystallizeOptError):  # noqa: N818  (a normal end of a replicate, not a fault)
    """Raise this in a step to end the replicate early; its status is then `Status.PRUNED`.

    For example where `ctx.report` says that the optimizer would end the trial, or where a rule of
    your own does: `raise Pruned("the loss diverges")`. The text becomes the replicate's `error`.
    """


class SpaceExhausted(CrystallizeOptError):  # noqa: N818  (a normal end of a search, not a fault)
    """Every point of a finite search space has been asked for."""


class ReplayDiverged(CrystallizeOptError):  # noqa: N818  (the name in the design)
    """A replayed optimizer suggests another point than the recorded one."""


class StorageError(CrystallizeOptError, RuntimeError):
    """A run cannot be stored or read: no space left, a damaged file, a newer schema."""


class RunLocked(StorageError):  # noqa: N818  (like ReplayDiverged: what happened)
    """Another process, or another search of this one, is writing the same run."""


class RunChanged(StorageError):  # noqa: N818
    """A stored run cannot be resumed with another space, objective, seed, optimizer or pipeline."""


class HypothesisError(CrystallizeOptError, ValueError):
    """A verifier or ranker failed, or returned what it must not; the message names the hypothesis.

    Attributes:
        result: The `Result` of the run, with the metrics of every replicate and no hypotheses; None
            outside of a run.
    """

    def __init__(self, message: str, result: object = None) -> None:
        super().__init__(message)
        self.result = result


class TeardownError(CrystallizeOptError, RuntimeError):
    """A step's `teardown` or a plugin's `after_run` failed when everything else was done.

    Nothing that was measured is lost: the error has what the call would have returned. The first of
    the exceptions is its cause.

    Attributes:
        result: What the call would have returned: the `Result` of `run`, the data of `apply`, the
            best treatment of `optimize` and `Search.run`, the `Confirmation` of `confirm`.
        errors: The exceptions, in the order in which they were raised.

    Example:
        >>> from crystallize_opt import Experiment, Pipeline, PipelineStep, data_source
        >>> @data_source
        ... def numbers(ctx):
        ...     return [1, 2, 3]
        >>> class Total(PipelineStep):
        ...     def __call__(self, data, ctx):
        ...         return sum(data)
        ...     def teardown(self, ctx):
        ...         raise OSError("the folder is gone already")
        >>> try:
        ...     Experiment(numbers(), Pipeline([Total()])).apply()
        ... except TeardownError as error:
        ...     error.result
        6
    """

    def __init__(
        self, message: str, result: object = None, errors: Sequence[BaseException] = ()
    ) -> None:
        super().__init__(printable(message, keep="\n"))
        self.result: Any = result
        self.errors = tuple(errors)


class MissingExtraError(CrystallizeOptError, ImportError):
    """An optional library is not installed. The message holds the command that installs it."""


class ExecutorBrokenError(CrystallizeOptError, RuntimeError):
    """An executor given as an object broke, so the search ended after reporting every trial.

    Attributes:
        best: The best treatment so far, or None.
    """

    def __init__(self, message: str, best: object = None) -> None:
        super().__init__(message)
        self.best = best
