"""Which optimizers there are: ours, plug-ins of others, missing libraries, broken distributions."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from crystallize_opt import Objective, SpaceOptimizer
from crystallize_opt.adapters import (
    GridOptimizer,
    HEBOOptimizer,
    NePSOptimizer,
    OptunaOptimizer,
    RandomOptimizer,
    available_optimizers,
)
from crystallize_opt.adapters.__main__ import heading, row
from crystallize_opt.adapters.environments import ENVIRONMENTS
from crystallize_opt.errors import MissingExtraError

ROOT = Path(__file__).parents[2]
OURS = {
    "AxOptimizer": ["ax"],
    "BayBEOptimizer": ["baybe"],
    "GridOptimizer": [],
    "HEBOOptimizer": ["hebo"],
    "NePSOptimizer": ["neps"],
    "NevergradOptimizer": ["nevergrad"],
    "OptunaOptimizer": ["optuna"],
    "RandomOptimizer": [],
    "SMACOptimizer": ["smac", "ConfigSpace"],
}
OWN = ("HEBOOptimizer", "NePSOptimizer")  # They can be imported without their libraries.

PLUGIN = """
from crystallize_opt.adapters import RandomOptimizer
class MyOptimizer(RandomOptimizer):
    pass
class Inner:
    Other = MyOptimizer
nothing = 3
"""


def hide(monkeypatch: pytest.MonkeyPatch, *libraries: str) -> None:
    """Let libraries seem not to be installed."""
    find_spec = importlib.util.find_spec

    def find(name: str, package: str | None = None) -> object:
        return None if name in libraries else find_spec(name, package)

    monkeypatch.setattr("importlib.util.find_spec", find)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path, as of a virtual environment, to install distributions in."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def install(
    site: Path, name: str, entry_points: str | bytes, modules: dict[str, str] | None = None
) -> None:
    """Write what pip writes for a distribution that registers optimizers."""
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    if isinstance(entry_points, str):
        entry_points = f"[crystallize_opt.optimizers]\n{entry_points}\n".encode()
    (info / "entry_points.txt").write_bytes(entry_points)
    for module, source in (modules or {}).items():
        (site / f"{module}.py").write_text(source, encoding="utf-8")


# Ours -----------------------------------------------------------------------------------------


def test_ours_are_all_there() -> None:
    found = available_optimizers()

    assert [name for name, each in found.items() if each.origin == "crystallize-opt"] == [*OURS]
    for optimizer, expected in (
        ("RandomOptimizer", RandomOptimizer),
        ("GridOptimizer", GridOptimizer),
        ("OptunaOptimizer", OptunaOptimizer),
    ):
        each = found[optimizer]
        assert (each.name, each.installed, each.reason, each.install) == (
            optimizer,
            True,
            None,
            None,
        )
        assert each.load() is expected


@pytest.mark.parametrize(
    ("name", "library"), [(n, lib) for n, libs in OURS.items() for lib in libs]
)
def test_what_is_missing_is_said_with_the_command_that_installs_it(
    name: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, library)
    found = available_optimizers()
    missing = found[name]

    assert not missing.installed
    assert missing.reason == f"{name} needs {library}, which is not installed."
    extra = name.removesuffix("Optimizer").lower()
    command = f'pip install "crystallize-opt[{extra}]"'
    if extra in ENVIRONMENTS:
        command = f"python -m crystallize_opt.adapters install {extra} --into {extra}-env"
    assert missing.install == command
    others = [n for n, libraries in OURS.items() if not {library, "neps", "hebo"} & {*libraries}]
    assert all(found[other].installed for other in others)


def test_a_library_that_cannot_even_be_looked_for_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def find(name: str) -> None:
        raise ValueError(f"{name}.__spec__ is None")

    monkeypatch.setattr("importlib.util.find_spec", find)
    found = available_optimizers()

    assert [name for name in OURS if found[name].installed] == ["GridOptimizer", "RandomOptimizer"]


def test_listing_imports_nothing(tmp_path: Path) -> None:
    install(tmp_path, "my-plugin", "MyOptimizer = my_plugin:MyOptimizer", {"my_plugin": PLUGIN})
    code = """
