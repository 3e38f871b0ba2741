"""Writes a search down as it goes, and takes it up where it ended."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crystallize_opt.errors import ReplayDiverged, RunChanged, UsageError
from crystallize_opt.optimizers.space_optimizer import SpaceOptimizer
from crystallize_opt.pipeline.context import logger
from crystallize_opt.pipeline.replicate import run_of
from crystallize_opt.pipeline.seeding import SeedPlugin
from crystallize_opt.recording.plain import Ask, PlainReplay, Tell
from crystallize_opt.runtime.extras import versions_of
from crystallize_opt.storage.description import changes, describe
from crystallize_opt.storage.journal import Row, RunWriter
from crystallize_opt.storage.reading import StoredRun
from crystallize_opt.storage.records import TrialFormat, to_text, write_observation, write_replicate
from crystallize_opt.trials.calls import Asked, Attached, Event, Reported, SavedState, Told
from crystallize_opt.trials.observation import Observation, Replicate, Status
from crystallize_opt.trials.treatment import Treatment
from crystallize_opt.workers.trial import Done, Trial

if TYPE_CHECKING:
    from crystallize_opt.pipeline.recipe import Recipe

_STATE_EVERY = 8  # A search that is resumed makes at most so many suggestions again.


@dataclass
class TakenUp:
    """Where a search is to go on.

    Attributes:
        count: How many trials have been asked for.
        observations: What came of those that are finished.
        trials: Those that are to be run, in order.
        in_order: Of the last ask of a plain optimizer, what it has not been told, in order.
    """

    count: int = 0
    observations: list[Observation] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    in_order: list[tuple[Trial, Observation | None]] = field(default_factory=list)


class Recorder:
    """Writes one search to one run.

    Args:
        experiment: What is run. A seed that was drawn becomes that of the stored run.
        optimizer: What suggests.
        replicates: Replicates per trial.
        storage: The path of the file.
        run: The run's name.
        resume: `"exact"` or `"attach"`.
        required: The metrics a completed trial has.

    Raises:
        StorageError: The file cannot be read.
        RunLocked: The run is being written.
        RunChanged: With `resume="exact"`: the run is one of something else.
    """

    def __init__(
        self,
        experiment: Recipe,
        optimizer: Any,
        replicates: int,
        *,
        storage: str | os.PathLike[str],
        run: str,
        resume: str,
        required: Sequence[str],
    ) -> None:
        self._optimizer = optimizer
        self._ours = isinstance(optimizer, SpaceOptimizer)
        self._required = required
        space = optimizer.space if self._ours else None
        self._format = TrialFormat(space)
        self._writer = RunWriter(storage, run)
        try:
            self._stored = StoredRun(run, self._writer.rows, space)
            self._attaches = bool(self._stored.segments) and resume == "attach"
            self._resumes = bool(self._stored.segments) and not self._attaches
            self._adopt_seed(experiment)
            self._description = describe(experiment, optimizer, replicates)
            if self._resumes:
                self._refuse_changes()
        except BaseException:
            self._writer.close()
            raise
        self._writer.rows = ()
        self._next = self._stored.trials
        self._numbers: dict[Any, int] = {}  # of pending trials
        self._seen = 0  # so many events of the optimizer are written
        self._written: set[str] = set()  # trials written, of which the optimizer has not heard
        self._given_up: set[str] = set()
        self._asks = 0  # calls of the optimizer's `ask` in this segment
        self._state: str | None = None
        self._replicate: Replicate | None = None

    def _adopt_seed(self, experiment: Recipe) -> None:
        if not self._stored.segments:
            return
        seed = self._stored.segments[-1].description["experiment"]["seed"]
        for plugin in experiment.plugins:
            if isinstance(plugin, SeedPlugin) and plugin.is_drawn:
                plugin.seed = seed

    def _refuse_changes(self) -> None:
        found = changes(self._stored.segments[-1].description, self._description)
        if found:
            raise RunChanged(
                f"The run {self._stored.name!r} in {str(self._writer.path)!r} was made with other "
                "settings:\n"
                + "\n".join(f"  {change}" for change in found)
                + "\nPut them back to resume it exactly; or give resume='attach', to go on from "
                "its data with these settings; or another run=, to begin a new one."
            )

    # Taking up ---------------------------------------------------------------------------------

    async def take_up(self, ask: Ask, tell: Tell) -> TakenUp:
        """Begin the run; or bring the optimizer to where the run ended.

        Args:
            ask: Asks the optimizer, which is a plain one.
            tell: Tells the optimizer, which is a plain one.

        Raises:
            ReplayDiverged: The optimizer suggests something else than it did.
            UsageError: The optimizer has been used otherwise before.
        """
        if self._attaches:
            self._attach()
        elif not self._stored.segments:
            self._begin()
        elif not self._ours:
            return await self._replay_plain(ask, tell)
        else:
            self._replay()
        return self._taken_up()

    def _begin(self, settled: Iterable[Row] = ()) -> None:
        asked = 0
        if self._ours and not self._attaches:
            asked = sum(len(e.treatments) for e in self._optimizer.events if isinstance(e, Asked))
        begin = {
            "description": self._description,
            "versions": self._versions(),
            "asked_before": asked,
        }
        self._writer.append([*settled, ("begin", None, to_text(begin))])
        if self._ours and not self._attaches:
            self.sync()

    def _attach(self) -> None:
        if not self._ours:
            raise UsageError("resume='attach' needs an optimizer with attach(): a SpaceOptimizer.")
        if self._optimizer.events_after(0):
            raise UsageError(
                f"This {type(self._optimizer).__name__} has been used. resume='attach' gives it "
                "every trial of the run: build a fresh one."
            )
        settled, given_up = [], []
        for treatment in self._stored.pending:
            error = "Given up: the run went on with another optimizer."
            observation = Observation(treatment, status=Status.ABANDONED, error=error)
            given_up.append(observation)
            number = self._stored.numbers[id(treatment)]
            settled.append(("observation", number, to_text(write_observation(observation))))
        self._optimizer.attach([*self._stored.observations, *given_up])
        self._seen = len(self._optimizer.events_after(0))
        self._begin(settled)

    def _replay(self) -> None:
        optimizer, stored = self._optimizer, self._stored
        last = stored.segments[-1]
        earlier = [
            e.observation
            for segment in stored.segments[:-1]
            for e in segment.events
            if isinstance(e, (Told, Attached))
        ]
        recorded: list[Event] = [*map(Attached, earlier), *last.events]
        common, own = self._common(optimizer.events_after(0), recorded)
        rest = recorded[common:]
        versions = self._versions()
        if rest and own:
            raise _not_of_this_run(own[0])
        try:
            # With other versions every suggestion is made again, to find the first that differs.
            same = versions == last.versions
            optimizer.replay(rest, last.versions, self._saved_state(recorded[:common], same=same))
        except ReplayDiverged as error:
            if optimizer.seed is None:
                error.add_note(
                    "The optimizer was given no seed. Give it one, so that a run can be resumed "
                    "exactly; this one can go on with resume='attach'."
                )
            else:
                error.add_note("The run can go on with resume='attach', from its data.")
            raise
        self._asks = sum(isinstance(event, Asked) for event in last.events)
        asked = [t for e in last.events if isinstance(e, Asked) for t in e.treatments]
        numbers = {treatment.name: stored.numbers[id(treatment)] for treatment in asked}
        told = [e.observation.treatment for e in own if isinstance(e, Told)]
        for treatment in (*optimizer.pending, *told):
            if treatment.name in numbers:
                self._numbers[treatment.name] = numbers[treatment.name]
        self._seen = len(optimizer.events_after(0))
        self._writer.append([("resume", None, to_text({"versions": versions}))])
        self._write(own)

    def _saved_state(self, before: Sequence[Event], *, same: bool) -> SavedState | None:
        """Return the stored state, counting asks from the events that the optimizer has not had."""
        stored = json.loads(self._writer.state or "{}")
        if not same or stored.get("segment") != len(self._stored.segments):
            return None
        asks = stored["asks"] - sum(isinstance(event, Asked) for event in before)
        return SavedState(asks, stored["state"]) if asks >= 0 else None

    def _common(self, given: Sequence[Event], recorded: Sequence[Event]) -> tuple[int, list[Event]]:
        """Return how much of a recorded order the optimizer has behind it, and what else it has.

        A trial that was given up when a search ended is in no record, so that it is run again.
        """
        position, own = 0, []
        for event in given:
            if position < len(recorded) and self._same(event, recorded[position]):
                position += 1
            elif position == len(recorded) or (
                isinstance(event, Told) and event.observation.status is Status.ABANDONED
            ):
                own.append(event)
            else:
                raise _not_of_this_run(event)
        return position, own

    def _same(self, one: Event, other: Event) -> bool:
        if isinstance(one, Asked) and isinstance(other, Asked):
            pairs = [[self._text(t) for t in e.treatments] for e in (one, other)]
            return pairs[0] == pairs[1]
        if isinstance(one, Reported) and isinstance(other, Reported):
            return (one.name, one.replicate, one.prune) == (
                other.name,
                other.replicate,
                other.prune,
            )
        if isinstance(one, (Told, Attached)) and type(one) is type(other):
            texts = [self._text_of(e.observation) for e in (one, other)]
            return texts[0] == texts[1]
        return False

    def _text_of(self, observation: Observation) -> str:
        checked = observation.checked(self._required)
        return self._text(observation.treatment) + to_text(write_observation(checked))

    def _text(self, treatment: Treatment) -> str:
        return to_text(self._format.write_treatment(treatment))

    def _taken_up(self) -> TakenUp:
        stored = self._stored
        asked = [t.name for segment in stored.segments for t in segment.treatments]
        names = set(asked)
        pending, observations = [], []
        if self._ours and self._resumes:
            mine = {t.name for t in stored.segments[-1].treatments}
            for treatment in self._optimizer.pending:
                if treatment.name in mine:
                    trial = self._trial(treatment)
                    if treatment.name in stored.pruned:
                        self._prune(trial)
                    else:
                        pending.append(trial)
        if self._ours:
            observations = [o for o in self._optimizer.observations if o.treatment.name in names]
        if stored.segments:
            logger.info(
                "The run %r goes on: %d trials are finished, %d are run again.",
                stored.name,
                len(observations),
                len(pending),
            )
        # What the optimizer was asked for since, elsewhere, is not of this search.
        return TakenUp(len(names), observations, pending)

    def _trial(self, treatment: Treatment) -> Trial:
        done: Done = [(run_of(r), r) for r in self._stored.replicates.get(treatment.name, ())]
        return Trial(treatment, len(done) + 1, done)

    def _prune(self, trial: Trial) -> None:
        """Finish a trial that was to be ended when the process died."""
        replicates = [replicate for _, replicate in trial.done]
        observation = Observation.of_replicates(trial.treatment, replicates).checked(self._required)
        if observation.status is Status.COMPLETED:
            observation = dataclasses.replace(observation, status=Status.PRUNED)
        self.finished(observation)
        self._optimizer.tell(observation)
        self.sync()

    async def _replay_plain(self, ask: Ask, tell: Tell) -> TakenUp:
        replay = PlainReplay(self._stored.segments[-1].events, self._text)
        await replay.run(ask, tell)
        taken = TakenUp(replay.asked, replay.told)
        for recorded, treatment in replay.untold:
            trial = Trial(treatment, 1)
            observation = replay.observation_of(recorded, treatment)
            if observation is None:
                self._numbers[id(treatment)] = self._stored.numbers[id(recorded)]
                taken.trials.append(trial)
            else:
                taken.observations.append(observation)
            taken.in_order.append((trial, observation))
        self._writer.append([("resume", None, to_text({"versions": self._versions()}))])
        return taken

    # Writing -----------------------------------------------------------------------------------

    def before_ask(self) -> None:
        """Note what the next ask depends on; not each time, because it may be large."""
        if self._ours and self._asks % _STATE_EVERY == 0:
            state = self._optimizer._state_before_ask()  # noqa: SLF001
            if state is not None:
                segment = len(self._stored.segments) + (not self._resumes)
                written = {"segment": segment, "asks": self._asks, "state": state}
                self._state = json.dumps(written)

    def asked(self, treatments: Sequence[Treatment]) -> None:
        """Write down what was suggested."""
        if self._ours:
            self.sync()
        else:
            self._writer.append(self._rows_of_ask(treatments))

    def reported(self, replicate: Replicate) -> None:
        """Write down what was just reported of a pending trial."""
        self._replicate = replicate
        self.sync()

    def finished(self, observation: Observation) -> None:
        """Write down what came of a trial, before the optimizer hears of it.

        A trial that is given up because the search ends is not written: it stays pending, so that
        it is run again when the search is taken up.
        """
        name = observation.treatment.name
        if observation.status is Status.ABANDONED:
            self._given_up.add(name)
            return
        self._writer.append([self._row_of(observation)])
        self._written.add(name)

    def sync(self) -> None:
        """Write down what has happened to the optimizer since the last time."""
        if self._ours:
            events = self._optimizer.events_after(self._seen)
            self._seen += len(events)
            self._write(events)

    def close(self) -> None:
        """Let others write the run."""
        self._writer.close()

    def _write(self, events: Sequence[Event]) -> None:
        rows: list[Row] = []
        for event in events:
            if isinstance(event, Asked):
                rows += self._rows_of_ask(event.treatments)
                self._asks += 1
            elif isinstance(event, Reported):
                rows.append(self._row_of_report(event))
            elif isinstance(event, Attached):
                rows.append(self._row_of_attached(event.observation))
            else:
                name = event.observation.treatment.name
                if name in self._written:
                    self._written.discard(name)
                elif name in self._given_up:
                    self._given_up.discard(name)
                else:
                    rows.append(self._row_of(event.observation))
        if rows:
            self._writer.append(rows, self._state)
        self._state = None

    def _rows_of_ask(self, treatments: Sequence[Treatment]) -> list[Row]:
        rows: list[Row] = []
        for position, treatment in enumerate(treatments):
            self._numbers[treatment.name if self._ours else id(treatment)] = self._next
            kind = "batch" if position else "ask"
            rows.append((kind, self._next, self._text(treatment)))
            self._next += 1
        return rows

    def _row_of(self, observation: Observation) -> Row:
        treatment = observation.treatment
        number = self._numbers.pop(treatment.name if self._ours else id(treatment))
        return ("observation", number, to_text(write_observation(observation)))

    def _row_of_attached(self, observation: Observation) -> Row:
        data = self._format.write_treatment(observation.treatment) | write_observation(observation)
        self._next += 1
        return ("attach", self._next - 1, to_text(data))

    def _row_of_report(self, event: Reported) -> Row:
        replicate = self._replicate
        if replicate is None or replicate.index != event.replicate:
            replicate = Replicate(event.replicate, None, event.metrics)
        data = {
            "name": event.name,
            "prune": event.prune,
            "replicate": write_replicate(replicate, {"status": "completed"}),
        }
        return ("report", self._numbers[event.name], to_text(data))

    def _versions(self) -> dict[str, str]:
        if self._ours:
            return versions_of(self._optimizer.libraries)
        return versions_of(())


def _not_of_this_run(event: Event) -> UsageError:
    return UsageError(
        "The optimizer has been used for something that is not in the run, so it cannot go on with "
        f"it: {event!r}. Build a fresh one, and call optimize() again."
    )
