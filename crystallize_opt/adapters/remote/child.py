"""The other process: it builds one optimizer at a time, and calls it as the messages say."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from typing import Any, BinaryIO

from crystallize_opt.adapters.remote.wire import (
    imported,
    read_options,
    write_capabilities,
    write_error,
)
from crystallize_opt.errors import UsageError
from crystallize_opt.optimizers.replay import SavesState, repeat_ask
from crystallize_opt.optimizers.space_optimizer import SpaceOptimizer
from crystallize_opt.runtime.extras import PACKAGE
from crystallize_opt.storage.description import constraints_of, objectives_of, space_of
from crystallize_opt.storage.records import TrialFormat, read_observation
from crystallize_opt.trials.calls import Asked
from crystallize_opt.trials.treatment import RacedReplicate, Treatment
from crystallize_opt.workers.family import end_with_parent

_LOOK_SECONDS = 1.0
_LARGEST = 1_000_000
"""How many bytes of what libraries write to stderr are kept before it begins again."""


class Server:
    """One optimizer, called by messages. `handle` returns what the answer holds.

    The number of a treatment is its position among all that were asked for, here and there.
    """

    def __init__(self) -> None:
        self._optimizer: Any = None
        self._format = TrialFormat(None)
        self._asked: list[Treatment] = []
        self._raced: dict[str, int] = {}  # In a race: the first suggestion of each trial.
        self._attached: set[str] = set()
        self._path = list(sys.path)

    def handle(self, message: list[Any]) -> dict[str, Any]:
        """Do what a message says."""
        kind, *arguments = message
        found: dict[str, Any] = getattr(self, f"_{kind}")(*arguments) or {}
        return found

    def _build(self, given: Mapping[str, Any]) -> dict[str, Any]:
        self._drop()
        os.chdir(given["folder"])
        for name in os.environ.keys() - given["environment"].keys():
            del os.environ[name]
        os.environ.update(given["environment"])
        sys.path[:] = self._path if given["path"] is None else given["path"]
        if given["root"] is not None and given["root"] not in sys.path:
            sys.path.append(given["root"])
        logging.getLogger("crystallize_opt").setLevel(given["level"])
        space = space_of(given["space"])
        objectives = objectives_of(given)
        make = imported(given["make"])
        optimizer = make(
            space,
            objectives[0] if len(objectives) == 1 else list(objectives),
            constraints=constraints_of(given),
            seed=given["seed"],
            **read_options(given["options"]),
        )
        if not isinstance(optimizer, SpaceOptimizer):
            raise UsageError(f"{given['make']} makes {optimizer!r}, which is no SpaceOptimizer.")
        if optimizer.space != space or optimizer.seed != given["seed"] or optimizer.calls:
            raise UsageError(
                f"{given['make']} must pass on the space and the seed that it gets, and return a "
                "fresh optimizer."
            )
        self._optimizer, self._format = optimizer, TrialFormat(space)
        kind = type(optimizer)
        return {
            "class": [kind.__module__, kind.__qualname__],
            "capabilities": write_capabilities(optimizer.capabilities),
            "settings": optimizer.settings,
            "versions": {n: v for n, v in optimizer.versions.items() if n != PACKAGE},
            "libraries": list(optimizer.libraries),
            "saves_state": isinstance(optimizer, SavesState),
            **{name: getattr(optimizer, name) for name in ATTRIBUTES},
        }

    def _drop(self) -> None:
        """Forget the optimizer."""
        self._optimizer = None
        self._asked.clear()
        self._raced.clear()
        self._attached.clear()

    def _ask(self, n: int) -> dict[str, Any]:
        calls = self._optimizer.calls
        before = len(calls)
        answer: dict[str, Any] = {}
        try:
            self._optimizer.ask(n)
        except Exception as error:  # noqa: BLE001  (sent, with the suggestions before it)
            answer = _error(error)
        for event in calls[before:]:
            if isinstance(event, Asked):
                answer["asked"] = [self._named(each) for each in event.treatments]
                answer["wanted"] = event.wanted
        answer["enqueued"] = len(self._optimizer.ledger.enqueued)
        return answer

    def _named(self, treatment: Treatment) -> list[Any]:
        """Return a suggestion as plain data: the point and, in a race, which replicate it is."""
        number = len(self._asked)
        self._asked.append(treatment)
        params = self._format.write_params(treatment.params)
        if not isinstance(treatment, RacedReplicate):
            return [params]
        trial = treatment.condition
        of = self._raced.get(trial, trial if trial in self._attached else None)
        self._raced.setdefault(trial, number)
        return [params, treatment.replicate, of]

    def _repeat(self, points: list[dict[str, Any]]) -> None:
        treatments = tuple(self._treatment("", point) for point in points)
        self._asked += repeat_ask(self._optimizer, Asked(treatments))

    def _enqueue(self, points: list[tuple[dict[str, Any], list[str]]]) -> None:
        space = self._optimizer.space
        for written, names in points:
            # A part of a point: a constant is there only if it was given.
            known = self._format.read_treatment({"name": "", "params": written}).params
            self._optimizer.enqueue(
                {name: known[name] if name in known else space[name].value for name in names}
            )

    def _tell(self, number: int, data: Mapping[str, Any]) -> None:
        self._optimizer.tell(read_observation(data, self._asked[number]))

    def _attach(self, name: str, params: dict[str, Any], data: Mapping[str, Any]) -> None:
        treatment = self._treatment(name, params)
        self._attached.add(name)
        self._optimizer.attach(read_observation(data, treatment))

    def _baseline(self, data: Mapping[str, Any], params: dict[str, Any] | None) -> None:
        point = {} if params is None else self._treatment("", params).params
        observation = read_observation(data, Treatment(data["name"], point))
        self._optimizer.set_baseline(observation)

    def _report(self, number: int, step: int, value: Any) -> dict[str, Any]:
        prune = self._optimizer.report(self._asked[number], step, float(value))
        return {"prune": prune}

    def _replicate(self, number: int, index: int, value: Any) -> dict[str, Any]:
        metrics = {self._optimizer.objectives[0].metric: float(value)}
        prune = self._optimizer.report_replicate(self._asked[number], index, metrics)
        return {"prune": prune}

    def _seed(self, seed: int) -> None:
        self._optimizer.adopt_seed(seed)

    def _save(self) -> dict[str, Any]:
        return {"state": self._optimizer.saved_state()}

    def _restore(self, state: str) -> None:
        self._optimizer.restore_state(state)

    def _race(self, replicates: int) -> None:
        self._optimizer.race_up_to(replicates)

    def _racing(self) -> dict[str, Any]:
        names = self._optimizer.racing()
        observations = self._optimizer.ledger.observations
        return {
            "trials": None
            if names is None
            else [n for n, each in enumerate(observations) if each.treatment.name in names]
        }

    def _recommend(self) -> dict[str, Any]:
        best = self._optimizer._recommend()  # noqa: SLF001  (the hook of the same contract)
        observations = self._optimizer.ledger.observations
        names = [each.treatment.name for each in observations]
        return {"trial": None if best is None else names.index(best.name)}

    def _treatment(self, name: str, params: dict[str, Any]) -> Treatment:
        return self._format.read_treatment({"name": name, "params": params})


ATTRIBUTES = (
    "asks_in_a_row",
    "duplicates",
    "pairs_replicates",
    "races",
)
"""The attributes that this process and the other one share, beside the capabilities."""


def _error(error: BaseException) -> dict[str, Any]:
    return {"error": write_error(error, traceback.format_exc())}


class _Kept(logging.Handler):
    """Keeps the log records of a call, for the loggers of the other process."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[list[Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.records.append([record.name, record.levelno, record.getMessage()])
        except Exception:  # noqa: BLE001  (as every handler: logging must not fail a call)
            self.handleError(record)


def main(parent: int) -> None:
    """Answer messages until there are no more: the main function of the other process."""
    messages, answers = _claim_pipes()
    _end_with(parent)
    kept = _Kept()
    logging.getLogger().addHandler(kept)
    server = Server()
    for line in messages:
        message = json.loads(line)
        try:
            answer = server.handle(message)
        except Exception as error:  # noqa: BLE001  (sent to the other process, which raises it)
            answer = _error(error)
        if message[0] == "drop":
            continue
        if kept.records:
            answer["log"], kept.records = kept.records, []
        try:
            answers.write(json.dumps(answer).encode() + b"\n")
            answers.flush()
        except BrokenPipeError:  # Nobody waits for the answer any more.
            return
        _limit_stderr()


def _claim_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Return the two pipes, which libraries cannot reach: what they print goes to stderr."""
    messages, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return messages, answers


def _end_with(parent: int) -> None:
    """End this process when its parent ends."""
    if sys.platform == "linux":
        end_with_parent()
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # It ended before.
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os._exit(1)


def _limit_stderr() -> None:
    sys.stdout.flush()
    if os.fstat(2).st_size > _LARGEST:
        os.ftruncate(2, 0)
        os.lseek(2, 0, os.SEEK_SET)
