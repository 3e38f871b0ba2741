"""The base of all parts of the contract: the factory, the class attributes, and helpers."""

# ruff: noqa: S101  (tests consist of asserts)

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import pytest

from crystallize_opt.errors import CrystallizeOptError, SpaceExhausted
from crystallize_opt.optimizers.capabilities import Capabilities
from crystallize_opt.optimizers.space_optimizer import SpaceOptimizer
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.testing._spaces import LOSS, SQUARE, any_loss
from crystallize_opt.trials.calls import Asked
from crystallize_opt.trials.objective import Constraint, Objective
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import Treatment

Optimizer = SpaceOptimizer[Any]

FAILURES = tuple(s for s in Status if s not in (Status.COMPLETED, Status.PRUNED))
"""Every status of a trial that has no value."""


class ContractPart(ABC):
    """The base of the parts of `OptimizerContract`, which documents the attributes."""

    known_gaps: ClassVar[Mapping[str, str]] = {}
    asks_per_test: ClassVar[int] = 16
    most_pending: ClassVar[int] = 16
    warm_asks: ClassVar[int] = 20
    uses_seed: ClassVar[bool] = True
    trap_trials: ClassVar[int] = 60
    trap_seeds: ClassVar[Sequence[int]] = (0, 1, 2)
    trap_share: ClassVar[float] = 0.5

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name in cls.known_gaps:
            if not hasattr(cls, name.partition("[")[0]):
                raise TypeError(f"{cls.__name__}.known_gaps names {name!r}, which is not a test.")

    @abstractmethod
    def make_optimizer(
        self,
        space: SearchSpace | Mapping[str, Any],
        objective: Objective | Sequence[Objective],
        *,
        constraints: Iterable[Constraint] = (),
        seed: int | None = 0,
    ) -> Optimizer:
        """Build a fresh optimizer with exactly these arguments."""

    def count_running(self, optimizer: Optimizer) -> int:
        """Return how many trials are running according to the backend.

        Override this method if the backend counts its running trials. The tests then check that
        no trial is left running.
        """
        return len(optimizer.pending)

    def knowledge_of(self, optimizer: Optimizer) -> Any:
        """Return what the backend knows of each trial, in order, without names and times.

        Override this method if the backend keeps its trials where they can be read: states, values
        and points. The tests then check that an attached trial becomes what a told one does.
        """
        return None

    @pytest.fixture(autouse=True)
    def _mark_known_gap(self, request: pytest.FixtureRequest) -> None:
        for name in (request.node.name, request.node.originalname):
            if reason := self.known_gaps.get(name):
                request.applymarker(pytest.mark.xfail(reason=reason, strict=True))

    # Helpers -----------------------------------------------------------------------------------

    @cached_property
    def capabilities(self) -> Capabilities:
        """The optimizer's capabilities over an ordinary space."""
        return self.make_optimizer(SQUARE, LOSS).capabilities

    def takes(self, space: Mapping[str, Any]) -> bool:
        """Whether the optimizer accepts every kind of parameter in a space."""
        kinds = self.capabilities.parameters
        return all(isinstance(each, kinds) for each in SearchSpace(space).values())

    def must_refuse(
        self,
        error: type[CrystallizeOptError],
        named: str,
        space: SearchSpace | Mapping[str, Any],
        objective: Objective | Sequence[Objective] = LOSS,
    ) -> None:
        """Check that an optimizer cannot be built, and that the error names the cause."""
        try:
            optimizer = self.make_optimizer(space, objective)
        except error as raised:
            message = str(raised)
        else:
            pytest.fail(
                f"{who(optimizer)} does not declare {named!r} in its capabilities, so building it "
                f"must raise {error.__name__}."
            )
        assert named in message, (
            f"{type(self).__name__}: the error must name {named!r}, but says: {message}"
        )


def who(optimizer: object) -> str:
    """Return the name of an optimizer for messages."""
    return type(optimizer).__name__


