"""Dies at each write of a scenario, one after the other; run by `test_crashes.py`.

The process forks a child for each write, which ends right after it, as by kill -9. Another child
takes the file over: it repeats the first request that was not answered, and goes on to the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from crystallize_opt import History, Objective
from crystallize_opt.adapters import RandomOptimizer
from crystallize_opt.service import live, served_run, store
from crystallize_opt.service.handler import Handler
from crystallize_opt.service.live import Settings
from crystallize_opt.service.service import Service
from crystallize_opt.storage import journal

X = {"name": "x", "type": "double", "bounds": {"min": 0.0, "max": 1.0}}
SEED = 7


def die_after(write: int) -> None:
    """Let this process end after so many writes."""
    left = [write]

    def count() -> None:
        left[0] -= 1
        if left[0] == 0:
            os._exit(9)

    append, writing, rename = journal.RunWriter.append, store.Store.writing, journal.rename_run

    def append_and_count(self: Any, *arguments: Any) -> None:
        append(self, *arguments)
        count()

    @contextlib.contextmanager
    def write_and_count(self: Any) -> Iterator[None]:
        is_inner = self._connection.in_transaction
        with writing(self):
            yield
        if not is_inner:
            count()

    def rename_and_count(*arguments: Any) -> None:
        rename(*arguments)
        count()

    for where, name, instead in (
        (journal.RunWriter, "append", append_and_count),
        (store.Store, "writing", write_and_count),
        (served_run, "rename_run", rename_and_count),
    ):
        setattr(where, name, instead)


def client(ask: Callable[..., Any]) -> None:
    """What a client does; `ask` returns the answer to each request."""
    metadata = {"optimizer": "RandomOptimizer", "seed": SEED}
    experiment = ask(
        *("POST", "experiments"),
        {"name": "e", "parameters": [X], "metrics": [{"name": "m"}], "metadata": metadata},
    )
    path = f"experiments/{experiment['id']}"
    first = ask("POST", f"{path}/suggestions", {})
    second = ask("POST", f"{path}/suggestions", {})
    of_first = ask("POST", f"{path}/observations", {"suggestion": first["id"], "value": 1.0})
    of_second = ask("POST", f"{path}/observations", {"suggestion": second["id"], "value": 2.0})
    third = ask("POST", f"{path}/suggestions", {})
    ask("PUT", f"{path}/observations/{of_first['id']}", {"values": [{"value": 5.0}]})
    fourth = ask("POST", f"{path}/suggestions", {})
    ask("DELETE", f"{path}/observations/{of_second['id']}", {})
    ask("POST", f"{path}/observations", {"suggestion": third["id"], "value": 3.0})
    ask("POST", f"{path}/observations", {"suggestion": fourth["id"], "failed": True})


def run(path: Path) -> None:
    """Run the client, whose answers are kept in a file: it goes on where it was."""
    handler = Handler(Service(path, Settings("RandomOptimizer")))
    heard = path.with_suffix(".heard")
    known = [json.loads(each) for each in heard.read_text().splitlines()] if heard.exists() else []

    def ask(method: str, where: str, data: dict[str, Any]) -> Any:
        if known:
            return known.pop(0)
        reply = handler.handle(method, where.split("/"), data)
        assert reply.status < 300, reply
        with heard.open("a") as stream:
            stream.write(json.dumps(reply.body) + "\n")
        return reply.body

    client(ask)
    handler.close()


def check(path: Path) -> None:
    """Check that nothing is lost or doubled, in the records and in the run."""
    answers = [json.loads(each) for each in path.with_suffix(".heard").read_text().splitlines()]
    number = int(answers[0]["id"])
    handler = Handler(Service(path, Settings("RandomOptimizer")))
    found = handler.service.store.page("observation", number, states=("active",))
    asked = handler.service.store.page("suggestion", number)
    handler.close()  # By now, the run has what the process before did not tell.
    outcomes = [None if each.data["failed"] else each.data["values"][0]["value"] for each in found]
    assert outcomes == [5.0, 3.0, None], outcomes
    history = History.load(path, run=str(number))
    told = sorted(each.metrics.get("m", -1.0) for each in history)
    assert told == [-1.0, 3.0, 5.0], told
    optimizer = RandomOptimizer({"x": (0.0, 1.0)}, Objective("m", "maximize"), seed=SEED)
    before = [each.data["assignments"] for each in asked if each.id <= int(answers[2]["id"])]
    points = [dict(each.params) for each in optimizer.ask(len(before))]
    assert before == points, (before, points)


def forked(work: Callable[[], None]) -> int:
    """Do some work in a child, and return its exit code."""
    child = os.fork()
    if not child:
        try:
            work()
        except BaseException:  # noqa: BLE001
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(folder: Path, step: int) -> None:
    """Die at each write, or at every third, say; and print how many there were."""
    live._QUIET = 0.0
    run(folder / "whole.db")  # This imports everything, once for all children.
    write = 1 - step
    while True:
        write += step
        path = folder / f"{write}.db"

        def dies(path: Path = path, write: int = write) -> None:
            die_after(write)
            run(path)

        ended = forked(dies) == 0

        def goes_on(path: Path = path) -> None:
            run(path)
            check(path)

        if forked(goes_on) != 0:
            raise SystemExit(f"The service did not go on as it should after write {write}.")
        if ended:
            break
    print(write)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
