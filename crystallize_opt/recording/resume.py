"""Brings an optimizer to where a stored run ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from crystallize_opt.errors import ReplayDiverged, UsageError
from crystallize_opt.optimizers.plain import Driven
from crystallize_opt.optimizers.space_optimizer import SpaceOptimizer
from crystallize_opt.pipeline.context import logger
from crystallize_opt.recording.known import KnownOutcomes
from crystallize_opt.recording.resumed import Resumed
from crystallize_opt.recording.run_log import RunLog
from crystallize_opt.runtime.extras import versions_of
from crystallize_opt.storage.fitting import Goals
from crystallize_opt.storage.records import to_text, write_observation
from crystallize_opt.storage.segment import Segment
from crystallize_opt.trials.calls import (
    Asked,
    Attached,
    BaselineSet,
    Enqueued,
    Event,
    Reported,
    ReportedPoint,
    Told,
)
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.replicate import Replicate
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import Treatment


async def resume(
    log: RunLog,
    optimizer: Driven,
    description: Mapping[str, Any],
    known: KnownOutcomes | None = None,
) -> Resumed:
    """Begin a new run, or bring the optimizer to where the stored run ended.

    Args:
        log: The run.
        optimizer: The optimizer.
        description: The description of the optimizer and the experiment.
        known: Takes the trials of this run whose outcomes are known; None if nobody asks for them.

    Raises:
        ReplayDiverged: A suggestion of the optimizer differs from the stored one.
        UsageError: The optimizer has been used for something else before.
    """
    if isinstance(optimizer, SpaceOptimizer):
        versions = optimizer.versions  # Those of its own process, which need not be this one.
    else:
        versions = versions_of(optimizer.libraries)
    if log.resumes:
        await _replay(log, optimizer, versions)
    elif log.attaches:
        _attach(log, optimizer, description, versions)
    else:
        log.begin(description, versions, ())
    resumed = _found(log, optimizer, description, known)
    if log.stored.segments:
        logger.info(
            "The run %r continues: %d trials are finished, %d are run again.",
            log.stored.name,
            len(resumed.observations) + len(resumed.held),
            len(resumed.pending),
        )
    return resumed


def _attach(
    log: RunLog, optimizer: Any, description: Mapping[str, Any], versions: Mapping[str, str]
) -> None:
    if not hasattr(optimizer, "attach"):
        raise UsageError("resume='attach' needs an optimizer with attach(): a SpaceOptimizer.")
    if optimizer.calls:
        raise UsageError(
            f"This {type(optimizer).__name__} has been used, but resume='attach' attaches every "
            "trial of the run. Build a fresh optimizer."
        )
    error = "The trial was given up, because another optimizer continued the run."
    given_up = [
        Observation(treatment, status=Status.ABANDONED, error=error)
        for treatment in log.stored.pending
    ]
    log.stored.segments[-1].events += map(Told, given_up)
    if optimizer.criterion.lacks_baseline:
        _take_over_baseline(log, optimizer, description)
    optimizer.attach(_fitting(log, optimizer, log.stored.segments))
    log.begin(description, versions, log.rows_given_up(given_up))


def _take_over_baseline(log: RunLog, optimizer: Any, description: Mapping[str, Any]) -> None:
    """Judge the trials of a run to attach by its own baseline, before they are attached.

    Raises:
        UsageError: The run has no baseline, or it is that of another experiment.
    """
    last = log.stored.segments[-1]
    same = _experiment(last.description) == _experiment(description)
    found = [each for each in last.events if isinstance(each, BaselineSet)]
    if not found or not same:
        why = "was of another experiment" if found else "is not in the run"
        raise UsageError(
            f"The trials of the run {log.stored.name!r} cannot be attached: a constraint is "
            f"relative to the baseline, which {why}. Call set_baseline() and "
            "attach(History.load(...)) of the optimizer, and give another run=; or give an "
            "absolute bound."
        )
    optimizer.set_baseline(*found[-1])


def _fitting(log: RunLog, optimizer: Driven, segments: Sequence[Segment]) -> list[Observation]:
    """Return the trials of earlier segments that fit the optimizer; say which are left out."""
    goals = Goals(optimizer.space, optimizer.criterion.reductions)
    fit, left_out = log.stored.fitting(goals, segments)
    if left_out and isinstance(optimizer, SpaceOptimizer) and not optimizer.calls:
        optimizer.ledger.leave_out([observation for observation, _ in left_out])
        (first, why), *_ = left_out
        logger.warning(
            "The run %r: %d of its %d earlier trials do not fit the space, objectives and "
            "constraints of today, and are left out (history.left_out). The first, %r: %s.",
            log.stored.name,
            len(left_out),
            len(left_out) + len(fit),
            first.treatment.name,
            why.rstrip("."),
        )
    return fit


async def _replay(log: RunLog, optimizer: Driven, versions: Mapping[str, str]) -> None:
    stored = log.stored
    last = stored.segments[-1]
    earlier = _fitting(log, optimizer, stored.segments[:-1])
    events = last.events
    # Before `_attach` attached the earlier trials, it took over the baseline, if it had to.
    first = 1 if earlier and optimizer.criterion.is_relative else 0
    recorded: list[Event] = [*events[:first], *map(Attached, earlier), *events[first:]]
    common, own = _common(log, optimizer, recorded)
    rest = recorded[common:]
    if rest and own:
        raise _not_of_this_run(own[0])
    if versions != last.versions:
        both = [(n, last.versions.get(n), versions.get(n)) for n in {**last.versions, **versions}]
        logger.warning(
            "The run %r was made with other versions; each suggestion is compared: %s.",
            stored.name,
            "; ".join(f"{name} {old}, now {new}" for name, old, new in both if old != new),
        )
    # With other versions, repeat every suggestion, to find the first one that differs.
    state = log.saved_state(recorded[:common]) if versions == last.versions else None
    try:
        replaying = optimizer.replay(rest, last.versions, state)
        if replaying is not None:  # A plain optimizer's replay is a coroutine.
            await replaying
    except ReplayDiverged as error:
        if not hasattr(optimizer, "attach"):
            raise
        error.add_note("The run can continue from its data with resume='attach'.")
        raise
    log.resume(versions, own, optimizer.held)


def _common(log: RunLog, optimizer: Driven, recorded: Sequence[Event]) -> tuple[int, list[Event]]:
    """Return how many of the recorded events the optimizer already has, and its other events.

    Abandoned trials are among the others: they are not stored, so that a resumed run repeats them.
    """
    position, own = 0, []
    for event in optimizer.calls:
        if position < len(recorded) and _same(log, optimizer, event, recorded[position]):
            position += 1
        elif position == len(recorded) or (
            isinstance(event, Told) and event.observation.status is Status.ABANDONED
        ):
            own.append(event)
        else:
            raise _not_of_this_run(event)
    return position, own


def _same(log: RunLog, optimizer: Driven, one: Event, other: Event) -> bool:
    if isinstance(one, Asked) and isinstance(other, Asked):
        pairs = [[log.text_of(t) for t in each.treatments] for each in (one, other)]
        return pairs[0] == pairs[1]
    if isinstance(one, Reported) and isinstance(other, Reported):
        return (one.name, one.replicate, one.prune) == (other.name, other.replicate, other.prune)
    if isinstance(one, ReportedPoint) and isinstance(other, ReportedPoint):
        return repr(one) == repr(other)  # nan equals nan
    if isinstance(one, (Told, Attached)) and type(one) is type(other):
        texts = []
        for each in (one.observation, other.observation):
            checked = each.checked(optimizer.required_metrics)
            texts.append(log.text_of(each.treatment) + to_text(write_observation(checked)))
        return texts[0] == texts[1]
    if isinstance(one, BaselineSet) and isinstance(other, BaselineSet):
        # The parameters are compared by what follows from them: the outcome.
        both = [to_text(write_observation(each.observation)) for each in (one, other)]
        return both[0] == both[1]
    if isinstance(one, Enqueued) and isinstance(other, Enqueued):
        return log.text_of_params(one.params) == log.text_of_params(other.params)
    return False


def _found(
    log: RunLog,
    optimizer: Driven,
    description: Mapping[str, Any],
    known: KnownOutcomes | None,
) -> Resumed:
    """Return the optimizer's trials that belong to this run, not those it was asked elsewhere."""
    stored = log.stored
    names = {treatment.name for segment in stored.segments for treatment in segment.treatments}
    resumed = Resumed()
    if known is not None:
        same = _names_in(stored.segments, description)
        for observation in (*optimizer.observations, *optimizer.held):
            if observation.treatment.name in same:
                known.add(observation)
    if optimizer.runs_known:
        known = None
    mine = {t.name for t in stored.segments[-1].treatments} if log.resumes else set()
    repeats = sum(
        isinstance(event, Told) and event.observation.repeats is not None
        for segment in stored.segments
        for event in segment.events
    )
    last = _asked_last(stored.segments[-1].events) if log.resumes else set()
    for treatment in optimizer.pending:
        if treatment.name not in mine:
            continue
        done = stored.replicates.get(log.number_of(treatment), [])
        repeated = None
        if known is not None and treatment.name in last:
            repeated = known.of(treatment)
        if treatment.name in stored.pruned:
            _prune(log, optimizer, treatment, done, repeated)
            repeats += repeated is not None
        elif repeated is None:
            resumed.pending.append((treatment, done))
        else:
            resumed.unanswered.append((treatment, repeated, done))
    asked = sum(len(segment.treatments) for segment in stored.segments)
    resumed.count = asked - repeats - len(resumed.unanswered)
    ran = [each for each in optimizer.observations if each.repeats is None]
    resumed.observations = [each for each in ran if each.treatment.name in names]
    resumed.held = [each for each in optimizer.held if each.repeats is None]
    return resumed


