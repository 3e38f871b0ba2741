"""A treatment on its way to a worker, with the folders of its trial's checkpoints."""

from __future__ import annotations

from typing import Any, NamedTuple

from crystallize_opt.trials.treatment import Treatment


class TrialFolders(NamedTuple):
    """Where the checkpoints of a trial are: in each folder, one for each replicate.

    Attributes:
        run: The path of the folder of all trials of the run.
        trial: The name of the trial's own folder there.
        source: The name of the folder of the trial that this one continues, or None.
        machine: The only machine that has this path; None if others may share it.
    """

    run: str
    trial: str
    source: str | None = None
    machine: str | None = None


class PlacedTreatment(Treatment):
    """A treatment with the folders of its trial.

    Args:
        treatment: The treatment.
        folders: Where the checkpoints of the trial are.
    """

    __slots__ = ("folders",)

    def __init__(self, treatment: Treatment, folders: TrialFolders) -> None:
        super().__init__(treatment.name, treatment.function or treatment.params)
        self.folders = folders

    def apply(self, ctx: Any) -> None:
        ctx.folders = self.folders
        super().apply(ctx)
