"""Makes links out of `docs/` work on the site: the linked file becomes a page of its own.

A page may link a file of the repository, such as `../examples/quickstart.py`. Where the pages are
read as files, that link leads to the file; on the site, it leads to a page with the file's text. A
notebook's page has its pictures and tables, too.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"(?<=\]\()(\.\./[^)#\s]+)")
LANGUAGES = {".py": "python", ".toml": "toml", ".txt": "text", ".yml": "yaml"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each file outside of `docs/` that a page links to."""
    linked = {
        outside
        for file in files.documentation_pages()
        for link in LINK.findall(file.content_string)
        if (outside := _outside(link, file.src_uri))
    }
    for path in sorted(linked):
        text, pictures = _page_of(path)
        contents = {f"source/{path}.md": text} | {
            f"source/{PurePosixPath(path).parent}/{name}": data for name, data in pictures.items()
        }
        for uri, content in contents.items():
            hidden = InclusionLevel.NOT_IN_NAV
            files.append(File.generated(config, uri, content=content, inclusion=hidden))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Lead links out of `docs/` to the pages that `on_files` added."""

    def led(match: re.Match[str]) -> str:
        outside = _outside(match[1], page.file.src_uri)
        if outside is None:
            return match[1]
        return relpath(f"source/{outside}.md", str(PurePosixPath(page.file.src_uri).parent))

    return LINK.sub(led, markdown)


def _outside(link: str, page: str) -> str | None:
    """Return the path in the repository if the link leaves `docs/` and the file exists."""
    path = normpath(str(PurePosixPath("docs", page).parent / link))
    is_outside = not path.startswith(("docs/", "../")) and (ROOT / path).is_file()
    return path if is_outside else None


def _page_of(path: str) -> tuple[str, dict[str, bytes]]:
    """Return the text of a file's page, and its pictures by name."""
    if path.endswith(".ipynb"):
        export: Any = MarkdownExporter
        text, resources = export().from_filename(str(ROOT / path))
        return text, resources["outputs"]
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".md"):
        return text, {}
    language = LANGUAGES.get(PurePosixPath(path).suffix, "text")
    return f"# {path}\n\n````{language}\n{text}````\n", {}
