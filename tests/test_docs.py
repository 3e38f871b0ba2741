"""What the pages and the README show is code that runs, and prints what they say.

The blocks of a page run in order in one namespace, in an empty folder. In a page,

- a block ```` ```python ```` runs;
- a block ```` ```output ```` is what the block before it prints; `...` stands for anything;
- a block ```` ```sql ```` is a query of `runs.db`, which has results;
- a comment `<!-- skip: next "reason" -->` leaves the next block out, and `skip: start "reason"` all
  blocks up to `skip: end`. `SKIPPED` below counts them;
- a comment `<!-- invisible-code-block: python`, lines of code, `-->` runs, but is not shown.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib
import io
import logging
import re
import shlex
import sqlite3
import tomllib
from collections.abc import Iterator
from pathlib import Path
from unittest import SkipTest

import pytest
from sybil import Document, Example
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser, SkipParser

import crystallize_opt
from crystallize_opt import cli
from crystallize_opt.optimizers.hooks import Hooks
from tests.adapters import pairs

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SKIPPED = {
    "docs/coming_from/automl_toolkit.md": 1,
    "docs/coming_from/ray_tune.md": 1,
    "docs/coming_from/sigopt.md": 3,
    "docs/parallel.md": 2,
    "docs/write_an_adapter.md": 6,
}
SHELL = re.compile(r"^(?:\$ )?(?:crystallize-opt|python -m crystallize_opt) (.*)$", re.MULTILINE)
INLINE = re.compile(r"(?<!`)`(?:crystallize-opt|python -m crystallize_opt) ([^`]*)`(?!`)")

every_page = pytest.mark.parametrize(
    "page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES]
)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def test_the_page_on_adapters_names_every_hook() -> None:
    page = text_of(ROOT / "docs/write_an_adapter.md")
    hooks = {name for name in vars(Hooks) if not name.startswith("__")}

    assert "_suggest" in hooks
    assert {name for name in hooks if not re.search(rf"\b{name}\b", page)} == set()


def python_of(page: str) -> list[str]:
    text = text_of(ROOT / "docs" / page)
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


class Page(Document):
    """A page whose blocks are run, and what the last block of code has printed."""

    printed = ""


def run(example: Example) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        PythonEvaluator()(example)
    assert isinstance(example.document, Page)
    example.document.printed = printed.getvalue()


def compare(example: Example) -> str | None:
    assert isinstance(example.document, Page)
    wanted, got = example.parsed, example.document.printed
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    checker = doctest.OutputChecker()
    if checker.check_output(wanted, got, flags):
        return None
    return checker.output_difference(doctest.Example("", wanted), got, flags)


def query(example: Example) -> None:
    with contextlib.closing(sqlite3.connect("runs.db")) as connection:
        assert connection.execute(example.parsed).fetchall()


def parse_toml(example: Example) -> None:
    assert tomllib.loads(example.parsed)


def parsed(page: Path) -> Page:
    evaluators = {"python": run, "output": compare, "sql": query, "toml": parse_toml}
    parsers = [CodeBlockParser(language, evaluate) for language, evaluate in evaluators.items()]
    document = Page.parse(str(page), *parsers, SkipParser())
    assert isinstance(document, Page)
    return document


@pytest.fixture
def optunas_logging() -> Iterator[None]:
    """A page may make Optuna quieter: only for itself."""
    logger = logging.getLogger("optuna")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of libraries that a page calls
@pytest.mark.usefixtures("optunas_logging")
@every_page
def test_the_code_of_a_page_runs_and_prints_what_the_page_says(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    skipped = []
    for example in parsed(page).examples():
        try:
            example.evaluate()
        except SkipTest as reason:
            skipped.append(str(reason))

    assert all(skipped), "a block is skipped for a reason"
    assert len(skipped) == SKIPPED.get(str(page.relative_to(ROOT)), 0), skipped


@every_page
def test_the_commands_of_a_page_are_those_of_the_command_line(page: Path) -> None:
    text = text_of(page)
    blocks = re.findall(r"^```(?:bash|console|text)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    commands = [command for block in blocks for command in SHELL.findall(block)]
    for command in [*commands, *INLINE.findall(text)]:
        words = shlex.split(command, comments=True)
        if len(words) == 1:  # the name of a command in a sentence
            words.append("--help")
        try:
            cli._parser().parse_args(words)
        except SystemExit as error:
            assert error.code == 0, command  # `--help`  # noqa: PT017


def test_the_six_jobs_take_the_lines_that_their_table_says() -> None:
    text = text_of(ROOT / "docs" / "six_jobs.md")
    said = [int(lines) for lines in re.findall(r"^\| \[.*\| \d+ \| (\d) \|$", text, re.MULTILINE)]
    jobs = [block.split("# the job\n")[1].splitlines() for block in python_of("six_jobs.md")]

    assert [len(lines) for lines in jobs] == said
    assert len(said) == 6
    assert max(said) <= 2
    assert max(len(line) for lines in jobs for line in lines) <= 120


def test_the_code_of_the_page_on_adapters_is_that_of_the_example() -> None:
    sources = [
        text_of(ROOT / "examples" / "custom_optimizer.py"),
        text_of(ROOT / "tests" / "test_custom_optimizer.py"),
    ]
    blocks = python_of("write_an_adapter.md")

    assert len(blocks) == 6
    assert [block for block in blocks if not any(block in source for source in sources)] == []


def test_the_links_of_the_readme_lead_somewhere() -> None:
    """The links between the pages are checked when the site is built."""
    for path, anchor in re.findall(r"\]\(([^)#:]+)#?([^)]*)\)", text_of(ROOT / "README.md")):
        target = ROOT / path
        assert target.exists(), path
        if anchor:
            headings = re.findall(r"^#+ (.*)$", text_of(target), re.MULTILINE)
            assert anchor in [heading.lower().replace(" ", "-") for heading in headings]


def test_every_page_is_in_the_navigation() -> None:
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in PAGES[1:]}
    navigation = text_of(ROOT / "mkdocs.yml").split("\nnav:\n")[1]

    assert sorted(pages) == sorted(
        re.findall(r"^ *- [^#]*?([\w/]+\.md)$", navigation, re.MULTILINE)
    )


@pytest.mark.parametrize(
    "module",
    ["", "analysis", *crystallize_opt._MODULES],
    ids=lambda part: part or "crystallize_opt",
)
def test_every_public_name_is_in_the_reference(module: str) -> None:
    text = "".join(text_of(page) for page in (ROOT / "docs" / "reference").glob("*.md"))
    whole = f"crystallize_opt.{module}".rstrip(".")
    names = getattr(importlib.import_module(whole), "__all__", None)
    if names is None:
        assert f"\n::: {whole}\n" in text
        return
    documented = re.findall(rf"^::: {whole}\.(\w+)$", text, re.MULTILINE)

    assert {*documented} - {*crystallize_opt._MODULES} <= {*names}
    assert {*names} - {*documented} <= ({*crystallize_opt.__all__} if module else set())


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_the_table_of_features_is_that_of_the_code() -> None:
    text = text_of(ROOT / "docs" / "optimizers.md")
    slow = [n for n, maker in pairs.MAKERS.items() if maker.is_slow and not maker.elsewhere]
    lines = pairs.table(name for name in pairs.MAKERS if name not in slow)

    assert [line for line in lines if line not in text] == []
    assert [name for name in slow if f"| {name} | " not in text] == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_the_table_of_features_is_that_of_the_code_of_the_slow() -> None:
    text = text_of(ROOT / "docs" / "optimizers.md")

    assert "\n".join(pairs.table(pairs.MAKERS)) in text


def test_the_code_of_the_page_on_other_processes_runs() -> None:
    for block in python_of("remote.md"):
        exec(block, {})  # noqa: S102
