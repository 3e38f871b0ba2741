"""The folders in which the trials of a search keep checkpoints, while a trial may continue them."""

from __future__ import annotations

import platform
import shutil
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from crystallize_opt.optimizers.space_optimizer import SpaceOptimizer
from crystallize_opt.recording.resumed import Resumed
from crystallize_opt.trials.calls import Told
from crystallize_opt.trials.observation import Observation
from crystallize_opt.trials.placed import TrialFolders
from crystallize_opt.trials.status import Status
from crystallize_opt.trials.treatment import Treatment


class _Kept(NamedTuple):
    """A completed trial whose folder is kept.

    Attributes:
        key: Identifies its configuration: its parameters without the fidelity.
        level: Its fidelity.
    """

    key: Any
    level: float


class Checkpoints:
    """Gives each trial its folders, and removes those that no trial can continue any more.

    A trial continues the last completed trial of the same configuration, if that one has a lower
    fidelity; then the folder of that one is removed when this trial has completed.
    All that is known here follows from the calls of the optimizer, so that a resumed search gives
    its trials the same folders. Attached trials have none: perhaps they ran other code.

    Args:
        optimizer: An optimizer that raises a fidelity by suggesting a configuration again.
        run: The folder of a stored run; None for a temporary one.
    """

    def __init__(self, optimizer: SpaceOptimizer[Any], run: str | None) -> None:
        self._optimizer = optimizer
        self._machine = platform.node() if run is None else None
        # The folder is made by the first step that asks for it.
        temporary = Path(tempfile.gettempdir(), f"crystallize_opt_{uuid.uuid4().hex}", "run")
        self._run = temporary if run is None else Path(run)
        self._kept: dict[str, _Kept] = {}

    def resume(self, resumed: Resumed) -> None:
        """Take over the folders of a stored run, and remove those of trials that run again."""
        ran = {each.treatment.name for each in resumed.observations}
        for event in self._optimizer.calls:
            if isinstance(event, Told) and event.observation.treatment.name in ran:
                self._keep(event.observation)
        begun = {treatment.name for treatment, replicates in resumed.pending if replicates}
        for each in list(self._run.iterdir()) if self._run.is_dir() else ():
            if each.name not in self._kept and each.name not in begun:
                self._remove(each.name)

    def place(self, treatment: Treatment) -> TrialFolders:
        """Return the folders of a trial that is about to start."""
        self._remove_those_out_of_the_race()
        key, level = self._identity(treatment)
        below = [n for n, each in self._kept.items() if each.key == key and each.level < level]
        source = below[-1] if below else None
        return TrialFolders(str(self._run), treatment.name, source, self._machine)

    def told(self, observation: Observation) -> None:
        """Keep the folder of a trial that completed; remove that of a trial that did not.

        An abandoned trial runs again when the run is resumed, which removes its folder.
        """
        name = observation.treatment.name
        if observation.status is not Status.ABANDONED and (self._run / name).is_dir():
            self._keep(observation)
            if name not in self._kept:
                self._remove(name)

    def close(self) -> None:
        """Remove what no trial can continue; without storage, everything."""
        if self._machine is not None:
            shutil.rmtree(self._run.parent, ignore_errors=True)
            return
        self._remove_those_out_of_the_race()
        with suppress(OSError):  # It does not exist, or something is left in it.
            self._run.rmdir()
            self._run.parent.rmdir()

    def _keep(self, observation: Observation) -> None:
        treatment = observation.treatment
        if observation.status is not Status.COMPLETED or not (self._run / treatment.name).is_dir():
            return
        key, level = self._identity(treatment)
        for name, kept in list(self._kept.items()):
            if kept.key == key and kept.level < level:
                del self._kept[name]
                self._remove(name)
        self._kept[treatment.name] = _Kept(key, level)
        for replicate in observation.failed_replicates:  # `Failures(min_share=...)` allows some.
            shutil.rmtree(self._run / treatment.name / str(replicate.index), ignore_errors=True)

    def _remove_those_out_of_the_race(self) -> None:
        if not self._kept:
            return
        racing = self._optimizer.racing() or ()
        pending = {self._identity(each)[0] for each in self._optimizer.pending}
        for name, kept in list(self._kept.items()):
            if name not in racing and kept.key not in pending:
                del self._kept[name]
                self._remove(name)

    def _identity(self, treatment: Treatment) -> tuple[Any, float]:
        space = self._optimizer.space
        others = dict(treatment.params)
        level = float(others.pop(space.fidelity or ""))
        return space.key(others), level

    def _remove(self, name: str) -> None:
        shutil.rmtree(self._run / name, ignore_errors=True)
