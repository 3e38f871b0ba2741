"""Tests that an optimizer has no side effects: on global state, arguments, files or output."""

# ruff: noqa: S101  (tests consist of asserts)

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytest

from crystallize_opt.errors import CrystallizeOptError
from crystallize_opt.space.choices import Categorical
from crystallize_opt.space.numbers import Float
from crystallize_opt.space.parameter import same_value
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.testing._base import ContractPart, Optimizer, completed, search, who
from crystallize_opt.testing._other_process import run_in_another_process
from crystallize_opt.testing._spaces import LOSS, SQUARE, any_loss, mixed_space
from crystallize_opt.testing._world import changed, world
from crystallize_opt.trials.objective import Constraint
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import Treatment


class SideEffects(ContractPart):
    """An optimizer does not change global state or the caller's arguments."""

    def test_global_state_stays_as_it_was(self, capfd: pytest.CaptureFixture[str]) -> None:
        """No call prints, or changes random state, warnings, logging, environment or directory."""
        # Run once without checks, because imports have effects, which the next test covers.
        self._go_through_all_operations(lambda *_: nullcontext(), asks=2)
        capfd.readouterr()
        optimizer = self._go_through_all_operations(
            must_leave_the_world_alone, asks=self.asks_per_test
        )
        out, err = capfd.readouterr()
        assert out == err == "", f"{who(optimizer)} prints {out + err!r}."

    def test_a_fresh_process_stays_as_it_was(self) -> None:
        """In a fresh process, imports and calls change no global state and leave no file."""
        elsewhere = run_in_another_process(type(self))
        name = type(self).__name__
        assert elsewhere.changed == [], f"{name} changes {elsewhere.changed}."
        assert elsewhere.printed == "", f"{name} prints {elsewhere.printed!r}."
        assert elsewhere.files == [], f"{name} leaves the files {elsewhere.files}."

    def test_arguments_stay_as_they_were(self) -> None:
        """No argument of the caller is changed."""
        choices: list[Any] = [[3], {"k": 1}, (1, 2), "a"]
        takes_choices = self.takes({"choice": Categorical(choices)})
        space: dict[str, Any] = {"x": (0.0, 1.0), "y": Float(0.0, 1.0, default=0.5)}
        if takes_choices:
            space["choice"] = choices
        objectives = [LOSS]
        constraints = [Constraint("latency", "<=", 10.0)]
        attached = {"x": 0.25, "y": 0.75, **({"choice": [3]} if takes_choices else {})}
        metrics: dict[str, float] = {"loss": 1.0, "latency": 5.0, "other": 2.0}
        sem: dict[str, float | None] = {"loss": 0.5, "latency": 0.25}
        observations = [Observation(Treatment("attached", attached), metrics, sem=sem)]
        given = (space, objectives, constraints, attached, metrics, sem, choices)
        before, company = copy.deepcopy(given), list(observations)

        optimizer = self.make_optimizer(space, objectives, constraints=constraints)
        optimizer.attach(observations)
        told = list(observations)
        for status in (Status.COMPLETED, Status.FAILED, Status.COMPLETED):
            (treatment,) = optimizer.ask()
            told.append(Observation(treatment, metrics, status, sem=sem))
            optimizer.tell(told[-1])
        optimizer.ask()
        optimizer.tell(metrics)
        search(optimizer, 3, lambda treatment: Observation(treatment, metrics, sem=sem))
        optimizer.get_best_treatment()
        optimizer.pareto_front()
        events = optimizer.events
        recorded = list(events)
        replayed = self.make_optimizer(space, objectives, constraints=constraints)
        replayed.replay(events)

        for old, new in zip(before, given, strict=True):
            assert same_value(old, new), f"{who(optimizer)} has changed {old!r} to {new!r}."
        for observation in told:
            assert (observation.metrics, observation.sem) == (metrics, sem), (
                f"{who(optimizer)} has changed an observation that it was told: {observation!r}."
            )
        assert observations == company, f"{who(optimizer)} has changed the list of observations."
        assert events == recorded, f"{who(optimizer)} has changed the list of events."

    def test_a_search_space_stays_as_it_was(self) -> None:
        """Several optimizers can share one `SearchSpace`."""
        space = mixed_space(self.capabilities)
        before = _described(space)
        optimizer = self.make_optimizer(space, LOSS)
        search(optimizer, min(4, self.asks_per_test))
        assert _described(space) == before, f"{who(optimizer)} has changed its space."
        first, second = (self.make_optimizer(space, LOSS) for _ in range(2))
        asked = [
            [dict(optimizer.ask()[0].params) for optimizer in (first, second)] for _ in range(2)
        ]
        assert all(same_value(*pair) for pair in asked), (
            f"{who(optimizer)}: two optimizers that share a space affect each other."
        )

    def test_lists_are_the_callers_own(self) -> None:
        """The caller may change the lists that `pending`, `observations` and `events` return."""
        optimizer = self.make_optimizer(SQUARE, LOSS)
        search(optimizer, 2)
        optimizer.ask()
        for name in ("pending", "observations", "events"):
            before = list(getattr(optimizer, name))
            getattr(optimizer, name).clear()
            assert getattr(optimizer, name) == before, (
                f"{who(optimizer)}: changing the list from .{name} changes the optimizer."
            )

    def _go_through_all_operations(
        self, watched: Callable[[object, str], AbstractContextManager[None]], *, asks: int
    ) -> Optimizer:
        space = mixed_space(self.capabilities)
        name = type(self).__name__
        with watched(name, "building it"):
            optimizer = self.make_optimizer(space, LOSS)
        for number in range(asks):
            with watched(optimizer, "ask"):
                (treatment,) = optimizer.ask()
            with watched(optimizer, "report"):
                optimizer.report(treatment, 0, {"loss": 1.0})
            status = list(Status)[number // 2 % len(Status)] if number % 2 else Status.COMPLETED
            loss = {"loss": any_loss(treatment.params)}
            with watched(optimizer, f"tell {status.value}"):
                optimizer.tell(Observation(treatment, loss, status, error="boom"))
        with watched(optimizer, "ask for a batch"):
            treatments = optimizer.ask(min(3, self.most_pending))
        with watched(optimizer, "tell a plain mapping"):
            for treatment in treatments[1:]:
                optimizer.tell(completed(treatment))
            optimizer.tell({"loss": 0.5})
        with watched(optimizer, "attach"):
            optimizer.attach(completed(Treatment("attached", space.sample(3))))
        with watched(optimizer, "tell twice"), pytest.raises(CrystallizeOptError):
            optimizer.tell(completed(treatments[0]))
        with watched(optimizer, "get_best_treatment, pareto_front, versions"):
            optimizer.get_best_treatment()
            optimizer.pareto_front()
            _ = optimizer.versions
        with watched(name, "replay"):
            self.make_optimizer(space, LOSS).replay(optimizer.events)
        with watched(name, "a refused space"), pytest.raises(CrystallizeOptError):
            self.make_optimizer({"x": (1.0, 0.0)}, LOSS)
        return optimizer


@contextmanager
def must_leave_the_world_alone(optimizer: object, operation: str) -> Iterator[None]:
    """Check that an operation changes no global state."""
    before = world()
    yield
    name = optimizer if isinstance(optimizer, str) else who(optimizer)
    different = changed(before, world())
    assert different == [], f"{name}: {operation} changes {', '.join(different)}."


def _described(space: SearchSpace) -> tuple[Any, ...]:
    return repr(space), [(name, id(parameter)) for name, parameter in space.items()]
