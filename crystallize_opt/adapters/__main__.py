"""`python -m crystallize_opt.adapters`: list the optimizers and their capabilities.

`python -m crystallize_opt.adapters install neps --into neps-env` makes an environment for an
optimizer whose library clashes with others.
"""

from __future__ import annotations

import argparse
import dataclasses
import subprocess
import sys
from collections.abc import Sequence

from crystallize_opt.adapters.registry import AvailableOptimizer, available_optimizers
from crystallize_opt.errors import UsageError
from crystallize_opt.optimizers.capabilities import Capabilities

_COLUMNS = [field.name for field in dataclasses.fields(Capabilities)]


def heading() -> str:
    """Return the first two lines of the table, in Markdown."""
    columns = ["optimizer", *(name.replace("_", " ") for name in _COLUMNS)]
    return f"{_row(columns)}\n{_row(['---'] * len(columns))}"


def row(name: str, capabilities: Capabilities) -> str:
    """Return an optimizer's row of the table."""
    every = Capabilities().parameters
    cells = [f"`{name}`"]
    for column in _COLUMNS:
        value = getattr(capabilities, column)
        if column == "parameters":
            kinds = ", ".join(f"`{kind.__name__}`" for kind in value)
            cells.append("all" if set(value) == set(every) else kinds)
        else:
            cells.append(value if isinstance(value, str) else "yes" if value else "no")
    return _row(cells)


def main(arguments: Sequence[str]) -> int:
    """Print the table, or make an environment; return the exit code."""
    if not arguments:
        print_table()
        return 0
    from crystallize_opt.adapters.environments import install

    parser = argparse.ArgumentParser(prog="python -m crystallize_opt.adapters")
    install_parser = parser.add_subparsers(required=True).add_parser(
        "install",
        help="make an environment for an optimizer whose library clashes with others",
        epilog="After --: further options of pip install, such as -c constraints.txt.",
    )
    install_parser.add_argument("extra", help="neps or hebo")
    install_parser.add_argument("--into", required=True, metavar="FOLDER", help="the environment")
    install_parser.add_argument("--python", help="the interpreter; by default, this one")
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    given = parser.parse_args(arguments[:cut])
    options = arguments[cut + 1 :]
    try:
        install(given.extra, given.into, given.python, options)
    except UsageError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    except subprocess.CalledProcessError as error:
        return error.returncode
    return 0


def print_table() -> None:
    """Print a table of the installed optimizers, and why the others are not installed."""
    rows, reasons = [], []
    for name, optimizer in available_optimizers().items():
        try:
            capabilities = _capabilities(optimizer)
        except Exception as error:  # noqa: BLE001  (one broken library does not hide the others)
            reasons.append(f"{name}: {error}")
        else:
            rows.append(row(name, capabilities))
    print("\n".join([heading(), *rows, "", *reasons]).rstrip())  # noqa: T201


def _capabilities(optimizer: AvailableOptimizer) -> Capabilities:
    """Return the capabilities of a class. One that is not a `SpaceOptimizer` declares none."""
    capabilities = getattr(optimizer.load(), "capabilities", None)
    if isinstance(capabilities, Capabilities):
        return capabilities
    raise TypeError(f"{optimizer.target} has no `capabilities`, so its own docs must say it.")


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
