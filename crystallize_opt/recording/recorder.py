"""An optimizer that writes down what happens, and continues where a stored run ended.

The one book-keeper: the loop of a search is one of its users. Another may ask, let time pass, and
tell in any order, also from another process after a crash.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from crystallize_opt.optimizers.plain import Driven, driven, hears_replicates
from crystallize_opt.recording.resumed import Resumed
from crystallize_opt.storage.settings import Storage
from crystallize_opt.trials.observation import Observation, Replicate
from crystallize_opt.trials.treatment import Treatment

if TYPE_CHECKING:
    from crystallize_opt.recording.run_log import RunLog


class RecordedOptimizer:
    """Asks and tells an optimizer, and writes each call to a run before anyone acts on it.

    What is told is on disk before the optimizer hears of it, so that no finished trial is lost,
    whenever this process dies. Call `resume` first, and `close` last. The methods that are
    coroutines wait only for optimizers that have coroutines of their own.

    Args:
        optimizer: Any object with `ask`, `tell`, `get_best_treatment` and `objective`. Used only
            through this object as long as it is open, except for `attach` and `enqueue`.
        storage: Where the run is stored; None for nowhere.

    Attributes:
        optimizer: What is asked and told: the optimizer, or a `PlainDriver` around a plain one.
        criterion: What makes a trial the best.
        required_metrics: The metrics a completed trial has.
        hears_replicates: Whether the optimizer uses reports of single replicates.
        asks_when_all_is_told: Whether the optimizer may be asked only when it has been told all
            that it suggested before.

    Raises:
        TypeError: The optimizer lacks a method.
        ObjectiveError: An objective has no metric, or no known direction.
        StorageError: The file cannot be read.
        RunLocked: The run is being written.

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
        self.asks_when_all_is_told = getattr(self.optimizer, "asks_when_all_is_told", False)
        self._log = None if storage is None else _open(self.optimizer, storage)
        self._description: Mapping[str, Any] | None = None

    @property
    def stored_description(self) -> Mapping[str, Any]:
        """What the stored run is a run of; empty where it is new, or nothing is stored."""
        if self._log is None or not self._log.stored.segments:
            return {}
        return self._log.stored.segments[-1].description

    def describe(self, about: Mapping[str, Any]) -> None:
        """Say what the run is of, besides the optimizer; call it before `resume`.

        Args:
            about: Plain data: all else that decides what comes of a trial.

        Raises:
            RunChanged: The run is to be resumed exactly, and is one of something else.
        """
        if self._log is not None:
            from crystallize_opt.recording.description import describe_optimizer

            self._description = {**describe_optimizer(self.optimizer), **about}
            self._log.refuse_changes(self._description)

    async def resume(self) -> Resumed:
        """Begin the run, or bring the optimizer to where the stored run ended.

        Returns:
            What was found in the run.

        Raises:
            ReplayDiverged: The optimizer suggests something else than it did.
            UsageError: The optimizer has been used for something else before.
        """
        if self._log is None:
            return Resumed()
        if self._description is None:
            self.describe({})
        from crystallize_opt.recording.resume import resume

        return await resume(self._log, self.optimizer, self._description or {})

    async def ask(self, n: int = 1) -> list[Treatment]:
        """Ask for `n` treatments; a plain optimizer decides itself how many it suggests.

        Raises:
            SpaceExhausted: A finite space has been used up.
            TypeError: A plain optimizer suggests no list of treatments.
        """
        if self._log is not None:
            self._log.before_ask()
        asked = self.optimizer.ask(n)
        treatments = asked if isinstance(asked, list) else await asked
        if self._log is not None:
            self._log.sync()
        return treatments

    def report(self, treatment: Treatment, replicate: Replicate) -> bool:
        """Report one finished replicate of a pending trial, in order.

        Returns:
            Whether the optimizer would end the trial here: it is then to be told as `PRUNED`.
        """
        if not self.hears_replicates:
            return False
        prune = bool(self.optimizer.report(treatment, replicate.index, replicate))  # type: ignore[union-attr]
        if self._log is not None:
            self._log.reported(replicate)
        return prune

    def write(self, observation: Observation) -> bool:
        """Write down what came of a trial; `tell` does so itself where this was not called.

        Returns:
            Whether it is on disk. An abandoned trial is not written: it stays pending in the run,
            and is run again when the run is resumed.
        """
        return self._log is not None and self._log.finished(
            observation.checked(self.required_metrics)
        )

    async def tell(self, observation: Observation) -> list[Observation]:
        """Write down what came of a pending trial, and tell the optimizer.

        Returns:
            What the optimizer has been told now: this observation. A plain optimizer is told in the
            order in which it suggested, so that nothing, or several observations may be due.

        Raises:
            TellError: The trial is not pending.
        """
        if self._log is not None:
            self.write(observation)
        told = self.optimizer.tell(observation)
        now = [observation] if told is None else await told
        if self._log is not None:
            self._log.sync()
        return now

    async def best(self) -> Treatment:
        """Return the optimizer's best treatment.

        Raises:
            NoCompletedTrialError: No trial completed.
        """
        best = self.optimizer.get_best_treatment()
        return best if isinstance(best, Treatment) else await best

    def close(self) -> None:
        """Let others write the run."""
        if self._log is not None:
            self._log.close()


def _open(optimizer: Driven, storage: Storage) -> RunLog:
    # Imported where something is stored: SQLite and JSON take a third of the package's import.
    from crystallize_opt.recording.run_log import RunLog

    return RunLog(optimizer, storage)
