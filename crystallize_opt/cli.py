"""The command line: `crystallize-opt`, also `python -m crystallize_opt`."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import re
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from crystallize_opt.errors import CrystallizeOptError, UsageError, printable
from crystallize_opt.history.history import History
from crystallize_opt.plain_data import described, encode
from crystallize_opt.runtime.extras import needs
from crystallize_opt.runtime.shown import cut, duration, number, text_table
from crystallize_opt.storage.journal import written
from crystallize_opt.storage.records import write_number, write_numbers
from crystallize_opt.trials.observation import Observation

_CLEAR = "\033[2J\033[H"  # The screen of a terminal.


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: The words after the program's name; None for those it was started with.

    Returns:
        The exit code: 0; 1 after an error, whose message is on stderr; 2 for wrong arguments; 130
        after Ctrl-C.
    """
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        given.command(given)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # The reader, such as `head`, has seen enough.
        sys.stderr.close()
        return 0
    except CrystallizeOptError as error:
        print(f"crystallize-opt: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="crystallize-opt", description="Look at stored runs, and at the optimizers installed."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[Any], None], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        added.set_defaults(command=run)
        return added

    def of_a_run(added: argparse.ArgumentParser) -> None:
        added.add_argument("file", help="the file given to optimize(storage=...)")
        added.add_argument("--run", help="the run's name; may be left out if the file has one run")

    runs = command("runs", _runs, "list the runs of a file")
    runs.add_argument("file", help="the file given to optimize(storage=...)")
    show = command("show", _show, "show how far a run is, its best trial and its last error")
    of_a_run(show)
    show.add_argument(
        "--watch",
        nargs="?",
        type=_seconds,
        const=2.0,
        metavar="SECONDS",
        help="show it again every 2 seconds, or as many as given, while a search writes the run",
    )
    export = command("export", _export, "write the trials of a run to a file")
    of_a_run(export)
    export.add_argument("format", choices=[*_FORMATS])
    export.add_argument(
        "target", help="the file to write; for optuna, the URL of a storage: sqlite:///study.db"
    )
    report = command("report", _report, "write a report of a run: one HTML file")
    of_a_run(report)
    report.add_argument("target", help="the HTML file to write")
    dashboard = command("dashboard", _dashboard, "show runs in optuna-dashboard, and follow them")
    of_a_run(dashboard)
    dashboard.add_argument("--host", default="127.0.0.1")
    dashboard.add_argument("--port", type=int, default=8080)
    serve = command("serve", _serve, "serve experiments over HTTP, to SigOpt's client and others")
    serve.add_argument("file", help="the SQLite file of the experiments, made if there is none")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=4200)
    serve.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name under which the service is reached; may be given several times",
    )
    serve.add_argument("--ssl-certfile", help="the certificate for TLS, a PEM file")
    serve.add_argument("--ssl-keyfile", help="the key of the certificate, if it is in another file")
    serve.add_argument(
        "--rate-limit",
        type=_rate,
        default=1000.0,
        metavar="N",
        help="how many requests a second each token may send (1000)",
    )
    serve.add_argument(
        "--optimizer",
        default="OptunaOptimizer",
        help="the optimizer of experiments that name none (OptunaOptimizer)",
    )
    serve.add_argument(
        "--ttl",
        type=_rate,
        default=86400.0,
        metavar="SECONDS",
        help="when a suggestion that nobody reports back expires (86400: a day)",
    )
    token = command("token", _token, "make a token for a file that is not being served")
    token.add_argument("file", help="the SQLite file of the experiments")
    token.add_argument("--client", type=int, help="whose experiments it opens: a number from 2")
    token.add_argument("--experiment", type=int, help="the only experiment that it opens")
    token.add_argument("--read-only", action="store_true", help="it may change nothing")
    token.add_argument("--days", type=_rate, help="after how many days it ends; otherwise never")
    command("optimizers", _optimizers, "list the optimizers, and what each one can do")
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError("give 0.1 to 3600 seconds")
    return seconds


