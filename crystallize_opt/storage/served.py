"""What a service has recorded of an experiment, and its run does not have yet.

The service answers a client when an observation is in the table `service`; its optimizer, whose
calls are the run, is told afterwards. If the process dies in between, the records are ahead of the
run until the service is started again.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from crystallize_opt.errors import InvalidParametersError
from crystallize_opt.space.space import SearchSpace
from crystallize_opt.storage.lock import is_written

SERVICE = "\0service"
"""The name under which a service locks its file. No run has it."""


class Lacking(NamedTuple):
    """What is recorded of a run and not in it.

    Attributes:
        text: How much that is, and how to get it into the run: a sentence.
        is_served: Whether a service is running, which adds it by itself.
    """

    text: str
    is_served: bool


def revision_of(description: Mapping[str, Any]) -> int:
    """Return the revision of the experiment for which a run was begun."""
    return int(description.get("service", {}).get("revision", 0))


def name_in_run(number: int, data: Mapping[str, Any], revision: int) -> str:
    """Return what the trial of an observation is called in the run.

    Args:
        number: The number of the observation.
        data: The record of the observation.
        revision: The revision of the run. An observation of an earlier one is attached to it.
    """
    is_asked = data["trial"] is not None and data["revision"] == revision
    return str(data["trial"]) if is_asked else f"observation {number}"


def completed(
    assignments: Mapping[str, Any], definition: Mapping[str, Any], space: SearchSpace
) -> dict[str, Any]:
    """Return assignments for the parameters of today: new ones have their default.

    Args:
        assignments: The assignments of an observation.
        definition: The experiment.
        space: The space of the run.
    """
    params = {name: value for name, value in assignments.items() if name in space}
    for each in definition["parameters"]:
        name, default = each["name"], each["default_value"]
        if name not in params and default is not None and space.is_active(name, params):
            params[name] = default
    return params


def what_it_lacks(
    path: str,
    connection: sqlite3.Connection,
    run: str,
    description: Mapping[str, Any],
    space: SearchSpace | None,
    names: Callable[[], Collection[str]],
) -> Lacking | None:
    """Return what is recorded of a run and not in it; None for nothing.

    Args:
        path: The file.
        connection: A connection to a copy of the file.
        run: The run's name.
        description: The description of the run; empty if there is none.
        space: The space of the run; observations out of it are never in the run. None: unknown.
        names: Returns the names of the trials whose outcomes the run has.
    """
    found = _behind(connection, run)
    if found is None:
        return None
    number, definition = found
    records = [
        (number, json.loads(text))
        for number, text in connection.execute(
            "SELECT id, data FROM service WHERE kind = 'observation' AND parent = ?"
            " AND state = 'active'",
            (number,),
        )
    ]
    revision = revision_of(description)
    if description and definition["revision"] != revision:
        what = (
            f"The experiment {number} was changed after its run was written, and has "
            f"{len(records)} observations now"
        )
    else:
        told = names()
        lacking = [
            data
            for observation, data in records
            if (name := name_in_run(observation, data, revision)) not in told
            and (name == data["trial"] or _fits(data["assignments"], definition, space))
        ]
        if not lacking:
            return None
        what = f"{len(lacking)} observations of the run {run!r} are recorded and not in it yet"
    if is_written(os.path.realpath(path), SERVICE):
        return Lacking(f"{what}: the service is running, and adds them. Read it again later.", True)
    return Lacking(
        f"{what}: the service ended before its optimizer was told of them. Start it again, with "
        f"`crystallize-opt serve {path}`: it adds them at once.",
        False,
    )


def _behind(connection: sqlite3.Connection, run: str) -> tuple[int, dict[str, Any]] | None:
    """Return the experiment with a run, if the run may lack something."""
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'service'").fetchone():
        return None
    for number, text in connection.execute(
        "SELECT id, data FROM service WHERE kind = 'experiment'"
        " AND id IN (SELECT id FROM service WHERE kind = 'behind')"
    ):
        definition = json.loads(text)
        if definition["run"] == run:
            return number, definition
    return None


def _fits(
    assignments: Mapping[str, Any], definition: Mapping[str, Any], space: SearchSpace | None
) -> bool:
    if space is None:
        return True
    try:
        space.validate(completed(assignments, definition, space))
    except InvalidParametersError:
        return False
    return True