def must_raise(
    error: type[BaseException], optimizer: Optimizer, what: str, call: Callable[[], object]
) -> BaseException:
    """Check that a call raises, and return the error.

    Args:
        error: The error that the call must raise.
        optimizer: The optimizer, for the message.
        what: A description of the call for the message, such as "telling a treatment twice".
        call: The call.
    """
    try:
        call()
    except error as raised:
        return raised
    except Exception as raised:
        raise AssertionError(
            f"{who(optimizer)}: {what} must raise {error.__name__}, not {raised!r}."
        ) from raised
    raise AssertionError(f"{who(optimizer)}: {what} must raise {error.__name__}.")


def must_agree_on_what_runs(contract: ContractPart, optimizer: Optimizer) -> None:
    """Check that the backend counts as many running trials as there are pending treatments."""
    running = contract.count_running(optimizer)
    assert running == len(optimizer.pending), (
        f"{who(optimizer)}: {running} trials are running in the backend, but "
        f"{len(optimizer.pending)} treatments are pending."
    )


def state_of(optimizer: Optimizer) -> tuple[Any, ...]:
    """Return the visible state of an optimizer."""
    return (
        points_of(optimizer.pending),
        [(o.treatment.name, exactly(o.treatment.params)) for o in optimizer.observations],
        len(optimizer.events),
    )


def completed(treatment: Treatment, loss: float | None = None) -> Observation:
    """Return the observation of a completed trial."""
    value = any_loss(treatment.params) if loss is None else loss
    return Observation(treatment, {"loss": value})


def ask_one(optimizer: Optimizer) -> Treatment:
    """Ask for one treatment."""
    asked = optimizer.ask()
    assert isinstance(asked, list), f"{who(optimizer)}: ask() must return a list, not {asked!r}."
    assert len(asked) == 1, f"{who(optimizer)}: ask() must return one treatment, not {asked!r}."
    return asked[0]


def must_be_in_space(optimizer: Optimizer, treatment: Treatment) -> None:
    """Check that a treatment has the active parameters, with plain values in their ranges."""
    params = dict(treatment.params)
    try:
        point = optimizer.space.validate(params)
    except CrystallizeOptError as error:
        raise AssertionError(
            f"{who(optimizer)} suggests {params!r}, which is not a point of its space: {error}"
        ) from error
    for name, value in point.items():
        given = params[name]
        assert type(given) is type(value), (
            f"{who(optimizer)} suggests {given!r} of {type(given)} for {name!r}; it must be plain "
            f"Python or the user's object, here of {type(value)}."
        )
        if type(value) not in (float, int, str):
            assert given is value, (
                f"{who(optimizer)} suggests a copy of the user's object {given!r} for {name!r}, "
                "instead of the object."
            )


def exactly(params: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return the names, types and values of a point, to compare it bit for bit across processes."""
    return [(name, type(value).__name__, repr(value)) for name, value in params.items()]


def search(
    optimizer: Optimizer,
    trials: int,
    outcome: Callable[[Treatment], Observation] = completed,
) -> list[Treatment]:
    """Ask and tell one trial at a time, until the number is reached or the space is exhausted."""
    treatments = []
    for _ in range(trials):
        try:
            treatment = ask_one(optimizer)
        except SpaceExhausted:
            break
        treatments.append(treatment)
        optimizer.tell(outcome(treatment))
    return treatments


def points_of(treatments: Iterable[Treatment]) -> list[list[tuple[str, str, str]]]:
    """Return the points of treatments in a form that can be compared."""
    return [exactly(treatment.params) for treatment in treatments]


def said_by(optimizer: Optimizer) -> list[list[tuple[str, str, str]]]:
    """Return every point that the optimizer suggested, in order."""
    return [
        exactly(treatment.params)
        for event in optimizer.events
        if isinstance(event, Asked)
        for treatment in event.treatments
    ]