def _rate(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError("give a number above 0")
    return number


def _print(text: str) -> None:
    print(text)  # noqa: T201


def _loaded(file: str, run: str | None) -> History:
    """Return a run. What would be warned of is printed with its notes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = History.load(file, run)
    for each in caught:
        if str(each.message) not in history.notes:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    return history


def _print_notes(notes: Sequence[str]) -> None:
    for each in notes:
        _print(f"note: {each}")


# What runs are like -------------------------------------------------------------------------------


def _runs(given: Any) -> None:
    rows: list[list[str]] = []
    notes: list[str] = []
    for run in History.runs(given.file):
        history, when = _loaded(given.file, run), written(given.file, run)
        notes += history.notes
        rows.append(
            [
                run,
                "running" if when.now else "not running",
                str(len(history)),
                str(sum(each.status.has_failed for each in history)),
                _values(history, history.best if history.objectives else None),
                time.strftime("%Y-%m-%d %H:%M", time.localtime(when.last)),
            ]
        )
    head = ["run", "", "trials", "failed", "best", "last written"]
    _print(text_table(f"{given.file}: {len(rows)} runs", head, rows))
    _print_notes(notes)


def _show(given: Any) -> None:
    while True:
        text, is_running = _state(given.file, given.run)
        if given.watch is None:
            _print(text)
            return
        _print(f"{_CLEAR if sys.stdout.isatty() else ''}{text}")
        sys.stdout.flush()
        if not is_running:
            return
        time.sleep(given.watch)


def _state(file: str, run: str | None) -> tuple[str, bool]:
    """Return what is shown of a run, and whether a search writes it."""
    history = _loaded(file, run)
    when = written(file, history.name or "")
    end = time.time() if when.now else when.last
    counts = Counter(str(each.status) for each in history)
    if history.pending:
        counts["pending"] = len(history.pending)
    lines = [
        f"{history.name}: {'running' if when.now else 'not running'}",
        f"elapsed       {duration(end - when.first)}",
        f"last written  {duration(max(0.0, time.time() - when.last))} ago",
        f"trials        {len(history)}: {', '.join(f'{n} {name}' for name, n in counts.items())}",
    ]
    if history.objectives:
        best = history.best
        lines.append(f"best          {_values(history, best) or 'none yet'}")
        if best is not None:
            lines.append(f"              {best.treatment.name} {dict(best.params)!r}")
    failed = [each for each in history if each.error]
    if failed:
        first = (failed[-1].error or "").splitlines()[0]
        lines.append(f"last error    {failed[-1].treatment.name}: {cut(first)}")
    lines += [f"note          {each}" for each in history.notes]
    return "\n".join(map(printable, lines)), when.now


def _values(history: History, best: Observation | None) -> str:
    if best is None:
        return ""
    return ", ".join(f"{each.metric}={number(best[each.metric])}" for each in history.objectives)


# What is written ----------------------------------------------------------------------------------


def _export(given: Any) -> None:
    _refuse_own_file(given.file, given.target)
    history = _loaded(given.file, given.run)
    _FORMATS[given.format](history, given.target)
    _print(f"{len(history)} trials of {history.name!r} written to {given.target}")
    _print_notes(history.notes)


def _refuse_own_file(file: str, target: str) -> None:
    """Check that what is written would not replace the runs themselves.

    Args:
        file: The file of the runs, which SQLite writes together with others beside it.
        target: The path to write to, or the URL of an Optuna storage.

    Raises:
        UsageError: It would.
    """
    path = target
    if target.startswith("sqlite") and "://" in target:
        # A slash follows the name of the host, which is empty; then there may be a URI of SQLite.
        path = target.split("://", 1)[1].removeprefix("/").split("?")[0]
        path = re.sub("^file:(//)?", "", path)
    found = Path(os.path.realpath(path))
    for end in ("", "-wal", "-shm", "-journal"):
        own = Path(os.path.realpath(file) + end)
        if found == own or (found.exists() and own.exists() and found.samefile(own)):
            raise UsageError(
                f"{target!r} is the file of the runs itself, which would be overwritten. Give "
                "another file to write to."
            )


def _to_json(history: History, target: str) -> None:
    trials = [
        {
            "trial": each.treatment.name,
            "params": {name: encode(value, other=described) for name, value in each.params.items()},
            "metrics": write_numbers(each.metrics),
            "sem": write_numbers({n: value for n, value in each.sem.items() if value is not None}),
            "status": each.status.value,
            "error": each.error,
            "started_at": each.started_at,
            "duration": each.duration,
            "replicates": [
                {
                    "seed": own.seed,
                    "metrics": write_numbers(own.metrics),
                    "status": own.status.value,
                    "curves": {
                        name: [(step, write_number(value)) for step, value in curve]
                        for name, curve in own.curves.items()
                    },
                }
                for own in each.replicates
            ],
        }
        for each in history
    ]
    objectives = [{"metric": o.metric, "direction": o.direction} for o in history.objectives]
    data = {"run": history.name, "objectives": objectives, "trials": trials}
    _write(target, json.dumps(data, indent=1, allow_nan=False))


def _to_parquet(history: History, target: str) -> None:
    with needs("Parquet files need", "pyarrow"):
        import pyarrow as pa  # noqa: F401  (pandas imports it)
    frame = history.to_frame()
    for name in frame.columns:
        # A column has one type; choices may have several.
        if frame[name].dtype == object:
            frame[name] = [None if value is None else str(value) for value in frame[name]]
    with _written_to(target):
        frame.to_parquet(target)


def _to_optuna(history: History, target: str) -> None:
    from crystallize_opt.adapters.optuna.studies import import_optuna
    from crystallize_opt.interchange import study_of

    if "://" not in target:
        raise UsageError(
            f"An Optuna study is written to a storage, given by its URL: sqlite:///{target}"
        )
    try:
        storage = import_optuna().storages.get_storage(target)
    except CrystallizeOptError:
        raise
    except Exception as error:  # of Optuna, of SQLAlchemy, or of a database's driver
        first, *_ = str(error).splitlines() or [type(error).__name__]
        raise UsageError(
            f"{target!r} cannot be opened: {first}. Give the URL of a storage of Optuna, such as "
            "sqlite:///study.db, in a folder that exists."
        ) from error
    with _written_to(target):
        study_of(history, storage=storage)


def _to_csv(history: History, target: str) -> None:
    with _written_to(target):
        history.to_csv(target)


_FORMATS: dict[str, Callable[[History, str], None]] = {
    "csv": _to_csv,
    "json": _to_json,
    "parquet": _to_parquet,
    "optuna": _to_optuna,
}


def _write(target: str, text: str) -> None:
    with _written_to(target):
        Path(target).write_text(text, encoding="utf-8")


@contextlib.contextmanager
def _written_to(target: str) -> Any:
    try:
        yield
    except (OSError, UnicodeError) as error:  # A metric's name may have half of a character.
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"{target!r} cannot be written: {why}.") from error


def _report(given: Any) -> None:
    from crystallize_opt.analysis.report import report

    _refuse_own_file(given.file, given.target)
    history = _loaded(given.file, given.run)
    with _written_to(given.target):
        report(history, given.target)
    _print(f"The report of {history.name!r} is {given.target}")
    _print_notes(history.notes)


# Others -------------------------------------------------------------------------------------------


def _dashboard(given: Any) -> None:
    from crystallize_opt.integrations.dashboard import serve

    serve(given.file, given.run, host=given.host, port=given.port, say=_print)


def _serve(given: Any) -> None:
    from crystallize_opt.service.live import Settings
    from crystallize_opt.service.serve import Address, serve

    def say(text: str) -> None:
        _print(text)
        sys.stdout.flush()

    def warn(text: str) -> None:
        print(text, file=sys.stderr, flush=True)  # noqa: T201

    settings = Settings(given.optimizer, given.ttl)
    address = Address(
        given.host,
        given.port,
        given.allow_host,
        given.ssl_certfile,
        given.ssl_keyfile,
        given.rate_limit,
    )
    serve(given.file, settings, address, say=say, warn=warn)


def _token(given: Any) -> None:
    from crystallize_opt.service.serve import new_token

    made = new_token(
        given.file,
        client=given.client,
        experiment=given.experiment,
        read_only=given.read_only,
        days=given.days,
    )
    _print(f"token: {made}")


def _optimizers(_: Any) -> None:
    from crystallize_opt.adapters.__main__ import print_table as table

    table()
