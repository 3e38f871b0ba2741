"""One service: its records, its open experiments, its settings."""

from __future__ import annotations

import os
import time
from typing import Any

from crystallize_opt.service.given import number_of
from crystallize_opt.service.live import Settings
from crystallize_opt.service.lives import Lives
from crystallize_opt.service.problem import check_default
from crystallize_opt.service.refusal import bad, missing
from crystallize_opt.service.store import DELETED, Record, Store


class Service:
    """The experiments of one file, for the routes.

    Args:
        storage: The SQLite file, created if it does not exist; None to keep everything in memory.
        settings: What the service decides for all experiments.

    Attributes:
        store: The records.
        lives: The open experiments.

    Raises:
        StorageError: The file is damaged, is not a file of runs, or cannot be written.
        RunLocked: Another service has the file open.
        UsageError: There is no such optimizer.
        MissingExtraError: The optimizer is not installed.
    """

    def __init__(
        self, storage: str | os.PathLike[str] | None, settings: Settings | None = None
    ) -> None:
        self.settings = settings or Settings()
        check_default(self.settings.optimizer)
        self.store = Store(storage)
        self.lives = Lives(self.store, self.settings)
        for number in self.store.behind():
            self.lives.changed(number, is_revised=True)

    def experiment(self, text: Any) -> Record:
        """Return the experiment with an id.

        Raises:
            Refusal: There is none.
        """
        record = self.store.get("experiment", number_of(text, "experiment"))
        if record is None:
            raise missing(f"There is no experiment {text}.")
        return record

    def active_experiment(self, text: Any) -> Record:
        """Return the experiment with an id, which is not deleted.

        Raises:
            Refusal: There is none, or it is deleted.
        """
        record = self.experiment(text)
        if record.state == DELETED:
            raise bad(f"The experiment {record.id} is deleted. Update its state to 'active' first.")
        return record

    def project(self, name: str, client: int) -> Record | None:
        """Return a project by the name that a client gave it as its id."""
        for record in self.store.page("project", client):
            if record.data["id"] == name:
                return record
        return None

    def child(self, kind: str, text: Any, parent: int | None) -> Record:
        """Return a record of an experiment.

        Raises:
            Refusal: There is none, or it is of another experiment.
        """
        record = self.store.get(kind, number_of(text, kind), parent)
        if record is None:
            raise missing(f"There is no {kind} {text}, or it is of another experiment.")
        return record

    def touch(self, record: Record, **changes: Any) -> Record:
        """Change an experiment within `store.writing`, and return it."""
        changed = record._replace(data={**record.data, **changes, "updated": time.time()})
        self.store.put("experiment", changed)
        if "progress" in changes:  # An optimizer is to learn something.
            self.store.is_behind(record.id)
        return changed

    def close(self) -> None:
        """Finish what was begun, and close the file. A second call does nothing."""
        self.lives.close()
        self.store.close()