def _names_in(segments: Sequence[Segment], description: Mapping[str, Any]) -> set[str]:
    """Return the names of the trials of segments that ran the described experiment."""
    return {
        treatment.name
        for segment in segments
        if _experiment(segment.description) == _experiment(description)
        for treatment in segment.treatments
    }


def _experiment(described: Mapping[str, Any]) -> list[Any]:
    """Return what decides the outcome of a treatment."""
    return [described.get("experiment"), described.get("replicates_per_trial")]


def _asked_last(events: Sequence[Event]) -> set[str]:
    """Return the names of the last ask's treatments, if no trial has finished since.

    Known outcomes are reported right after the ask. A treatment whose point became known only later
    was no repeat: it ran beside the trial of the same point.
    """
    for event in reversed(events):
        if isinstance(event, Asked):
            return {treatment.name for treatment in event.treatments}
        if isinstance(event, Told) and event.observation.repeats is None:
            break
    return set()


def _prune(
    log: RunLog,
    optimizer: Any,
    treatment: Treatment,
    done: Sequence[Replicate],
    repeated: Observation | None,
) -> None:
    """Finish a trial that the optimizer had decided to prune when the process died."""
    if repeated is not None:
        observation = repeated.repeated_by(treatment).ended_after(len(done))
    else:
        observation = Observation.of_replicates(treatment, done).checked(optimizer.required_metrics)
        observation = observation.ended_early()
    log.finished(observation)
    optimizer.tell(observation)
    log.sync()


def _not_of_this_run(event: Event) -> UsageError:
    return UsageError(
        "The optimizer has been used for something that is not in the run, so it cannot continue "
        f"the run: {event!r}. Build a fresh one, and call optimize() again."
    )
