"""Trials that are planned beforehand, run by a search as if an optimizer suggested them."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Sequence

from crystallize_opt.errors import SpaceExhausted
from crystallize_opt.trials.best import Criterion
from crystallize_opt.trials.objective import Objective
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.replicate import Replicate
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import SingleReplicate, Treatment


class Plan(ABC):
    """Suggests planned treatments in batches, each once, as a plain optimizer does.

    So the trials run on any workers, are stored and resumed, and show progress. Each batch runs to
    its end before the next one begins.

    Attributes:
        objective: What a trial must report.
        asked: The treatments of the batches so far.
        observations: The outcome of each trial by its treatment's name. An abandoned trial has
            none.
    """

    objective: Objective | Sequence[Objective]
    version = "1"  # The treatments in a stored run say what was planned.

    def __init__(self) -> None:
        self.asked: list[Treatment] = []
        self.observations: dict[str, Observation] = {}

    @abstractmethod
    def next_batch(self) -> Sequence[Treatment]:
        """Return the treatments that follow those asked for so far; none if nothing is left.

        The call changes nothing. All treatments of a plan have distinct names.
        """

    def ask(self) -> list[Treatment]:
        """Return the next batch.

        Raises:
            SpaceExhausted: Nothing is left to run.
        """
        batch = list(self.next_batch())
        if not batch:
            raise SpaceExhausted("all that was planned has run")
        self.asked += batch
        return batch

    def tell(self, observation: Observation) -> None:
        """Keep an outcome, with the status it has as a trial, unless the trial was abandoned."""
        if observation.status is not Status.ABANDONED:
            self.observations[observation.treatment.name] = observation

    def get_best_treatment(self) -> Treatment:
        """Return a treatment: a plan has no best one."""
        return self.asked[-1]

    def replicates(self, treatment: Treatment) -> list[Replicate]:
        """Return the single replicates of a treatment, each with the status of its trial."""
        found = []
        for each in self.asked:
            trial = self.observations.get(each.name)
            if isinstance(each, SingleReplicate) and each.condition == treatment.name and trial:
                (run,) = trial.replicates
                found.append(
                    dataclasses.replace(
                        run, index=each.replicate, status=trial.status, error=trial.error
                    )
                )
        return found

    @property
    def is_complete(self) -> bool:
        """Whether every trial that was asked for has run, and none is left."""
        return len(self.observations) == len(self.asked) and not self.next_batch()


def goals_of(criterion: Criterion) -> list[Objective]:
    """Return an objective for each metric that objectives and constraints need."""
    metrics = {each.metric: each for each in criterion.objectives}
    for each in criterion.constraints:
        metrics.setdefault(each.metric, Objective(each.metric, "minimize", reduce=each.reduce))
    return [
        dataclasses.replace(each, reduce=criterion.reductions[each.metric], threshold=None)
        for each in metrics.values()
    ]
