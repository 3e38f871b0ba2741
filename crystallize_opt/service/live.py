"""An experiment that is being worked on: its optimizer, in a thread of its own.

The store is the truth about what clients sent: a request is answered when its records are on disk.
The thread brings the optimizer, whose run is a journal in the same file, up to the records: it
tells each observation, and asks for suggestions. If the process dies in between, the next one
compares the two when it opens the experiment (`ServedRun.settle`), and goes on from there. So no
request waits for the optimizer but those that ask for a suggestion.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from crystallize_opt.errors import (
    CrystallizeOptError,
    InvalidParametersError,
    ReplayDiverged,
    RunChanged,
    SpaceExhausted,
    StorageError,
)
from crystallize_opt.pipeline.context import logger
from crystallize_opt.search.ahead import Ahead
from crystallize_opt.service.definition import ttl_of
from crystallize_opt.service.processors import share_one, use_all
from crystallize_opt.service.refusal import Refusal, bad
from crystallize_opt.service.served_run import ServedRun
from crystallize_opt.service.store import CLOSED, Record, Store
from crystallize_opt.trials.treatment import Treatment

_QUIET = 0.3  # Seconds without an edit, after which an edited experiment's run begins anew.


class Settings(NamedTuple):
    """What the service decides for all experiments.

    Attributes:
        optimizer: The name of the optimizer, unless an experiment names another one.
        ttl: After so many seconds, an open suggestion expires, unless an experiment's metadata say
            otherwise; None: never.
        ask_ahead: Whether to make suggestions while clients evaluate, where several do.
    """

    optimizer: str = "OptunaOptimizer"
    ttl: float | None = 86400.0
    ask_ahead: bool = True


@dataclass(frozen=True)
class _Clients:
    """What `Ahead` asks of workers: how many evaluate at once."""

    count: int


class _Waiting(NamedTuple):
    """A request that waits for a suggestion."""

    answer: Future[Record]
    data: Mapping[str, Any]
    then: Callable[[Record], Record] | None


class Live:
    """One experiment with its optimizer. Any thread may call the methods.

    Args:
        store: The records.
        number: The number of the experiment.
        settings: What the service decides for all experiments.
    """

    def __init__(self, store: Store, number: int, settings: Settings) -> None:
        self.number = number
        self._store, self._settings = store, settings
        self._wake = threading.Condition()
        # In the order in which they came: requests for a suggestion, and what the optimizer has yet
        # to hear, which is observations and suggestions that were deleted. So a suggestion takes
        # into account what was there before it was asked for, and waits for nothing else.
        self._to_do: deque[_Waiting | Callable[[], None]] = deque()
        self._has_changed = self._is_closing = self._is_busy = False
        self._is_settled = True
        self._was_opened = False
        self._thread: threading.Thread | None = None
        self._run: ServedRun | None = None
        self._pool: deque[Treatment] = deque()  # Asked for ahead, and not handed out.
        self._ahead: Ahead | None = None
        self._ttl = settings.ttl
        self._is_exhausted = False

    # Called by requests ---------------------------------------------------------------------------

    def suggest(
        self, data: Mapping[str, Any], then: Callable[[Record], Record] | None = None
    ) -> Future[Record]:
        """Ask for a suggestion.

        Args:
            data: What the suggestion's record has besides: metadata; or assignments that the client
                chose itself.
            then: Called with the suggestion's record within `store.writing`. Its result takes the
                place of that record.

        Returns:
            The record of the suggestion, when there is one; or a `Refusal`.
        """
        answer: Future[Record] = Future()
        self._add(_Waiting(answer, data, then))
        return answer

    def observed(self, number: int) -> None:
        """Take a new observation into account, whose record is on disk."""
        self._add(partial(self._tell, number))

    def given_up(self, number: int) -> None:
        """Take into account that a suggestion was deleted."""
        self._add(partial(self._give_up, number))

    def changed(self) -> None:
        """Begin the run anew with the records as they are now: observations were edited, say."""
        with self._wake:
            self._has_changed = True
            self._start()

    def _add(self, work: _Waiting | Callable[[], None]) -> None:
        with self._wake:
            self._to_do.append(work)
            self._start()

    def _start(self) -> None:
        if self._thread is None:
            self._is_closing = False
            name = f"experiment {self.number}"
            self._thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._thread.start()
        self._wake.notify_all()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is to do."""
        with self._wake:
            return not (self._is_busy or self._has_work())

    def close(self) -> None:
        """Finish what was begun, and release the run. It is opened again when it is needed."""
        with self._wake:
            self._is_closing = True
            thread = self._thread
            self._wake.notify_all()
        if thread is not None:
            thread.join()

    # In the thread --------------------------------------------------------------------------------

    def _has_work(self) -> bool:
        return bool(self._to_do or self._has_changed)

    @property
    def _requests(self) -> list[_Waiting]:
        return [each for each in self._to_do if isinstance(each, _Waiting)]

    def _work(self) -> None:
        try:
            while self._wait_for_work():
                self._turn()
        finally:
            with self._wake:
                self._release()
                self._thread = None
                self._is_busy = False

    def _wait_for_work(self) -> bool:
        """Wait until something is to do; return whether there is, and not the end."""
        with self._wake:
            self._is_busy = False
            while not (self._is_closing or self._has_work() or self._is_to_ask_ahead()):
                self._wake.wait(None if self._is_settled else _QUIET)
                if not (self._is_settled or self._has_work()):
                    self._settle()
            if self._is_closing and not self._has_work():
                self._settle()
                return False
            # Edits come in rows, and each would begin the run anew.
            while self._has_changed and not (self._is_closing or self._requests):
                self._has_changed = False
                self._wake.wait(_QUIET)
                if not self._has_changed:
                    self._has_changed = True
                    break
            self._is_busy = True
        return True

    def _settle(self) -> None:
        """Note on disk that the run has all that the records say."""
        if self._run is not None and not self._is_settled:
            self._store.is_settled(self.number, self._run.last)
            self._is_settled = True

    def _turn(self) -> None:
        """Do the most urgent thing; whatever goes wrong is an answer, and the run is reopened."""
        self._is_settled = False
        try:
            with self._wake:
                if self._run is None or self._has_changed:
                    work: _Waiting | Callable[[], None] = self._open
                else:
                    work = self._to_do.popleft() if self._to_do else self._ask_ahead
            if isinstance(work, _Waiting):
                self._answer(work)
            else:
                work()
        except Exception as error:  # noqa: BLE001  (of any optimizer; the next turn begins anew)
            self._fail(error)

    def _open(self) -> None:
        """Open the run, or take the experiment's record as it is now."""
        with self._wake:
            self._has_changed = False
        record = self._store.get("experiment", self.number)
        if record is None:
            raise bad(f"There is no experiment {self.number}.")
        if self._run is not None and self._run.revision == record.data["revision"]:
            self._run.update(record)
        else:
            self._release()
            with self._wake:
                # `settle` takes everything that the optimizer has yet to hear from the records.
                self._to_do = deque(self._requests)
            use_all()  # It may import libraries, which start threads.
            self._run = self._opened(record)
            if not self._run.optimizer.may_start_threads:
                share_one()
            self._pool.extend(self._run.settle())
            self._is_exhausted = False
        bandwidth = record.data["parallel_bandwidth"] or 1
        self._ttl = ttl_of(record.data["metadata"], self._settings.ttl)
        is_ahead = self._settings.ask_ahead and bandwidth > 1
        self._ahead = Ahead(_Clients(bandwidth)) if is_ahead else None

    def _opened(self, record: Record) -> ServedRun:
        if self._store.path is None and self._was_opened:
            # There is no run to go on with.
            return ServedRun(self._store, self._begun_anew(record))
        self._was_opened = True
        try:
            return ServedRun(self._store, record)
        except (ReplayDiverged, RunChanged) as error:
            logger.warning(
                "The run of the experiment %d cannot go on as it would have: %s It begins anew, "
                "with all of its observations.",
                self.number,
                error,
            )
        return ServedRun(self._store, self._begun_anew(record))

    def _begun_anew(self, record: Record) -> Record:
        """Return the experiment's record, with a revision that no run has."""
        with self._store.writing():
            current = self._store.get("experiment", self.number) or record
            data = {**current.data, "revision": current.data["revision"] + 1}
            self._store.put("experiment", current._replace(data=data))
        return current._replace(data=data)

    def _release(self) -> None:
        self._pool.clear()
        if self._run is not None:
            run, self._run = self._run, None
            run.close()

    def _tell(self, number: int) -> None:
        assert self._run is not None  # noqa: S101  (`_turn` has checked it)
        seconds = self._run.tell(number)
        if self._ahead is not None:
            self._ahead.ran(seconds)
        self._is_exhausted = False

    def _give_up(self, number: int) -> None:
        assert self._run is not None  # noqa: S101
        self._run.give_up(number)

    def _answer(self, waiting: _Waiting) -> None:
        if waiting.answer.set_running_or_notify_cancel():
            try:
                record = self._hand_out(waiting)
            except (Refusal, SpaceExhausted) as error:
                waiting.answer.set_exception(_as_refusal(error))
            except Exception as error:  # noqa: BLE001  (of any optimizer)
                self._fail(error, waiting.answer)
            else:
                waiting.answer.set_result(record)

    def _hand_out(self, waiting: _Waiting) -> Record:
        """Return a suggestion whose record is on disk."""
        assert self._run is not None  # noqa: S101
        run, store, data = self._run, self._store, waiting.data
        queued = None if "assignments" in data else run.next_queued()
        if queued is not None:
            data = {**data, "assignments": queued.data["assignments"]}
        if "assignments" in data:
            try:
                treatment = run.ask_for(data["assignments"])
            except InvalidParametersError as error:  # The bounds were others when it was checked.
                raise bad(f"The experiment was changed meanwhile: {error}") from error
        elif self._pool:
            treatment = self._pool[0]
        else:
            treatment = self._ask(run)
        with store.writing():
            if queued is not None:
                store.put("queued", queued._replace(state=CLOSED))
            record = run.handed_out(treatment, data, self._ttl)
            if waiting.then is not None:
                record = waiting.then(record)
        if self._pool and treatment is self._pool[0]:
            self._pool.popleft()
        return record

    # Ahead ----------------------------------------------------------------------------------------

    def _is_to_ask_ahead(self) -> bool:
        run, ahead = self._run, self._ahead
        if run is None or ahead is None or self._is_closing or self._is_exhausted:
            return False
        wanted = min(ahead.most - ahead.count, ahead.count)
        return run.has_handed_out and len(self._pool) < wanted and len(self._pool) < run.budget_left

    def _ask_ahead(self) -> None:
        """Ask for one suggestion while clients evaluate others; it knows of those."""
        if self._run is not None and self._is_to_ask_ahead():
            try:
                self._pool.append(self._ask(self._run))
            except SpaceExhausted:
                self._is_exhausted = True

    def _ask(self, run: ServedRun) -> Treatment:
        run.expire()
        began = time.perf_counter()
        treatment = run.ask()
        if self._ahead is not None:
            self._ahead.asked(time.perf_counter() - began)
        return treatment

    def _fail(self, error: Exception, *running: Future[Record]) -> None:
        """Answer the requests that wait; the run is opened again for the next one."""
        if not isinstance(error, Refusal):
            logger.error("The optimizer of the experiment %d failed.", self.number, exc_info=error)
        with self._wake:
            waiting = self._requests
            self._to_do = deque(each for each in self._to_do if not isinstance(each, _Waiting))
        begun = [each.answer for each in waiting if each.answer.set_running_or_notify_cancel()]
        for answer in (*running, *begun):
            answer.set_exception(_as_refusal(error))
        try:
            self._release()
        except CrystallizeOptError:
            logger.exception("The run of the experiment %d could not be closed.", self.number)


def _as_refusal(error: BaseException) -> Refusal:
    if isinstance(error, Refusal):
        return error
    if isinstance(error, SpaceExhausted):
        return bad(f"No point is left to suggest: {error}")
    if isinstance(error, StorageError):  # Its message names the file.
        return Refusal(503, "The run cannot be read or written now. The server's log says more.")
    if isinstance(error, CrystallizeOptError):
        return Refusal(503, f"The optimizer cannot suggest anything now: {error}")
    return Refusal(
        503, f"The optimizer failed with a {type(error).__name__}. The server's log says more."
    )
