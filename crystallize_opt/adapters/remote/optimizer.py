"""An optimizer that runs in another process, of this Python or another one.

The other process has the whole optimizer: it is asked, told, and so on as it would be here, so its
suggestions are bit for bit those that it would make here. This process has the record: names,
pending trials, observations, the best trial. The record suffices to bring a new process to the same
state, if one dies or does not answer.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

from crystallize_opt.adapters.remote.child import ATTRIBUTES
from crystallize_opt.adapters.remote.process import interpreter
from crystallize_opt.adapters.remote.running import Running
from crystallize_opt.adapters.remote.wire import (
    portable,
    read_capabilities,
    reference,
    root_of,
    sent,
    write_options,
)
from crystallize_opt.errors import ReplayDiverged, UsageError
from crystallize_opt.optimizers.capabilities import Capabilities
from crystallize_opt.optimizers.replay import with_state
from crystallize_opt.optimizers.space_optimizer import SpaceOptimizer
from crystallize_opt.optimizers.unique import Backend, KnownInARow, Proposals
from crystallize_opt.pipeline.context import logger
from crystallize_opt.runtime.extras import versions_of
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.storage.description import describe_goals
from crystallize_opt.storage.records import TrialFormat
from crystallize_opt.trials.calls import (
    Asked,
    Attached,
    BaselineSet,
    Enqueued,
    Event,
    ReportedPoint,
    SavedState,
    Told,
)
from crystallize_opt.trials.objective import Constraint, Objective
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.treatment import Treatment
from crystallize_opt.trials.values import as_number

_ATTACHED = -1
"""The handle of an attached trial, which has no number."""


class RemoteOptimizer(SpaceOptimizer[int]):
    """Runs an optimizer in a process of its own, of this Python or another one.

    Args:
        optimizer: The class of the optimizer; or a function of a module that takes the space, the
            objective, `constraints=`, `seed=` and the options, and returns the optimizer. If it
            cannot be imported here, its place as a text: `"my_module:MyOptimizer"`.
        space: A `SearchSpace`, or the mapping that builds one. Choices may be any objects: they
            stay in this process.
        objective: One objective, or several.
        constraints: Outcome constraints.
        seed: The seed of the optimizer; None to draw one.
        python: The interpreter, or the folder of its virtual environment; None for this Python.
            This package need not be installed there: the process uses this copy.
        timeout: After so many seconds without an answer, the process is killed, started again, and
            brought to the same state; the second time, `RemoteError` is raised. None: no limit.
        **options: The other arguments of the class or function: plain data, classes and functions.

    Attributes:
        pid: The number of the process.

    Raises:
        UsageError: There is no such interpreter, or an option cannot be sent.
        RemoteError: The process cannot be started, or its library raised an error of its own.

    Example:
        >>> from crystallize_opt.adapters import RandomOptimizer
        >>> loss = Objective("loss", "minimize")
        >>> optimizer = RemoteOptimizer(RandomOptimizer, {"x": (0.0, 1.0)}, loss, seed=0)
        >>> (treatment,) = optimizer.ask()
        >>> optimizer.tell({"loss": treatment.params["x"] ** 2})
        >>> here = RandomOptimizer({"x": (0.0, 1.0)}, loss, seed=0)
        >>> here.ask()[0].params == treatment.params
        True
    """

    capabilities = Capabilities(fidelity=True)  # Those of the class that it runs are its own.
    can_be_copied = False
    may_use_global_random_state = False

    def __init__(
        self,
        optimizer: type[SpaceOptimizer[Any]] | Callable[..., SpaceOptimizer[Any]] | str,
        space: SearchSpace | Mapping[str, Any],
        objective: Objective | Sequence[Objective],
        *,
        constraints: Iterable[Constraint] = (),
        seed: int | None = None,
        python: str | os.PathLike[str] | None = None,
        timeout: float | None = 600.0,
        **options: Any,
    ) -> None:
        super().__init__(space, objective, constraints=constraints, seed=seed)
        if timeout is not None and ((as_number(timeout) or 0) <= 0 or isinstance(timeout, bool)):
            raise UsageError(f"timeout= is a number of seconds, more than 0, not {timeout!r}.")
        found = interpreter(python)
        if found is None:
            raise UsageError(
                f"There is no interpreter {python!r}. Give the path of one, or the folder of a "
                "virtual environment. `python -m crystallize_opt.adapters install neps --into "
                "neps-env` makes such a folder."
            )
        make = reference(optimizer)
        self._format = TrialFormat(self.space)
        given = {
            "make": make,
            "path": list(sys.path) if python is None else None,
            "root": root_of(make),
            "folder": str(os.path.abspath(os.curdir)),  # noqa: PTH100  (not resolved)
            **describe_goals(portable(self.space), self.criterion),
            "options": write_options(options),
            "seed": self.seed,
            "level": logger.getEffectiveLevel(),
        }
        self._asked = 0
        self._raced_trials: dict[int, str] = {}  # In a race: of which trial a suggestion is.
        self._asks = 0
        self._saved: SavedState | None = None
        self._raced: int | None = None
        self._proposals = _Elsewhere()
        self._running = Running(found, given, timeout)
        about = self._running.start()
        self.capabilities = read_capabilities(about["capabilities"])
        self.settings = about["settings"]
        self.libraries = tuple(about["libraries"])
        self._versions = about["versions"]
        self._saves_state = about["saves_state"]
        for name in ATTRIBUTES:
            setattr(self, name, about[name])
        module, name = about["class"]
        self._stands_for = type(name, (), {"__module__": module, "__qualname__": name})

    @property
    def stands_for(self) -> type:
        """The class of the optimizer in the other process, by its name."""
        return self._stands_for

    @property
    def timeout(self) -> float | None:
        """The seconds after which a process that does not answer is started again."""
        return self._running.timeout

    @property
    def pid(self) -> int:
        """The number of the process in which the optimizer runs."""
        return self._running.pid(self._repeated)

    @property
    def versions(self) -> dict[str, str]:
        """The versions of the other process' Python and libraries, and of this package."""
        return {**versions_of(()), **self._versions}

    # The messages ------------------------------------------------------------------------------

    def _call(self, *message: Any, is_recorded: bool = False) -> dict[str, Any]:
        return self._running.call(message, self._repeated, is_recorded=is_recorded)

    def _repeated(self) -> Iterator[tuple[list[Any], Callable[[Mapping[str, Any]], None] | None]]:
        """Yield the messages that bring a new process to the state of the record.

        Raises:
            ReplayDiverged: In the check of an answer: it is another suggestion.
        """
        if self._raced is not None:
            yield ["race", self._raced], None
        asked = (each for event in self.calls if isinstance(event, Asked) for each in event[0])
        numbers = {treatment.name: number for number, treatment in enumerate(asked)}
        for event, is_known in with_state(self.calls, self._saved):
            if isinstance(event, SavedState):
                yield ["restore", event.data], None
            elif isinstance(event, ReportedPoint) and (
                event.metric is not None or not self.capabilities.pruning
            ):
                continue  # The optimizer did not hear of this point.
            elif not isinstance(event, Asked):
                yield self._message(event, numbers), None
            elif is_known:
                yield ["repeat", [self._written(each.params) for each in event.treatments]], None
            else:
                yield self._message(event, numbers), partial(self._compare, event)

    def _compare(self, event: Asked, answer: Mapping[str, Any]) -> None:
        recorded = [self._written(each.params) for each in event.treatments]
        now = [each[0] for each in answer.get("asked", ())]
        for position, treatment in enumerate(event.treatments):
            if position >= len(now) or now[position] != recorded[position]:
                raise ReplayDiverged(
                    f"{self._running.who} had to be started again, and diverges at "
                    f"{treatment.name!r}: recorded {recorded!r}, now {now!r} (choices as indices)."
                )

    def _message(
        self, event: Event, numbers: Mapping[str, int] = MappingProxyType({})
    ) -> list[Any]:
        """Return the message that makes, or repeats, a call.

        Args:
            event: The call.
            numbers: The numbers of the treatments, by name.
        """
        if isinstance(event, Asked):
            return ["ask", event.wanted or len(event.treatments)]
        if isinstance(event, Enqueued):
            return self._enqueued([event.params])
        if isinstance(event, Told):
            observation = event.observation
            number = numbers[observation.treatment.name]
            return ["tell", number, self._sent(observation)]
        if isinstance(event, Attached):
            treatment = event.observation.treatment
            written = self._written(treatment.params)
            return ["attach", treatment.name, written, self._sent(event.observation)]
        if isinstance(event, BaselineSet):
            point = None if event.point is None else self._written(event.point)
            return ["baseline", self._sent(event.observation), point]
        number = numbers[event.name]
        if isinstance(event, ReportedPoint):
            return ["report", number, event.step, event.value]
        value = event.metrics.get(self.objectives[0].metric)
        return ["replicate", number, event.replicate, value]

    def _enqueued(self, points: Iterable[Mapping[str, Any]]) -> list[Any]:
        return ["enqueue", [[self._written(params), list(params)] for params in points]]

    def _written(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return self._format.write_params(params)

    def _sent(self, observation: Observation) -> dict[str, Any]:
        return sent(observation, self.required_metrics, curves=self.capabilities.pruning)

    # The optimizer -----------------------------------------------------------------------------

    def _fill(self, treatments: list[Treatment], n: int) -> int | None:
        answer = self._call("ask", n)
        asked = answer.get("asked", ())
        self._asks += bool(asked)
        treatments += [self._named(*each) for each in asked]
        while len(self.ledger.enqueued) > answer["enqueued"]:
            self.ledger.enqueued.popleft()
        if "error" in answer:
            raise self._running.error(answer)
        wanted: int | None = answer.get("wanted")
        return wanted

    def _named(
        self, written: dict[str, Any], replicate: int | None = None, of: int | str | None = None
    ) -> Treatment:
        """Name a suggestion; in a race, the numbered replicate of a trial."""
        params = self._format.read_treatment({"name": "", "params": written}).params
        number = self._asked
        if replicate is None:
            treatment: Treatment = self.ledger.add(params, number)
        else:
            if isinstance(of, int):  # The trial of an earlier suggestion.
                of = self._raced_trials[of]
            treatment = self.ledger.add_replicate(params, number, replicate, of)
            self._raced_trials[number] = treatment.condition
        self._asked += 1
        return treatment

    def _accept(self, points: Sequence[Mapping[str, Any]]) -> list[int]:
        self._call("repeat", [self._written(params) for params in points])
        self._asks += 1
        first = self._asked
        self._asked += len(points)
        return list(range(first, self._asked))

    def enqueue(self, *points: Mapping[str, Any]) -> None:
        before = len(self.calls)
        super().enqueue(*points)
        added = [each.params for each in self.calls[before:] if isinstance(each, Enqueued)]
        self._call(*self._enqueued(added), is_recorded=True)

    def _teach(self, handle: int, observation: Observation) -> None:
        self.ledger.forget_heard(observation)
        if handle == _ATTACHED:
            self._call(*self._message(Attached(observation)))
        else:
            self._call("tell", handle, self._sent(observation))

    def _learn_baseline(self, observation: Observation, point: Mapping[str, Any] | None) -> None:
        self._call(*self._message(BaselineSet(observation, point)))

    def _report(self, handle: int, step: int, value: float) -> bool:
        return bool(self._call("report", handle, step, value)["prune"])

    def _report_replicate(
        self, treatment: Treatment, handle: int, replicate: int, metrics: Mapping[str, float]
    ) -> bool:
        value = metrics.get(self.objectives[0].metric, math.nan)
        prune = bool(self._call("replicate", handle, replicate, value)["prune"])
        heard = self.ledger.heard(treatment)
        heard.replicate(replicate, value, lambda *_: prune, paired=self.pairs_replicates)
        return prune

    def _reseed(self) -> None:
        self._running.adopt_seed(self.seed)
        self._call("seed", self.seed)

    def saved_state(self) -> str | None:
        """Return the state of the optimizer, if it is one that saves its state."""
        state = self._call("save")["state"] if self._saves_state else None
        self._saved = None if state is None else SavedState(self._asks, state)
        return state

    def restore_state(self, state: str) -> None:
        """Restore a state that `saved_state` returned."""
        self._call("restore", state)
        self._saved = SavedState(self._asks, state)

    def race_up_to(self, replicates: int) -> None:
        self._call("race", replicates)
        self._raced = replicates

    def racing(self) -> Collection[str] | None:
        trials = self._call("racing")["trials"]
        names = [each.treatment.name for each in self.ledger.observations]
        return None if trials is None else [names[number] for number in trials]

    def _recommend(self) -> Treatment | None:
        trial = self._call("recommend")["trial"]
        return None if trial is None else self.ledger.observations[trial].treatment

    def _suggest(self) -> tuple[int, dict[str, Any]] | None:
        raise NotImplementedError  # `_fill` asks the other process.

    def _insert(self, params: Mapping[str, Any]) -> int:
        """Return the handle of an attached trial."""
        return _ATTACHED

    def _learn(self, handle: int, observation: Observation) -> None:
        """`_teach` tells the other process."""


class _Elsewhere(Proposals):
    """Takes the place of `Proposals`, which the other process has."""

    def __init__(self) -> None:
        self.known = KnownInARow()
        self.repeats = "allowed"

    def add(self, params: Mapping[str, Any]) -> None:
        """The other process counts the points."""

    def insert(self, backend: Backend, params: Mapping[str, Any]) -> Any:
        return _ATTACHED

    def encoded(self, params: Mapping[str, Any]) -> Mapping[str, Any]:
        return params

    def reopen(self, backend: Backend, handle: Any, params: Mapping[str, Any]) -> Any:
        return handle