import sys
from crystallize_opt.adapters import available_optimizers
print("importlib.metadata" in sys.modules)
found = available_optimizers()
others = ("Ax", "BayBE", "HEBO", "NePS", "Nevergrad", "Optuna", "SMAC")
print([name for name in found if name.removesuffix("Optimizer") not in others])
heavy = ("optuna", "smac", "ConfigSpace", "ax", "baybe", "nevergrad", "torch", "numpy", "my_plugin")
print([name for name in heavy if name in sys.modules])
"""
    shown = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert shown.stdout.splitlines() == [
        "False",
        "['GridOptimizer', 'RandomOptimizer', 'MyOptimizer']",
        "[]",
    ]


# Plug-ins -------------------------------------------------------------------------------------


def test_a_plugin_is_found_and_works(site: Path) -> None:
    install(
        site,
        "my-plugin",
        "MyOptimizer = my_good_plugin:MyOptimizer\nNested = my_good_plugin:Inner.Other [fast]",
        {"my_good_plugin": PLUGIN},
    )
    found = available_optimizers()
    plugin = found["MyOptimizer"]

    assert (plugin.origin, plugin.target) == ("my-plugin", "my_good_plugin:MyOptimizer")
    assert (plugin.installed, plugin.reason, plugin.install) == (True, None, None)
    loaded = plugin.load()
    assert issubclass(loaded, SpaceOptimizer)
    (treatment,) = loaded({"x": (0.0, 1.0)}, Objective("loss", "minimize")).ask()
    assert 0 <= treatment.params["x"] <= 1
    assert found["Nested"].load() is loaded


@pytest.mark.parametrize(
    ("entry_point", "reason"),
    [
        ("Bad = no_such_module:MyOptimizer", "there is no module 'no_such_module'"),
        ("Bad = not a module", "not of the form 'module:Class'"),
        ("Bad = only_a_module", "not of the form 'module:Class'"),
    ],
)
def test_a_plugin_that_cannot_be_there_says_why(site: Path, entry_point: str, reason: str) -> None:
    install(site, "bad-plugin", entry_point)
    install(site, "good", "Good = good_beside_bad:MyOptimizer", {"good_beside_bad": PLUGIN})
    found = available_optimizers()

    assert not found["Bad"].installed
    assert reason in str(found["Bad"].reason)
    with pytest.raises(MissingExtraError, match=r"Bad, registered by bad-plugin.*" + reason[:10]):
        found["Bad"].load()
    assert found["Good"].load().__name__ == "MyOptimizer"


def test_a_plugin_that_is_broken_within_shows_its_own_cause(site: Path) -> None:
    install(
        site,
        "bad-plugin",
        "Syntax = bad_syntax:A\nImport = bad_import:A\nClass = bad_class:A\nNothing = bad_class:b",
        {"bad_syntax": "def", "bad_import": "import no_such_library", "bad_class": "b = 3"},
    )
    found = available_optimizers()

    assert [found[name].installed for name in ("Syntax", "Import", "Class", "Nothing")] == [
        True
    ] * 4
    with pytest.raises(SyntaxError):
        found["Syntax"].load()
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        found["Import"].load()
    with pytest.raises(AttributeError, match="'A'"):
        found["Class"].load()
    with pytest.raises(TypeError, match="bad-plugin, is 3"):
        found["Nothing"].load()


@pytest.mark.parametrize(
    "entry_points", ["no equals sign", b"[crystallize_opt.optimizers]\nA = \xff\xfe:B\n"]
)
def test_a_file_that_cannot_be_read_hides_none_of_ours(
    site: Path, entry_points: str | bytes
) -> None:
    install(site, "bad-plugin", entry_points)
    found = available_optimizers()

    assert set(found) == {*OURS, "plug-ins"}
    assert not found["plug-ins"].installed
    assert "cannot be read" in str(found["plug-ins"].reason)


def test_a_plugin_takes_no_name_that_is_taken(site: Path) -> None:
    entry_point = "RandomOptimizer = my_taken_name:MyOptimizer"
    install(site, "my-plugin", entry_point, {"my_taken_name": PLUGIN})
    found = available_optimizers()

    assert found["RandomOptimizer"].load() is RandomOptimizer
    assert found["RandomOptimizer (my-plugin)"].load().__name__ == "MyOptimizer"


def test_a_distribution_that_is_there_twice_counts_once(site: Path, tmp_path: Path) -> None:
    entry_point = "MyOptimizer = my_twice:MyOptimizer"
    install(site, "my-plugin", entry_point, {"my_twice": PLUGIN})
    (site / "My_Plugin.egg-info").mkdir()
    (site / "My_Plugin.egg-info" / "PKG-INFO").write_text(
        "Metadata-Version: 2.1\nName: My_Plugin\n"
    )
    (site / "My_Plugin.egg-info" / "entry_points.txt").write_text(
        f"[crystallize_opt.optimizers]\n{entry_point}\n"
    )
    found = available_optimizers()

    assert [name for name in found if "MyOptimizer" in name] == ["MyOptimizer"]


def test_names_of_plugins_are_no_attributes_of_the_package(site: Path) -> None:
    install(site, "my-plugin", "MyOptimizer = my_attribute:MyOptimizer", {"my_attribute": PLUGIN})

    with pytest.raises(ImportError, match="cannot import name 'MyOptimizer'"):
        from crystallize_opt.adapters import MyOptimizer  # noqa: F401


# The table ------------------------------------------------------------------------------------


def test_the_table_in_the_docs_is_what_the_optimizers_declare() -> None:
    """`python -m crystallize_opt.adapters` prints it anew."""
    docs = (ROOT / "docs" / "optimizers.md").read_text(encoding="utf-8")

    lines = docs.split("## What each can do")[1].split("\n## ")[0].splitlines()
    assert heading() in docs
    assert [line.split("`")[1] for line in lines if line.startswith("| `")] == [*OURS]
    known = available_optimizers().values()
    for each in [each for each in known if each.installed or each.name in OWN]:
        if each.origin == "crystallize-opt":
            optimizer = each.load()
            assert issubclass(optimizer, SpaceOptimizer)
            assert row(each.name, optimizer.capabilities) in lines


def test_the_command_prints_the_table_and_what_is_missing(tmp_path: Path) -> None:
    install(tmp_path, "bad-plugin", "Bad = bad_on_the_command_line:A")
    code = """
