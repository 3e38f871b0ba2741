"""Runs a contract's conversation in another process, and returns its suggestions and side effects.

The process imports the test module by name, or from its file if another module has that name.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from crystallize_opt.testing._base import ContractPart


@dataclass(frozen=True)
class Elsewhere:
    """What happened in the other process.

    Attributes:
        said: The suggestions.
        changed: The names of the global states that changed.
        printed: The text that the process wrote to stdout and stderr.
        files: The files that the process left in its working directory.
    """

    said: list[list[tuple[str, str, str]]]
    changed: list[str]
    printed: str
    files: list[str]


@functools.cache
def run_in_another_process(contract: type[ContractPart]) -> Elsewhere:
    """Run a contract's conversation in a fresh process, in an empty working directory.

    The process has a different PYTHONHASHSEED and a different number of threads in its libraries.
    """
    if "<locals>" in contract.__qualname__:
        pytest.fail(f"Define {contract.__qualname__} at the top level of a module.")
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        empty = Path(folder) / "empty"
        empty.mkdir()
        ran = subprocess.run(  # noqa: S603  (this Python, this code)
            [
                sys.executable,
                "-c",
                f"from {__name__} import main; main()",
                contract.__module__,
                inspect.getfile(contract),
                contract.__qualname__,
                str(report),
            ],
            cwd=empty,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path),
                "PYTHONHASHSEED": "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2",
                "OMP_NUM_THREADS": "1" if os.environ.get("OMP_NUM_THREADS") != "1" else "2",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        if ran.returncode:
            pytest.fail(f"{contract.__qualname__} fails in another process:\n{ran.stderr}")
        found = json.loads(report.read_text(encoding="utf-8"))
        said = [[tuple(parameter) for parameter in point] for point in found["said"]]
        files = sorted(path.relative_to(empty).as_posix() for path in empty.rglob("*"))
    return Elsewhere(said, found["changed"], ran.stdout + ran.stderr, files)


def main() -> None:
    """Run the conversation: the main function of the other process."""
    from crystallize_opt.testing._base import said_by
    from crystallize_opt.testing._world import changed, world

    name, file, qualname, report = sys.argv[1:]
    found: Any = _module(name, Path(file))
    for attribute in qualname.split("."):
        found = getattr(found, attribute)
    contract: Any = found()
    before = world()
    said = said_by(contract.converse())
    result = {"said": said, "changed": changed(before, world())}
    Path(report).write_text(json.dumps(result), encoding="utf-8")


def _module(name: str, file: Path) -> ModuleType:
    """Import a test module, whatever name pytest has given to it."""
    ways: list[Callable[[], ModuleType]] = [
        lambda: importlib.import_module(name),
        lambda: importlib.import_module(file.stem),
    ]
    for way in ways:
        try:
            module = way()
        except ModuleNotFoundError:
            continue
        if module.__file__ and Path(module.__file__).resolve() == file.resolve():
            return module
    spec = importlib.util.spec_from_file_location("_contract_under_test", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"Cannot import {file}.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
