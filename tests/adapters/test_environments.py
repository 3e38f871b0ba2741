"""Optimizers whose libraries need an environment of their own."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from crystallize_opt import Objective
from crystallize_opt.adapters import (
    HEBOOptimizer,
    NePSOptimizer,
    RandomOptimizer,
    RemoteOptimizer,
    environments,
)
from crystallize_opt.adapters.__main__ import main
from crystallize_opt.adapters.environments import ENVIRONMENTS, Environment
from crystallize_opt.adapters.registry import OWN_ENVIRONMENT
from crystallize_opt.errors import MissingExtraError
from crystallize_opt.runtime.extras import is_installed
from tests.adapters.remote import makers

ROOT = Path(__file__).parents[2]
LOSS = Objective("loss", "minimize")
SPACE = {"x": (0.0, 1.0)}


def test_the_extras_are_those_of_the_environments_and_not_in_all() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = extras["optional-dependencies"]

    assert tuple(ENVIRONMENTS) == OWN_ENVIRONMENT
    for name, environment in ENVIRONMENTS.items():
        assert extras[name] == [environment.requirements[0]]
        assert name not in extras["all"][0]


@pytest.mark.parametrize("kind", [HEBOOptimizer, NePSOptimizer])
def test_a_missing_library_is_said_with_the_command_that_makes_its_environment(
    kind: type[HEBOOptimizer | NePSOptimizer],
) -> None:
    extra = kind.__name__.removesuffix("Optimizer").lower()
    if is_installed(extra):
        pytest.skip(f"{extra} is installed here")

    for python in (None, sys.executable):
        with pytest.raises(MissingExtraError) as error:
            kind(SPACE, LOSS, python=python)
        command = f"python -m crystallize_opt.adapters install {extra} --into {extra}-env"
        assert command in str(error.value)
        assert f"python='{extra}-env'" in str(error.value)


def test_with_an_interpreter_the_optimizer_runs_there() -> None:
    here = makers.Elsewhere(SPACE, LOSS, seed=0)
    there = makers.Elsewhere(SPACE, LOSS, seed=0, python=sys.executable, timeout=60.0)

    assert type(here) is makers.Elsewhere
    assert isinstance(there, RemoteOptimizer)
    assert there.timeout == 60.0
    expected = RandomOptimizer(SPACE, LOSS, seed=0).ask()[0].params
    assert here.ask()[0].params == there.ask()[0].params == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["install", "optuna", "--into", "env"], "needs no environment of its own"),
        (["install", "neps", "--into", "env", "--python", "/no/python"], "'/no/python'"),
        (["install", "old", "--into", "env"], "--python python3.5"),
    ],
)
def test_what_cannot_be_installed_is_refused(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    old = Environment(("old",), (3, 5), "It is old")
    monkeypatch.setattr(environments, "ENVIRONMENTS", {**ENVIRONMENTS, "old": old})

    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not Path("env").exists()


def test_the_commands_are_shown_and_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """With an interpreter that only says what it is asked for."""
    python = tmp_path / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "ran $@"\n')
    python.chmod(0o755)
    monkeypatch.chdir(tmp_path)

    assert main(["install", "neps", "--into", "env", "--", "-c", "pins.txt"]) == 0

    said = capfd.readouterr().out
    assert "NePS pins gpytorch" in said
    ran = [line for line in said.splitlines() if line.startswith("ran ")]
    assert ran == [
        "ran -m pip install -c pins.txt torch>=2.4",
        "ran -m pip install -c pins.txt neural-pipeline-search>=0.17,<0.18",
    ]
    assert "Use it with python='env'" in said
