"""Whoever follows a search: its callbacks, its lines of progress and its stop conditions."""

from __future__ import annotations

import time
from collections.abc import Sequence

from crystallize_opt.recording.recorder import RecordedOptimizer
from crystallize_opt.recording.resumed import Resumed
from crystallize_opt.search.callbacks import (
    Event,
    RunStarted,
    TrialAsked,
    TrialCompleted,
    TrialFailed,
    TrialRepeated,
    TrialStored,
    TrialTold,
    notify,
)
from crystallize_opt.search.callers_state import CallersTurn
from crystallize_opt.search.settings import Settings
from crystallize_opt.search.stopping import SearchState
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.raced import suggestions_of
from crystallize_opt.trials.treatment import Treatment


class Followers:
    """Tells callbacks, lines of progress and stop conditions what happens in a search.

    Args:
        settings: The checked settings of the search.
        recorded: The optimizer, with its stored run if there is one.
        turn: Surrounds code outside of trials.
    """

    def __init__(self, settings: Settings, recorded: RecordedOptimizer, turn: CallersTurn) -> None:
        self._settings, self._recorded, self._turn = settings, recorded, turn
        self._state = SearchState(recorded.criterion)
        self._began = time.monotonic()

    def begin(self, title: str, resumed: Resumed) -> None:
        """The search begins, with the trials of a resumed run."""
        settings, recorded = self._settings, self._recorded
        if settings.stop:
            for observation in resumed.observations:
                self._state.add(observation)
        if settings.progress_lines is not None:
            finished = sum(map(suggestions_of, resumed.observations))
            settings.progress_lines.begin(title, settings.num_trials, finished)
        if settings.callbacks:
            self.emit(
                RunStarted(
                    recorded.optimizer.stands_for.__name__,
                    recorded.criterion.objectives,
                    settings.num_trials,
                    settings.replicates,
                    settings.workers.count,
                    tuple(resumed.observations),
                    recorded.criterion,
                    title,
                    recorded.run_identity,
                    recorded.optimizer.baseline,
                )
            )
            self._emit_repeats()

    def asked(self, treatments: Sequence[Treatment]) -> None:
        """The optimizer has suggested these treatments. Only callbacks hear of it."""
        self._emit_repeats()
        for treatment in treatments:
            self.emit(TrialAsked(treatment))

    def finished(self, observation: Observation, *, stored: bool) -> None:
        """A trial has finished, and is not yet reported to the optimizer.

        Only callbacks hear of it.
        """
        if stored:
            self.emit(TrialStored(observation))
        good = observation.status.has_value
        self.emit(TrialCompleted(observation) if good else TrialFailed(observation))

    def told(self, observation: Observation) -> None:
        """An observation was reported to the optimizer."""
        settings = self._settings
        if settings.progress_lines is not None:
            settings.progress_lines.add(lambda: self._recorded.optimizer.history)
        if settings.stop:
            self._state.add(observation)
        if settings.callbacks:
            self.emit(TrialTold(observation))

    def reason_to_stop(self) -> str | None:
        """Return the reason of the first stop condition that would end the search now."""
        if not self._settings.stop:
            return None
        self._state.elapsed = time.monotonic() - self._began
        with self._turn:
            for condition in self._settings.stop:
                if reason := condition(self._state):
                    name = getattr(condition, "__name__", repr(condition))
                    return reason if isinstance(reason, str) else f"{name} said so"
        return None

    def emit(self, event: Event) -> None:
        """Call the callbacks with an event, if there are any."""
        if self._settings.callbacks:
            with self._turn:
                notify(self._settings.callbacks, event)

    def _emit_repeats(self) -> None:
        for observation in self._recorded.repeats:
            self.emit(TrialRepeated(observation))
