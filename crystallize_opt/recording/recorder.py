"""An optimizer that stores every call, and resumes where a stored run ended.

The loop of a search uses it. Other programs can use it to ask, wait, and tell in any order, also
from another process after a crash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext, suppress
from threading import RLock
from typing import TYPE_CHECKING, Any

from crystallize_opt.errors import UsageError
from crystallize_opt.optimizers.plain import Driven, driven, heard_metric, hears_replicates
from crystallize_opt.optimizers.reports import heard_curve
from crystallize_opt.optimizers.space_optimizer import SpaceOptimizer
from crystallize_opt.recording.known import KnownOutcomes
from crystallize_opt.recording.resumed import Resumed
from crystallize_opt.storage.lease import Lease
from crystallize_opt.storage.settings import Storage
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.replicate import Replicate
from crystallize_opt.trials.treatment import Treatment

if TYPE_CHECKING:
    from crystallize_opt.recording.run_log import RunLog


class RecordedOptimizer:
    """Asks and tells an optimizer, and stores each call in a run.

    An outcome is on disk before the optimizer is told, so no finished trial is lost if this process
    dies. Call `resume` first, and `close` last. The coroutine methods wait only if the optimizer's
    methods are coroutine functions.

    Args:
        optimizer: Any object with `ask`, `tell`, `get_best_treatment` and `objective`. While this
            object is open, call none of the optimizer's own methods except `attach` and `enqueue`.
        storage: The storage of the run; None to store nothing.

    Attributes:
        optimizer: The optimizer, or a `PlainDriver` around it if it is not a `SpaceOptimizer`.
        criterion: What makes a trial the best.
        required_metrics: The metrics a completed trial has.
        hears_replicates: Whether the optimizer uses reports of single replicates. The threads of
            trials may then call `report` while another thread calls other methods.
        asks_when_all_is_told: Whether the optimizer may be asked only after every earlier
            suggestion has been told.
        repeats: The observations with known outcomes that the last `ask`, or `resume`, reported:
            see `answer_known`.

    Raises:
        TypeError: The optimizer lacks a method.
        ObjectiveError: An objective has no metric, or no known direction.
        StorageError: The file cannot be read.
        RunLocked: Another process or search is writing the run.

    Example:
        >>> from crystallize_opt import Objective, Observation
        >>> from crystallize_opt.adapters import RandomOptimizer
        >>> from crystallize_opt.runtime.sync import run_sync
        >>> random = RandomOptimizer({"x": (0.0, 1.0)}, Objective("loss", "minimize"), seed=0)
        >>> recorded = RecordedOptimizer(random)
        >>> run_sync(recorded.resume()).count
        0
        >>> (treatment,) = run_sync(recorded.ask())
        >>> told = run_sync(recorded.tell(Observation(treatment, {"loss": 0.5})))
        >>> run_sync(recorded.best()) is treatment
        True
        >>> recorded.close()
    """

    def __init__(self, optimizer: Any, storage: Storage | None = None) -> None:
        self.optimizer: Driven = driven(optimizer)
        self.criterion = self.optimizer.criterion
        self.required_metrics = self.optimizer.required_metrics
        self.hears_replicates = hears_replicates(self.optimizer)
        self.asks_when_all_is_told = self.optimizer.asks_when_all_is_told
        self._log = None if storage is None else _open(self.optimizer, storage)
        self._description: Mapping[str, Any] | None = None
        self._about: Callable[[], Mapping[str, Any]] = dict
        self._known: KnownOutcomes | None = None
        # An optimizer that waits may move to an event loop in another thread, which could not
        # release the lock. A `SpaceOptimizer` never waits, nor does one that hears of replicates.
        waits = not (self.hears_replicates or isinstance(self.optimizer, SpaceOptimizer))
        self._turn: Any = nullcontext() if waits else RLock()
        self.repeats: list[Observation] = []

    @property
    def stored_description(self) -> Mapping[str, Any]:
        """The description of the stored run; empty if the run is new, or nothing is stored."""
        if self._log is None or not self._log.stored.segments:
            return {}
        return self._log.stored.segments[-1].description

    @property
    def run_identity(self) -> str | None:
        """Identifies the stored run, also after its file was moved; None if nothing is stored."""
        return None if self._log is None else self._log.identity

    @property
    def checkpoint_folder(self) -> str | None:
        """The folder of the stored run's checkpoints, which may not exist; None without storage."""
        return None if self._log is None else self._log.checkpoint_folder

    def lease(self) -> Lease | None:
        """Return by what workers know that the stored run is still this object's, if there is one.

        Call this method only if trials run in other processes.
        """
        return None if self._log is None else self._log.lease

    def describe(self, about: Mapping[str, Any] | Callable[[], Mapping[str, Any]]) -> None:
        """Describe the run besides the optimizer; call this method before `resume`.

        Args:
            about: Plain data: everything else that decides the outcome of a trial. Or a function
                that returns them. It is called again by `close`, because the trials may change what
                it describes, which is no change if the run is resumed in this process.

        Raises:
            UsageError: A value has no identity, so a resumed run could not compare it.
            RunChanged: The run is to be resumed exactly, but its description differs.
        """
        if self._log is not None:
            from crystallize_opt.recording.description import (
                adopt_optimizers_seed,
                refuse_without_identity,
            )

            if self._log.resumes:
                adopt_optimizers_seed(self.optimizer, self.stored_description)
            self._about = about if callable(about) else lambda: about
            description = self._describe()
            refuse_without_identity(description)
            self._log.refuse_changes(description)
            self._description = description

    def _describe(self) -> dict[str, Any]:
        from crystallize_opt.recording.description import describe_optimizer

        return {**describe_optimizer(self.optimizer), **self._about()}

    def answer_known(self, seed_of: Callable[[int], int]) -> None:
        """From now on, report known outcomes at once; call this method before `resume`.

        A suggestion is known if a trial of the same point completed in this run, and the replicates
        of that trial had the seeds that every trial gets. Its outcome is reported to the optimizer
        as if the point had been run again, and stored with `Observation.repeats`. `ask` does not
        return such a suggestion. An optimizer with `duplicates=True` gets no such answers.

        Args:
            seed_of: Returns the seed of a replicate in every trial: see `SeedPlugin.seed_of`.
        """
        if not self.optimizer.duplicates:
            self._known = KnownOutcomes(self.optimizer.space, seed_of, self.required_metrics)

    async def resume(self) -> Resumed:
        """Begin the run, or bring the optimizer to where the stored run ended.

        Returns:
            The trials found in the run.

        Raises:
            ReplayDiverged: A suggestion of the optimizer differs from the stored one.
            UsageError: The optimizer has been used for something else before.
        """
        if self._log is None:
            return Resumed()
        if self._description is None:
            self.describe({})
        from crystallize_opt.recording.resume import resume

        resumed = await resume(self._log, self.optimizer, self._description or {}, self._known)
        for treatment, known, replicates in resumed.unanswered:
            await self._answer(treatment, known, len(replicates))
        return resumed

    def stored_baseline(self, treatment: Treatment) -> Observation | None:
        """Return the outcome of the baseline if the resumed run has it.

        Raises:
            RunChanged: The run has another baseline.
        """
        return None if self._log is None else self._log.stored_baseline(treatment)

    def set_baseline(
        self, observation: Observation, point: Mapping[str, Any] | None = None
    ) -> None:
        """Tell the optimizer the outcome of the baseline, and store it.

        Args:
            observation: The outcome.
            point: The parameters of the baseline, if they are others than those of its treatment.
        """
        self.optimizer.set_baseline(observation, point)
        if self._log is not None:
            self._log.sync()

    async def ask(self, n: int = 1, *, ttl: float | None = None) -> list[Treatment]:
        """Ask for `n` treatments; a plain optimizer decides itself how many it suggests.

        Args:
            n: How many treatments.
            ttl: After so many seconds, a treatment that is still pending expires, also if the run
                was resumed meanwhile: see `SpaceOptimizer.ask`.

        Returns:
            The treatments to run. There may be fewer, or none, after `answer_known`.

        Raises:
            SpaceExhausted: No point is left to suggest.
            TypeError: A plain optimizer returned something other than a list of treatments.
            UsageError: A trial was set aside: see `set_aside`; or a plain optimizer got a `ttl`.
        """
        with self._turn:
            if self._log is not None:
                self._log.before_ask()
            # Optimizers of users may lack the argument.
            asked = self.optimizer.ask(n) if ttl is None else self.optimizer.ask(n, ttl=ttl)
            treatments = asked if isinstance(asked, list) else await asked
            if self._log is not None:
                self._log.sync()
        if self._known is None:
            return treatments
        if self.repeats:
            self.repeats = []
        to_run: list[Treatment] = []
        for treatment in treatments:
            known = self._known.of(treatment)
            if known is None or self.optimizer.runs_known:
                to_run.append(treatment)
            else:
                await self._answer(treatment, known)
        return to_run

    async def _answer(self, treatment: Treatment, known: Observation, reported: int = 0) -> None:
        """Report the known outcome of a suggestion.

        Args:
            treatment: The pending treatment.
            known: The outcome of the trial that tried the point first.
            reported: How many of the treatment's replicates have been reported.
        """
        observation = self._pruned(known.repeated_by(treatment), reported)
        self.repeats.append(observation)
        await self.tell(observation)

    def _pruned(self, observation: Observation, reported: int) -> Observation:
        """Report a known outcome step by step; return it, or its part before it is pruned."""
        treatment, replicates = observation.treatment, observation.replicates
        metric = heard_metric(self.optimizer, len(replicates))
        for step, value in () if metric is None else heard_curve(observation, metric):
            if self.report(treatment, step, value):
                return observation.ended_at(metric or "", step)
        for replicate in replicates[reported:-1] if self.hears_replicates else ():
            if self.report_replicate(treatment, replicate):
                return observation.ended_after(replicate.index + 1)
        return observation

    def attach(self, observations: Iterable[Observation], *, skip_outside: bool = False) -> int:
        """Attach trials of others, and store them at once: see `SpaceOptimizer.attach`.

        Returns:
            How many trials were skipped.
        """
        with self._turn:
            skipped: int = self.optimizer.attach(observations, skip_outside=skip_outside)  # type: ignore[union-attr]
            if self._log is not None:
                self._log.sync()
        return skipped

    def enqueue(self, *points: Mapping[str, Any]) -> None:
        """Enqueue points to suggest first, and store them at once: see `SpaceOptimizer.enqueue`."""
        with self._turn:
            self.optimizer.enqueue(*points)  # type: ignore[union-attr]
            if self._log is not None:
                self._log.sync()

    def report(self, treatment: Treatment, step: int, value: float) -> bool:
        """Report a point of the learning curve of a pending trial. Any thread may call this.

        The point is stored with the next suggestion or outcome, not at once: a trial that this
        process does not finish runs again when the run is resumed.

        Returns:
            Whether the optimizer would end the trial here. If so, tell it with the status `PRUNED`.
        """
        with self._turn:
            return bool(self.optimizer.report(treatment, step, value))  # type: ignore[union-attr]

    def report_replicate(self, treatment: Treatment, replicate: Replicate) -> bool:
        """Report one finished replicate of a pending trial that goes on, in order.

        It is stored, also if the optimizer does not hear of single replicates.

        Returns:
            Whether the optimizer would end the trial here. If so, tell it with the status `PRUNED`.
        """
        if not self.hears_replicates:
            if self._log is not None:
                self._log.replicate(treatment, replicate)
            return False
        with self._turn:
            prune = bool(
                self.optimizer.report_replicate(treatment, replicate.index, replicate)  # type: ignore[union-attr]
            )
            if self._log is not None:
                self._log.reported(replicate)
        return prune

    def write(self, observation: Observation) -> bool:
        """Store the outcome of a trial. `tell` stores it if this method was not called.

        Returns:
            Whether the outcome is on disk.
        """
        if self._log is None:
            return False
        with self._turn:
            return self._log.finished(observation.checked(self.required_metrics))

    async def tell(self, observation: Observation) -> list[Observation]:
        """Store the outcome of a pending trial, or a late one of an abandoned trial, and tell it.

        Returns:
            The observations that this call told the optimizer: this one. A plain optimizer is told
            in the order of its suggestions, so there may be none or several.

        Raises:
            TellError: The trial is not pending.
        """
        with self._turn:
            if self._log is not None:
                if isinstance(self.optimizer, SpaceOptimizer):
                    observation = self.optimizer.ledger.with_curves(observation)
                self.write(observation)
            told = self.optimizer.tell(observation)
            now = [observation] if told is None else await told
            if self._log is not None:
                self._log.sync()
        if self._known is not None:
            self._known.add(observation)
        return now

    async def abandon(self, treatment: Treatment | str) -> list[Observation]:
        """Give up a pending trial: see `SpaceOptimizer.abandon`. The run is stored without it.

        Args:
            treatment: The treatment, or its name.

        Returns:
            The observations that this call told the optimizer, as `tell` does.

        Raises:
            TellError: The trial is not pending.
        """
        return await self.tell(self.optimizer.abandonment(treatment))

    async def set_aside(self, observation: Observation) -> list[Observation]:
        """Tell the optimizer that a trial is abandoned, but let it stay pending in the stored run.

        The end of a search does this: the trial runs again when the run is resumed. Without a
        storage, this is the same as `tell`. Nothing may be asked for afterwards, because a resumed
        optimizer would not know that the trial had been abandoned.

        Args:
            observation: An observation of status ABANDONED.

        Returns:
            The observations that this call told the optimizer; none if the trial had been abandoned
            before.

        Raises:
            TellError: The trial was told, or never asked for.
        """
        if self.optimizer.is_abandoned(observation.treatment):
            return []
        if self._log is not None:
            self._log.set_aside(observation)
        return await self.tell(observation)

    async def best(self) -> Treatment:
        """Return the optimizer's best treatment.

        Raises:
            NoCompletedTrialError: No trial completed.
        """
        best = self.optimizer.get_best_treatment()
        return best if isinstance(best, Treatment) else await best

    def close(self) -> None:
        """Release the run, so that another process or search can write it."""
        if self._log is None:
            return
        try:
            if self._description is not None:
                from crystallize_opt.recording.own_changes import remember

                with suppress(UsageError):  # A value that contains itself by now.
                    remember(self._description, self._describe())
        finally:
            self._log.close()


def _open(optimizer: Driven, storage: Storage) -> RunLog:
    # Imported only if a run is stored: SQLite and JSON take a third of the package's import.
    from crystallize_opt.recording.run_log import RunLog

    return RunLog(optimizer, storage)
