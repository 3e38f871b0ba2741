"""The baseline of a search: the untreated experiment, run once before the first trial."""

from __future__ import annotations

from typing import Any

from crystallize_opt.errors import InvalidParametersError, TrialsFailedError, UsageError
from crystallize_opt.optimizers.plain import Driven
from crystallize_opt.pipeline.recipe import Recipe
from crystallize_opt.pipeline.replicate import ReplicateRun
from crystallize_opt.pipeline.result import BASELINE
from crystallize_opt.runtime.interruption import Interruption
from crystallize_opt.search.course import Course
from crystallize_opt.search.failures import FailureCount
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import Treatment
from crystallize_opt.workers.trial import Done, Runner, Trial


def as_baseline(given: Any) -> Treatment | None:
    """Return the treatment, called "baseline", that `baseline=` means; None for no baseline.

    Raises:
        UsageError: It is neither True, False, None nor a treatment.
    """
    if given is None or given is False:
        return None
    if given is True:
        return Treatment(BASELINE)
    if not isinstance(given, Treatment):
        raise UsageError(
            "baseline= is True for the untreated experiment, or a Treatment such as "
            f"Treatment('default', {{'x': 1.0}}), not {given!r}."
        )
    return given.named(BASELINE)


def refuse_lacking_baseline(optimizer: Driven, baseline: Treatment | None) -> None:
    """Refuse a search whose constraints are relative to a baseline that nothing will run.

    Raises:
        UsageError: The message says what to do.
    """
    if baseline is None and optimizer.criterion.lacks_baseline:
        _ = optimizer.criterion.limits


def point_of(
    treatment: Treatment, recipe: Recipe, space: SearchSpace | None
) -> dict[str, Any] | None:
    """Return the parameters of a baseline, with the defaults of the step functions; else None.

    None if a parameter of the space is not known: a step reads it from the context, for example.
    """
    if space is None or treatment.function is not None:
        return None
    known = {**recipe.pipeline.untreated(), **treatment.params}
    point: dict[str, Any] = {}
    try:
        for name in space:
            if space.is_active(name, point):
                point[name] = known[name]
    except (InvalidParametersError, KeyError):
        return None
    return point


async def run_baseline(
    trial: Trial,
    course: Course,
    runner: Runner,
    interruption: Interruption,
    failures: FailureCount,
) -> None:
    """Run all replicates of the baseline; a failed attempt is retried as that of a trial is.

    After a first signal, the baseline finishes, as running trials do.

    Raises:
        KeyboardInterrupt: The search was interrupted, and the baseline did not complete.
        ExecutorBrokenError: The executor broke.
    """
    while True:
        if interruption.count:
            raise interruption.error or KeyboardInterrupt("The search was interrupted.")
        runner.start(trial)
        done: Done = []
        while not done:
            done = [run for _, runs in await runner.wait() for run in runs]
            if runner.failure is not None:
                raise runner.failure
            if interruption.count > 1 and not done:
                raise interruption.error or KeyboardInterrupt("The baseline was interrupted.")
        last = done[-1].record
        if last.status is Status.COMPLETED:
            break
        if interruption.count:
            raise interruption.error or KeyboardInterrupt("The baseline was interrupted.")
        if not failures.may_be_retried(last, done[-1].fault, trial.attempt):
            break
        trial.attempt += 1
    course.add(trial, done)


def completed_baseline(observation: Observation, last: ReplicateRun) -> Observation:
    """Return the outcome of the baseline if it has completed.

    Raises:
        TrialsFailedError: It did not; the message shows why.
    """
    if observation.status is Status.COMPLETED:
        return observation
    count, lines = len(observation.replicates), f"\n{last.fault.text}" if last.fault else ""
    raise TrialsFailedError(
        f"The baseline failed in replicate {count - 1}, so no trial was run: "
        f"{observation.status.value}, {observation.error}{lines}\nIf the experiment cannot run "
        "untreated, give the parameters to compare with: baseline=Treatment('default', {...})."
    ) from last.error
