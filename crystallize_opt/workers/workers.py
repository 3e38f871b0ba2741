"""`Workers`: where trials run, and how many run at once."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from crystallize_opt.errors import UsageError
from crystallize_opt.pipeline.recipe import Recipe
from crystallize_opt.pipeline.session import Session
from crystallize_opt.runtime.checks import whole_number
from crystallize_opt.runtime.interruption import Interruption
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.storage.lease import Lease
from crystallize_opt.workers.limits import TrialLimits
from crystallize_opt.workers.trial import Runner

_WORDS = ("threads", "processes")
_KINDS = "'threads', 'processes', a concurrent.futures.Executor, or a function that makes one"


@dataclass(frozen=True, init=False)
class Workers:
    """Where trials run, how many run at once, and the limits of each trial.

    Args:
        kind: None for this process; "threads"; "processes", which can be killed, and of which a
            dead one costs only its trial; a `concurrent.futures.Executor`, or any object with a
            `submit` method; or a function that makes an executor, and another if that one breaks.
        count: How many trials run at once. Default: one in this process; the number of processor
            cores for "threads" and "processes"; the number of workers of an executor, if it is
            known. More than one in this process needs asynchronous steps.
        batch: Whether to ask for `count` trials jointly, and again only when all have been told.
        limits: Time and memory limits of each trial; they need worker processes.
        ask_ahead: Whether to ask for at most one more trial per worker while all workers are busy,
            so that none waits for the optimizer. The optimizer then knows less when it is asked.

    Raises:
        UsageError: An argument is out of range, or cannot be combined with another one.

    Example:
        >>> Workers("processes", 4, limits=TrialLimits(seconds=60)).count
        4
        >>> Workers.of(4) == Workers("processes", 4)
        True
    """

    kind: Any
    count: int
    batch: bool
    limits: TrialLimits
    ask_ahead: bool
    _made: list[Any] = field(init=False, repr=False, compare=False)

    def __init__(
        self,
        kind: Any = None,
        count: int | None = None,
        *,
        batch: bool = False,
        limits: TrialLimits | None = None,
        ask_ahead: bool = False,
    ) -> None:
        _check_kind(kind)
        count = whole_number("Workers: count", _default_count(kind) if count is None else count)
        for name, given in (("batch", batch), ("ask_ahead", ask_ahead)):
            if not isinstance(given, bool):
                raise UsageError(f"Workers: {name} is True or False, not {given!r}.")
        if ask_ahead:
            _refuse_to_ask_ahead(kind, count, batch=batch)
        limits = TrialLimits() if limits is None else limits
        if not isinstance(limits, TrialLimits):
            raise UsageError(
                "Workers: limits takes TrialLimits(...), as in TrialLimits(seconds=60, "
                f"memory='2GB'), not {limits!r}."
            )
        # Set the fields through `__dict__`, because a frozen dataclass refuses assignments.
        fields = {"kind": kind, "count": count, "batch": batch, "limits": limits}
        self.__dict__.update(fields, ask_ahead=ask_ahead, _made=[])
        if kind is None or kind == "threads" or _is_thread_pool(kind):
            self._refuse_limits()

    @classmethod
    def of(cls, short: Any) -> Workers:
        """Return the `Workers` for a short form.

        Args:
            short: None, a number of processes, "threads" or "processes", an executor, a function
                that makes an executor, or `Workers`.

        Raises:
            UsageError: The short form is none of these, or needs a number of workers.
        """
        if isinstance(short, cls):
            return short
        if hasattr(short, "__index__"):  # An integer, also a numpy integer.
            return cls("processes", whole_number("workers=", short))
        if not _is_kind(short):
            raise UsageError(
                f"workers= takes None, a number of processes (4), {_KINDS}, or several settings as "
                f"Workers('threads', 8), not {short!r}."
            )
        return cls(short)

    @property
    def in_this_process(self) -> bool:
        """Whether trials run in this process, where the steps are set up once for all trials."""
        return self.kind is None or self.are_threads

    @property
    def are_threads(self) -> bool:
        """Whether trials run in threads of this process."""
        if self.kind is None or self.kind == "processes":
            return False
        # Call a function to find out which executor it makes.
        return self.kind == "threads" or _is_thread_pool(self._executor())

    def check(self, recipe: Recipe) -> None:
        """Refuse what cannot work, before anything runs.

        Raises:
            UsageError: Several trials are to run at once in this process, but the experiment has no
                asynchronous step; or this process is not allowed to start processes.
        """
        if self.kind == "processes" or _is_local_process_pool(self.kind):
            _refuse_a_daemonic_parent()
        if self.kind is None and self.count > 1 and not _is_asynchronous(recipe):
            raise UsageError(
                f"Workers(None, {self.count}) runs trials side by side in this process. That needs "
                "asynchronous steps; synchronous steps would run one after the other. Use "
                f'workers={self.count} (processes) or workers=Workers("threads", {self.count}).'
            )

    def runner(
        self,
        session: Session,
        interruption: Interruption,
        space: SearchSpace | None,
        lease: Callable[[], Lease | None],
    ) -> Runner:
        """Return the runner of the trials; the caller closes it.

        Args:
            session: The run in progress; its steps are set up if the trials run in this process.
            interruption: The handler of Ctrl-C and SIGTERM.
            space: The search space, or None; only to name a choice that cannot be sent.
            lease: Called if the trials run in other processes: returns the lease of the stored run,
                if there is one.

        Raises:
            UsageError: A part of the experiment cannot be sent to another process, the limits
                cannot be enforced, or this process is not allowed to start processes.
            MissingExtraError: A library is not installed.
        """
        if self.kind is None:
            from crystallize_opt.workers.in_process import Concurrent, InProcess

            return (Concurrent if self.count > 1 else InProcess)(session, interruption)
        if self.kind == "processes":
            from crystallize_opt.workers.process_executors import OnOwnProcesses

            return OnOwnProcesses(session, self.count, interruption, self.limits, space, lease())
        from crystallize_opt.workers.executors import OnExecutor, shut_down

        make, executor = self._maker(), self._executor()
        self._made.clear()  # From here on, the runner owns the executor.
        try:
            if _is_thread_pool(executor):
                self._refuse_limits()
                return OnExecutor(session, executor, make, interruption)
            if _is_local_process_pool(executor):
                _refuse_a_daemonic_parent()
            from crystallize_opt.workers.process_executors import OnProcesses

            return OnProcesses(session, executor, make, interruption, self.limits, space, lease())
        except BaseException:
            if make is not None:
                shut_down(executor, wait=False)
            raise

    def _maker(self) -> Callable[[], Any] | None:
        """Return the function that makes the executor; None for an executor object."""
        if self.kind != "threads":
            return None if _is_executor(self.kind) else self.kind

        def make() -> Any:
            from concurrent.futures import ThreadPoolExecutor

            return ThreadPoolExecutor(self.count, thread_name_prefix="crystallize_opt")

        return make

    def _executor(self) -> Any:
        """Return the executor; call the function that makes it only once."""
        make = self._maker()
        if make is None:
            return self.kind
        if not self._made:
            made = make()
            if not _is_executor(made):
                raise UsageError(
                    f"Workers: the function {_name_of(self.kind)} returned {made!r}, which is not "
                    "an executor. Return an executor, such as ProcessPoolExecutor(4)."
                )
            self._made.append(made)
        return self._made[0]

    def _refuse_limits(self) -> None:
        if self.limits.need_processes:
            where = "this process" if self.kind is None else "threads"
            raise UsageError(
                f"{self.limits!r} cannot be enforced in {where}: only a process can be ended. Use "
                'Workers("processes", limits=...), or an executor whose workers are processes.'
            )


def _check_kind(kind: Any) -> None:
    if callable(getattr(kind, "get_executor", None)):
        raise UsageError(
            f"Workers: {kind!r} is a Dask client, not an executor. Pass its method instead: "
            "workers=client.get_executor."
        )
    if not _is_kind(kind):
        raise UsageError(
            f"Workers: kind is None, {_KINDS}, not {kind!r}. For four processes, write "
            "Workers('processes', 4)."
        )


def _refuse_to_ask_ahead(kind: Any, count: int, *, batch: bool) -> None:
    if kind is None:
        raise UsageError(
            "Workers: ask_ahead=True asks the optimizer while workers run trials; but with None "
            "the trials run in this process, which does one thing at a time. Leave ask_ahead out, "
            f"or use Workers('processes', {count}, ask_ahead=True)."
        )
    if batch:
        raise UsageError(
            "Workers: batch=True asks only when all trials have been told, and ask_ahead=True "
            "before that. Give one of them."
        )


def _is_kind(kind: Any) -> bool:
    if kind is None or isinstance(kind, str):
        return kind is None or kind in _WORDS
    return (callable(kind) and kind is not Workers) or _is_executor(kind)


def _is_executor(kind: Any) -> bool:
    """Whether an object has a `submit` method, as every executor has, also those of mpi4py."""
    return not isinstance(kind, type) and hasattr(kind, "submit")


def _is_thread_pool(executor: Any) -> bool:
    from concurrent.futures import ThreadPoolExecutor

    return isinstance(executor, ThreadPoolExecutor)


def _is_local_process_pool(executor: Any) -> bool:
    """Whether an executor is a process pool of the standard library or of loky."""
    return any(base.__name__ == "ProcessPoolExecutor" for base in type(executor).__mro__)


def _refuse_a_daemonic_parent() -> None:
    multiprocessing = sys.modules.get("multiprocessing")  # A daemonic process has imported it.
    if multiprocessing is not None and multiprocessing.current_process().daemon:
        raise UsageError(
            "This process is daemonic, as those of multiprocessing.Pool are, and is not allowed to "
            "start processes for trials. Run the trials in threads (workers='threads') or one at a "
            "time (workers=None), or start this process with daemon=False, for example with a "
            "concurrent.futures.ProcessPoolExecutor instead of a Pool."
        )


def _default_count(kind: Any) -> int:
    if kind is None:
        return 1
    if isinstance(kind, str):
        return _cores()
    known = getattr(kind, "_max_workers", None)  # in concurrent.futures and loky
    if not isinstance(known, int):
        known = _dask_threads(kind)
    if known is None:
        why = "its number of workers is unknown"
        if not _is_executor(kind):
            why = "the function has not made its executor yet"
        raise UsageError(
            f"Workers: {_name_of(kind)} needs a count, because {why}. Give a count: "
            f"workers=Workers({_name_of(kind)}, 8)."
        )
    return known


def _dask_threads(kind: Any) -> int | None:
    """Return the number of worker threads for a Dask executor or a Dask client's method."""
    client = getattr(kind, "_client", None) or getattr(kind, "__self__", None)
    if client is None or not hasattr(client, "nthreads") or getattr(client, "asynchronous", True):
        return None
    return sum(client.nthreads().values()) or None


def _cores() -> int:
    """Return how many processor cores this process may use."""
    if hasattr(os, "process_cpu_count"):  # Python 3.13
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _name_of(kind: Any) -> str:
    """Return a name for an executor or a function in messages."""
    name = getattr(kind, "__name__", type(kind).__name__)
    return "function" if name == "<lambda>" else str(name)


def _is_asynchronous(recipe: Recipe) -> bool:
    for each in (recipe.datasource, *recipe.pipeline.parts):
        # Static, because a step may have any attribute through `__getattr__`.
        parameters = inspect.getattr_static(each, "_parameters", None)  # set by the decorators
        works = getattr(parameters, "function", None) or getattr(each, "fetch", type(each).__call__)
        if inspect.iscoroutinefunction(works):
            return True
    return False
