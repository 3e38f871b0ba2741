"""What is in the wheel and the sdist, and that the README's commands are the ones CI runs."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(  # noqa: S603
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return folder


def package_files() -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "crystallize_opt").rglob("*")
        if path.suffix in (".py", ".jinja") or path.name == "py.typed"
    }


def test_the_wheel_holds_the_package_and_nothing_else(distributions: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}

    assert names == package_files()
    assert "crystallize_opt/adapters/optuna/optimizer.py" in names
    assert "crystallize_opt/py.typed" in names


def test_the_sdist_holds_the_package_the_tests_and_the_docs(distributions: Path) -> None:
    (sdist,) = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert package_files() <= names
    assert {"README.md", "LICENSE", "CHANGELOG.md", "constraints.txt", "mkdocs.yml"} <= names
    assert {"tests/test_distribution.py", "examples/quickstart.py", "docs/optuna.md"} <= names
    assert not any(name.startswith("adapters") for name in names)


def test_the_link_at_the_top_leads_to_the_adapters() -> None:
    link = ROOT / "adapters"

    if link.is_symlink():  # Windows may check it out as a text file
        assert link.resolve() == ROOT / "crystallize_opt" / "adapters"
    else:
        assert link.read_text(encoding="utf-8") == "crystallize_opt/adapters"


def test_ci_runs_the_two_commands_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"```bash\n(.*?)\n```", readme, re.DOTALL)

    assert len(commands) == 2
    assert commands[0].endswith("python examples/quickstart.py")
    assert commands[1].endswith(
        "python -m pytest -n logical --dist loadfile --max-worker-restart 0"
    )
    assert all("\n" not in command for command in commands)


def test_each_extra_brings_in_one_library_only() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]

    libraries = {
        name: [re.split(r"[<>=]", each)[0] for each in extras[name]]
        for name in ("optuna", "ax", "smac")
    }
    assert libraries == {
        "optuna": ["optuna", "greenlet"],
        "ax": ["ax-platform"],
        "smac": ["smac", "ConfigSpace"],
    }
