"""The trial loop: ask, run the replicates, average, tell."""

from __future__ import annotations

import dataclasses
import operator
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from crystallize_opt.context import logger
from crystallize_opt.errors import (
    NoCompletedTrialError,
    ObjectiveError,
    SpaceExhausted,
    TrialsFailedError,
    UsageError,
)
from crystallize_opt.event_loop import resolve
from crystallize_opt.objective import Objective, as_objectives
from crystallize_opt.observation import Observation, Replicate, Status
from crystallize_opt.optimizer import BaseOptimizer, SpaceOptimizer
from crystallize_opt.session import REPLICATE_KEYS, ReplicateRun, Session
from crystallize_opt.treatment import Treatment

if TYPE_CHECKING:
    from crystallize_opt.experiment import Experiment

ALL_FAILED_LIMIT = 10
"""A search ends with an error where every one of this many first trials failed."""

_NO_FAILURE = (Status.COMPLETED, Status.PRUNED)


def check_arguments(
    experiment: Experiment, optimizer: BaseOptimizer, num_trials: int, replicates_per_trial: int
) -> None:
    """Refuse what cannot be run, before anything is.

    Raises:
        UsageError: A number is no whole number of at least 1, or the optimizer's space has a
            parameter that the context has already.
        ObjectiveError: The optimizer's objective has no metric, or no known direction.
        TypeError: The optimizer lacks a method.
    """
    checked_count("num_trials", num_trials)
    checked_count("replicates_per_trial", replicates_per_trial)
    needed = ("ask", "tell", "get_best_treatment", "objective")
    if isinstance(optimizer, type) or (
        missing := [name for name in needed if not hasattr(optimizer, name)]
    ):
        what = "a class; build it first" if isinstance(optimizer, type) else f"without {missing}"
        raise TypeError(f"An optimizer has {', '.join(needed)}; {optimizer!r} is {what}.")
    _objectives_of(optimizer)
    if isinstance(optimizer, SpaceOptimizer):
        taken = {*experiment.initial_context, *REPLICATE_KEYS}
        if clash := [name for name in optimizer.space if name in taken]:
            raise UsageError(
                f"The search space has the parameter {clash[0]!r}, but every replicate's context "
                f"has that key already (it has {', '.join(sorted(taken))}). Rename the parameter, "
                "or drop the key from initial_ctx."
            )


def checked_count(name: str, number: Any) -> int:
    """Return a number of trials or replicates as a plain `int`.

    Raises:
        UsageError: It is no whole number of at least 1.
    """
    try:
        count = 0 if isinstance(number, bool) else operator.index(number)
    except TypeError:
        count = 0
    if count < 1:
        raise UsageError(f"{name} is a whole number, at least 1, not {number!r}.")
    return count


async def optimize(
    session: Session,
    optimizer: BaseOptimizer,
    num_trials: int,
    replicates_per_trial: int,
    progress: bool | None,
    on_replicate: Callable[[str, ReplicateRun], None],
) -> Treatment:
    """Run the search and return the optimizer's best treatment.

    Args:
        session: The run in progress.
        optimizer: What suggests.
        num_trials: How many treatments to try; more only where the last `ask` gives several.
        replicates_per_trial: How often each is run.
        progress: Whether to show a bar; None to decide by where stderr goes.
        on_replicate: Called with the treatment's name and each finished replicate.
    """
    ours = isinstance(optimizer, SpaceOptimizer)
    objectives = _objectives_of(optimizer)
    may_draw = not ours or optimizer.may_use_global_random_state  # type: ignore[attr-defined]
    put_back = session.callers_random_state.put_back if may_draw else _nothing
    failures: list[Observation] = []
    done = 0
    with _progress_bar(num_trials, optimizer, progress) as update:
        while done < num_trials:
            put_back()
            try:
                treatments = _checked_treatments(await resolve(optimizer.ask()))
            except SpaceExhausted as end:
                if not done:
                    raise
                logger.info("The search ends after %d trials: %s", done, end)
                break
            for treatment in treatments:
                observation = await _run_trial(
                    session, optimizer, objectives, treatment, replicates_per_trial, on_replicate
                )
                put_back()
                await resolve(
                    optimizer.tell(observation if ours else _plain(observation, objectives))
                )
                done += 1
                if update is not None:
                    update(observation)
                if observation.status not in _NO_FAILURE:
                    failures.append(observation)
            if len(failures) == done >= ALL_FAILED_LIMIT:
                raise TrialsFailedError(_causes(failures))
        if len(failures) == done and not ours:
            # An optimizer that knows no failures would call one of these trials the best.
            raise NoCompletedTrialError(_causes(failures))
        return await resolve(optimizer.get_best_treatment())


