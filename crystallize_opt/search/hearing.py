"""What a search hears of learning curves while trials run, and passes on to the optimizer."""

from __future__ import annotations

from functools import partial

from crystallize_opt.errors import printable
from crystallize_opt.pipeline.context import logger
from crystallize_opt.recording.recorder import RecordedOptimizer
from crystallize_opt.runtime.interruption import Interruption
from crystallize_opt.trials.curves import Listener
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import Treatment
from crystallize_opt.workers.trial import Trial


class Hearing:
    """Passes the learning curves of running trials on to the optimizer.

    Args:
        recorded: The optimizer.
        metric: The metric whose curves it hears of.
        replicates: How many replicates a completed trial has.
        interruption: Delays Ctrl-C while the optimizer is at work.
    """

    def __init__(
        self,
        recorded: RecordedOptimizer,
        metric: str,
        replicates: int,
        interruption: Interruption,
    ) -> None:
        self._recorded = recorded
        self._metric: str | None = metric  # None once nobody hears of the curves.
        # Between replicates, the optimizer is asked even if there is no curve.
        self._needs_curves = replicates == 1
        self._interruption = interruption
        self._error: Exception | None = None
        self._is_over = False

    def listener(self, treatment: Treatment) -> Listener | None:
        """Return who hears of the curve of a new trial; None if nobody does."""
        if self._metric is None:
            return None
        return Listener(self._metric, partial(self._report, treatment))

    def _report(self, treatment: Treatment, step: int, value: float) -> bool:
        """Report a point; the thread of the trial calls this.

        An error of the optimizer is none of the trial, so `check` raises it in the search.
        """
        if self._is_over or self._error is not None:
            return self._error is not None
        try:
            return self._interruption.after(self._recorded.report, treatment, step, value)
        except Exception as error:  # noqa: BLE001  (raised by `check`)
            self._error = error
            return True

    def check(self) -> None:
        """Raise the error that the optimizer raised when it heard of a point."""
        if self._error is not None:
            raise self._error

    def end(self) -> None:
        """Pass on no more points: the optimizer learns the outcome of every trial now."""
        self._is_over = True

    def warn(self, trial: Trial, *, is_heard: bool) -> None:
        """Log once why the optimizer's pruner is never asked, after the first finished trial.

        Args:
            trial: A trial that has finished.
            is_heard: Whether the runner passes points on.
        """
        if self._metric is None or trial.done[-1].record.status not in (
            Status.COMPLETED,
            Status.PRUNED,
        ):
            return
        curves = trial.done[0].record.curves
        who = self._recorded.optimizer.stands_for.__name__
        if self._metric in curves and not is_heard:
            logger.warning(
                "No trial is ended early, because this executor has no way back from a running "
                "trial: %s does not hear of its learning curve until it has finished. The curves "
                "are kept. To end trials early, use workers='processes', 'threads' or None.",
                who,
            )
        elif self._needs_curves and self._metric not in curves:
            logger.warning(
                "%s can end trials early, but %s reported no intermediate value of %r (reported: "
                "%s). Call ctx.report(%r, value, step) in a step, or give replicates_per_trial= "
                "of 2 or more to let it decide between replicates.",
                who,
                printable(trial.treatment.name),
                self._metric,
                printable(", ".join(map(repr, curves)) or "none"),
                self._metric,
            )
        elif not is_heard:
            return
        self._needs_curves = False
        if not is_heard:
            self._metric = None  # Spare the executor's workers what nobody can use.