import runpy, sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in ("ax", "baybe", "nevergrad", "smac", "optuna"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
runpy.run_module("crystallize_opt.adapters", run_name="__main__")
"""
    shown = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    lines = shown.stdout.splitlines()

    assert lines[:2] == heading().splitlines()
    assert lines[2:6] == [
        row("GridOptimizer", GridOptimizer.capabilities),
        row("HEBOOptimizer", HEBOOptimizer.capabilities),
        row("NePSOptimizer", NePSOptimizer.capabilities),
        row("RandomOptimizer", RandomOptimizer.capabilities),
    ]
    assert 'AxOptimizer needs ax, which is not installed. Run: pip install "cr' in shown.stdout
    assert "Bad, registered by bad-plugin, cannot be loaded" in shown.stdout


def test_where_nothing_is_installed_each_library_is_named(tmp_path: Path) -> None:
    code = f"""
import sys
class OnlyTheStandardLibrary:
    def find_spec(self, name, path=None, target=None):
        if name not in ("crystallize_opt", "tqdm") and not path:
            if name not in sys.stdlib_module_names:
                raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.path.insert(0, {str(ROOT)!r})
sys.meta_path.insert(0, OnlyTheStandardLibrary())
from crystallize_opt import Objective, adapters
from crystallize_opt.errors import MissingExtraError
for name in {[*OURS]!r}:
    try:
        kind = getattr(adapters, name)
        kind({{"x": [1, 2]}}, Objective("loss", "minimize"))
        print(name)
    except MissingExtraError as error:
        print(name, "needs", error.name)
"""
    shown = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert sorted(shown.stdout.splitlines()) == [
        "AxOptimizer needs ax",
        "BayBEOptimizer needs baybe",
        "GridOptimizer",
        "HEBOOptimizer needs hebo",
        "NePSOptimizer needs neps",
        "NevergradOptimizer needs nevergrad",
        "OptunaOptimizer needs optuna",
        "RandomOptimizer",
        "SMACOptimizer needs smac",
    ]


@pytest.mark.parametrize("name", OURS)
def test_importing_an_optimizer_changes_nothing_else(name: str, tmp_path: Path) -> None:
    """Each in a fresh process: its library is imported there for the first time."""
    code = f"""
# Whoever imports these, they add warnings filters of their own.
import numpy, tqdm.auto
from crystallize_opt.testing._world import changed, world
before = world()
from crystallize_opt.adapters import {name}
print(changed(before, world()))
"""
    shown = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert shown.stderr == ""
    assert shown.stdout.splitlines() == ["[]"]
    assert list(tmp_path.iterdir()) == []