async def _run_trial(
    session: Session,
    optimizer: Any,
    objectives: Sequence[Objective],
    treatment: Treatment,
    replicates_per_trial: int,
    on_replicate: Callable[[str, ReplicateRun], None],
) -> Observation:
    """Run the replicates of one treatment, up to the first that fails, and average them."""
    ours = isinstance(optimizer, SpaceOptimizer)
    replicates: list[Replicate] = []
    pruned = False
    for index in range(replicates_per_trial):
        run = await session.run_replicate(treatment, index, condition=treatment.name)
        replicate = run.summary()
        if run.error is not None:
            # A search keeps the error of every failed trial. Its frames would keep all the data.
            run.error.__traceback__ = run.error.__cause__ = run.error.__context__ = None
        on_replicate(treatment.name, run)
        replicates.append(replicate)
        if replicate.status is not Status.COMPLETED:
            break  # The trial has failed, whatever the other replicates would give.
        if ours and index + 1 < replicates_per_trial:
            session.callers_random_state.put_back()
            pruned = optimizer.report(treatment, index, replicate)
            if pruned:
                break
    metrics = optimizer.required_metrics if ours else [each.metric for each in objectives]
    observation = Observation.of_replicates(treatment, replicates).checked(metrics)
    if pruned and observation.status is Status.COMPLETED:
        observation = dataclasses.replace(observation, status=Status.PRUNED)
    return observation


def _objectives_of(optimizer: Any) -> tuple[Objective, ...]:
    """Return the objectives of an optimizer, which may use a class of its own for them."""
    if isinstance(optimizer, SpaceOptimizer):
        return optimizer.objectives
    objective = optimizer.objective
    several = objective if isinstance(objective, (list, tuple)) else (objective,)
    for each in several:
        if not hasattr(each, "metric") or not hasattr(each, "direction"):
            raise ObjectiveError(
                f"The objective of {type(optimizer).__name__} has a metric and a direction, as "
                f"Objective('loss', 'minimize') has; {each!r} has not."
            )
    return as_objectives([Objective(each.metric, each.direction) for each in several])


def _plain(observation: Observation, objectives: Sequence[Objective]) -> Observation:
    """Return what an optimizer is told that is written to the plain protocol.

    It reads a mapping of just its metric and knows no status. A trial that did not complete has the
    infinity that loses, so that it is told at all and never chosen.
    """
    completed = observation.status is Status.COMPLETED
    metrics = {
        each.metric: observation[each.metric] if completed else each.worst for each in objectives
    }
    return dataclasses.replace(observation, metrics=metrics)


def _checked_treatments(asked: Any) -> list[Treatment]:
    treatments = list(asked) if isinstance(asked, (list, tuple)) else []
    if not treatments or not all(isinstance(treatment, Treatment) for treatment in treatments):
        raise TypeError(f"ask() returns a list with at least one Treatment, not {asked!r}.")
    return treatments


def _causes(failures: list[Observation]) -> str:
    causes: dict[str, list[str]] = {}
    for failure in failures:
        name = failure.treatment.name
        # The error names the trial it happened in.
        cause = f"{failure.status.value}: {failure.error}".replace(repr(name), "<trial>")
        causes.setdefault(cause, []).append(name)
    lines = [f"  {len(names)} x {cause}" for cause, names in causes.items()]
    return f"Every one of the first {len(failures)} trials failed:\n" + "\n".join(lines)


def _nothing() -> None:
    pass


def _in_notebook() -> bool:
    """Whether a Jupyter kernel runs this code. That its package is loaded says nothing: Ax does."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return hasattr(shell, "kernel")


@contextmanager
def _progress_bar(
    num_trials: int, optimizer: Any, progress: bool | None
) -> Iterator[Callable[[Observation], None] | None]:
    """Show a tqdm bar with the best value and the number of failures, where wanted."""
    if progress is None:
        progress = sys.stderr is not None and (sys.stderr.isatty() or _in_notebook())
    if not progress:
        yield None
        return
    from tqdm.auto import tqdm

    objective = optimizer.objective
    metric = getattr(objective, "metric", None)  # None: several objectives have no best value
    better = min if getattr(objective, "direction", None) == "minimize" else max
    values: list[float] = []
    failed = 0
    with tqdm(total=num_trials, desc=type(optimizer).__name__, unit="trial") as bar:

        def update(observation: Observation) -> None:
            nonlocal failed
            if observation.status in _NO_FAILURE:
                if metric is not None and observation.status is Status.COMPLETED:
                    values[:] = [better([*values, observation[metric]])]
            else:
                failed += 1
            shown = {f"best {metric}": values[0]} if values else {}
            bar.set_postfix(shown | {"failed": failed}, refresh=False)
            bar.update()

        yield update
