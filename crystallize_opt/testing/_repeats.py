"""Tests that a seed gives the same search again, in another process, and in a replay."""

# ruff: noqa: S101  (tests consist of asserts)

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import pytest

from crystallize_opt.errors import ReplayDiverged, SpaceExhausted
from crystallize_opt.testing._base import (
    FAILURES,
    ContractPart,
    Optimizer,
    ask_one,
    completed,
    must_raise,
    points_of,
    said_by,
    search,
    who,
)
from crystallize_opt.testing._other_process import run_in_another_process
from crystallize_opt.testing._spaces import LOSS, SQUARE, mixed_space
from crystallize_opt.testing._world import RandomStateKept, disturb_random_state
from crystallize_opt.trials.calls import Asked, Attached, Event, Told
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import Treatment


def nothing() -> None:
    """Do nothing: the default of `between`."""


_SAID: dict[tuple[type, int], list[list[tuple[str, str, str]]]] = {}


class Repeats(ContractPart):
    """The same seed and the same tells give the same asks."""

    def converse(self, seed: int | None = 0, between: Callable[[], None] = nothing) -> Optimizer:
        """Drive an optimizer with several pending trials, failures and an attached trial.

        Args:
            seed: The optimizer's seed.
            between: A function to call before each call of the optimizer.
        """
        between()
        optimizer = self.make_optimizer(mixed_space(self.capabilities), LOSS, seed=seed)
        pending = min(3, self.most_pending)
        for number in range(self.asks_per_test):
            between()
            try:
                ask_one(optimizer)
            except SpaceExhausted:
                break
            if number == self.asks_per_test // 2:
                between()
                point = optimizer.space.sample(7)
                optimizer.attach(completed(Treatment("attached", point)))
            while len(optimizer.pending) >= pending - number % pending:
                between()
                optimizer.tell(_outcome(optimizer.pending[-1], number))
        return optimizer

    def _said_with(self, seed: int) -> list[list[tuple[str, str, str]]]:
        """Return the suggestions of one search, with which several tests compare another one."""
        key = type(self), seed
        if key not in _SAID:
            _SAID[key] = said_by(self.converse(seed))
        return _SAID[key]

    @pytest.mark.parametrize("seed", [0, 1])
    def test_the_same_seed_suggests_the_same(self, seed: int) -> None:
        """The same seed and tells give the same asks; 0 is an ordinary seed."""
        optimizer = self.converse(seed)
        assert said_by(optimizer) == self._said_with(seed), (
            f"{who(optimizer)}: a second search with seed {seed} has other suggestions."
        )

    def test_another_seed_suggests_something_else(self) -> None:
        """Another seed gives other suggestions, unless the optimizer does not use seeds."""
        name = type(self).__name__
        same = self._said_with(0) == self._said_with(1)
        if self.uses_seed:
            assert not same, f"{name} makes the same suggestions with seeds 0 and 1."
        else:
            assert same, f"{name} uses its seed; remove `uses_seed = False`."

    def test_it_works_without_a_seed(self) -> None:
        """With seed=None, every search is different."""
        optimizer = self.converse(None)
        if self.uses_seed:
            assert said_by(optimizer) != said_by(self.converse(None)), (
                f"{who(optimizer)} makes the same suggestions in two searches without a seed."
            )

    def test_the_same_seed_suggests_the_same_in_another_process(self) -> None:
        """PYTHONHASHSEED and the number of threads do not change the suggestions."""
        there = run_in_another_process(type(self)).said
        assert self._said_with(0) == there, (
            f"{type(self).__name__}: the same search has other suggestions in another process."
        )

    def test_global_random_state_plays_no_part(self) -> None:
        """The global generators of `random`, numpy and torch do not change the suggestions."""
        seed = 0

        def between() -> None:
            nonlocal seed
            seed += 1
            disturb_random_state(seed)

        with RandomStateKept():
            optimizer = self.converse(between=between)
        assert said_by(optimizer) == self._said_with(0), (
            f"{who(optimizer)}: the global random state changes its suggestions."
        )

    def test_the_number_of_threads_plays_no_part(self) -> None:
        """The number of torch threads does not change the suggestions."""
        optimizer = self.converse()
        torch = sys.modules.get("torch")
        if torch is None:
            pytest.skip("does not load torch")
        threads = torch.get_num_threads()
        torch.set_num_threads(1 if threads > 1 else 2)
        try:
            other = self.converse()
        finally:
            torch.set_num_threads(threads)
        assert said_by(optimizer) == said_by(other), (
            f"{who(optimizer)}: the number of torch threads changes its suggestions."
        )

    # Events and replay -------------------------------------------------------------------------

    def test_events_and_observations_are_in_order(self) -> None:
        """Every ask, tell and attach is recorded, in the order of the calls."""
        optimizer = self.make_optimizer(SQUARE, LOSS)
        expected: list[tuple[type[Event], list[str]]] = []

        def happened(kind: type[Event], *treatments: Treatment) -> None:
            expected.append((kind, [treatment.name for treatment in treatments]))

        first = ask_one(optimizer)
        happened(Asked, first)
        second = ask_one(optimizer)
        happened(Asked, second)
        attached = Treatment("attached", {"x": 0.25, "y": 0.75})
        optimizer.attach(completed(attached))
        happened(Attached, attached)
        for treatment in (second, first):
            optimizer.tell(completed(treatment))
            happened(Told, treatment)
        happened(Asked, *optimizer.ask(min(2, self.most_pending)))
        assert [(type(e), _names(e)) for e in optimizer.events] == expected, (
            f"{who(optimizer)}: the events are {optimizer.events!r}."
        )
        observed = [observation.treatment.name for observation in optimizer.observations]
        assert observed == [attached.name, second.name, first.name], (
            f"{who(optimizer)}: the observations are in the order {observed}."
        )

    def test_a_replay_suggests_the_same(self) -> None:
        """A fresh optimizer that replays the events continues as the recorded optimizer does."""
        recorded = self.converse()
        replayed = self.make_optimizer(mixed_space(self.capabilities), LOSS)
        replayed.replay(recorded.events, recorded.versions)
        assert said_by(replayed) == said_by(recorded), (
            f"{who(recorded)}: the replayed events differ from the recorded events."
        )
        assert points_of(replayed.pending) == points_of(recorded.pending), (
            f"{who(recorded)}: different treatments are pending after the replay."
        )
        assert points_of([replayed.get_best_treatment()]) == points_of(
            [recorded.get_best_treatment()]
        ), f"{who(recorded)}: another treatment is the best after the replay."
        ahead = [points_of(search(each, 2)) for each in (recorded, replayed)]
        assert ahead[0] == ahead[1], f"{who(recorded)} continues differently after the replay."

    def test_batches_are_replayed(self) -> None:
        """`ask(n)` is replayed as one call."""
        recorded, replayed = (self.make_optimizer(SQUARE, LOSS) for _ in range(2))
        for _ in range(2):
            for treatment in recorded.ask(min(3, self.most_pending)):
                recorded.tell(completed(treatment))
        replayed.replay(recorded.events)
        assert said_by(replayed) == said_by(recorded), f"{who(recorded)}: a batch is not replayed."

    def test_a_replay_that_diverges_is_an_error(self) -> None:
        """A suggestion that differs from the recorded one raises an error that names the trial."""
        recorded = self.make_optimizer(SQUARE, LOSS)
        search(recorded, 3)
        events = recorded.events
        position = next(
            i for i, e in enumerate(events) if isinstance(e, Asked) and _names(e) == ["trial_2"]
        )
        other = Treatment("trial_2", {"x": 0.123456789, "y": 0.5})
        replayed = self.make_optimizer(SQUARE, LOSS)
        doctored = [*events[:position], Asked((other,)), *events[position + 1 :]]
        error = must_raise(
            ReplayDiverged,
            recorded,
            "replaying a suggestion that the optimizer does not make",
            lambda: replayed.replay(doctored),
        )
        assert "'trial_2'" in str(error), (
            f"{who(recorded)}: the error must name the trial, but says: {error}"
        )
        assert "0.123456789" in str(error), (
            f"{who(recorded)}: the error must show the values, but says: {error}"
        )


def _outcome(treatment: Treatment, number: int) -> Observation:
    if number % 5 == 2:
        return Observation(treatment, status=FAILURES[number % len(FAILURES)], error="boom")
    if number % 7 == 4:
        return Observation(treatment, {"loss": float("nan")})
    if number % 11 == 6:
        return dataclasses.replace(completed(treatment), status=Status.PRUNED)
    return completed(treatment)


def _names(event: Any) -> list[str]:
    if isinstance(event, Asked):
        return [treatment.name for treatment in event.treatments]
    return [event.observation.treatment.name]
