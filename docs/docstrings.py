"""Shows the examples of docstrings as code.

The docstrings head them by `Example:`, as Google's style guide does; Griffe, which reads the
docstrings for the site, knows only `Examples:`.
"""

from __future__ import annotations

import re
from typing import Any

import griffe


class ExamplesOfDocstrings(griffe.Extension):
    """Renames the section `Example:` for Griffe's parser."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of one object; Griffe calls this before the docstring is parsed."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(
                r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE
            )
