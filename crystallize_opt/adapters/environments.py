"""Optimizers whose libraries need an environment of their own, because their pins clash.

`python -m crystallize_opt.adapters install neps --into neps-env` makes such an environment.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from crystallize_opt.adapters.registry import install_command
from crystallize_opt.adapters.remote.optimizer import RemoteOptimizer
from crystallize_opt.adapters.remote.process import interpreter
from crystallize_opt.errors import MissingExtraError, UsageError
from crystallize_opt.optimizers.hooks import Handle
from crystallize_opt.optimizers.space_optimizer import SpaceOptimizer


@dataclass(frozen=True)
class Environment:
    """What an environment of its own holds.

    Attributes:
        requirements: What pip installs, after torch.
        newest: The newest Python that the library has wheels for; None for any.
        why: Why it cannot share an environment.
    """

    requirements: tuple[str, ...]
    newest: tuple[int, int] | None
    why: str


ENVIRONMENTS: Mapping[str, Environment] = {
    "hebo": Environment(
        # All but the first: without them, pip tries dozens of releases, and builds some.
        (
            *("HEBO==0.3.6", "GPy==1.13.2", "catboost==1.2.8", "gpytorch==1.13"),
            *("linear-operator==0.5.3", "matplotlib==3.8.4", "numpy==1.24.4", "pandas==2.0.3"),
            *("pymoo==0.6.0", "scikit-learn==1.3.2", "scipy==1.12.0"),
        ),
        (3, 11),
        "HEBO 0.3.6 pins numpy below 1.25 and pymoo 0.6.0",
    ),
    "neps": Environment(
        ("neural-pipeline-search>=0.17,<0.18",),
        None,
        "NePS pins gpytorch 1.13, which the BoTorch of Ax cannot use",
    ),
}
TORCH = "torch>=2.4"


def missing_environment(who: str, library: str, extra: str) -> MissingExtraError:
    """Return the error of an optimizer whose library is not installed."""
    return MissingExtraError(
        f"{who} needs {library}, which is not installed here. {ENVIRONMENTS[extra].why}, so it "
        f"gets an environment of its own. Run: {install_command(extra)} and build {who}(..., "
        f"python='{extra}-env').",
        name=library,
    )


class InOwnEnvironment(SpaceOptimizer[Handle]):
    """An optimizer that `python=` runs in another environment.

    With `python=` (and `timeout=`), the class builds the `RemoteOptimizer` that runs it there.
    """

    def __new__(cls, *args: Any, python: Any = None, **options: Any) -> Self:
        if python is None:
            return super().__new__(cls)
        remote: Any = RemoteOptimizer(cls, *args, python=python, **options)
        return remote  # type: ignore[no-any-return]  # It has all methods of the class.


def install(extra: str, folder: str, python: str | None, pip_options: Sequence[str]) -> None:
    """Make a virtual environment, and install the library of an optimizer in it.

    Args:
        extra: The name of the extra.
        folder: The folder of the environment; one that exists is kept, and added to.
        python: The interpreter; None for this one.
        pip_options: Further options of `pip install`.

    Raises:
        UsageError: The extra needs no environment of its own, or not this Python.
        CalledProcessError: A command failed.
    """
    if extra not in ENVIRONMENTS:
        raise UsageError(
            f"{extra!r} needs no environment of its own. Those that do: {', '.join(ENVIRONMENTS)}. "
            f'Install others beside this package: pip install "crystallize-opt[{extra}]".'
        )
    environment = ENVIRONMENTS[extra]
    base = interpreter(python)
    if base is None:
        raise UsageError(f"There is no interpreter {python!r}.")
    _check_version(base, extra, environment)
    print(f"{environment.why}: it gets an environment of its own, {folder}.")  # noqa: T201
    if not Path(folder).is_dir():
        _run([base, "-m", "venv", folder])
    own = interpreter(folder)
    if own is None:
        raise UsageError(f"{folder!r} is no virtual environment. Give another folder.")
    # torch first: pip would choose a build with CUDA, unless one that fits is there.
    for requirements in ((TORCH,), environment.requirements):
        _run([own, "-m", "pip", "install", *pip_options, *requirements])
    print(f"Use it with python={folder!r}.")  # noqa: T201


def _check_version(python: str, extra: str, environment: Environment) -> None:
    if environment.newest is None:
        return
    code = "import sys; print(*sys.version_info[:2])"
    found = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)  # noqa: S603
    version = tuple(map(int, found.stdout.split()))
    if version > environment.newest:
        newest = ".".join(map(str, environment.newest))
        raise UsageError(
            f"The libraries of {extra!r} have no wheels for Python {'.'.join(map(str, version))}; "
            f"the newest is {newest}. Give another interpreter: --python python{newest}."
        )


def _run(command: Sequence[str]) -> None:
    print(f"+ {shlex.join(command)}", flush=True)  # noqa: T201
    subprocess.run(command, check=True)  # noqa: S603
