"""Parts of the documentation that are written by a program: between two comments that name the part.

<!-- made by docs/make_charts.py: run-states -->
…
<!-- end of run-states -->
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

HERE = Path(__file__).parent

Parts = Mapping[str, Callable[[], str]]


def renewed(page: Path, script: str, parts: Parts) -> str:
    """The text of a page with these parts written anew.

    Raises:
      ValueError: the page has no place for a part.
    """
    text = page.read_text(encoding="utf-8")
    for name, make in parts.items():
        begin, end = f"<!-- made by docs/{script}: {name} -->", f"<!-- end of {name} -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if not pattern.search(text):
            raise ValueError(f"{page} has no part {begin} … {end}")
        body = f"{begin}\n\n{make().strip()}\n\n{end}"
        text = pattern.sub(lambda _, body=body: body, text)  # type: ignore[misc]
    return text


def write(script: str, pages: Mapping[str, Parts]) -> None:
    """Write the parts into their pages, and name the pages that changed."""
    for name, parts in pages.items():
        page = HERE / name
        text = renewed(page, script, parts)
        if text != page.read_text(encoding="utf-8"):
            page.write_text(text, encoding="utf-8")
            sys.stdout.write(f"wrote {page.name}\n")
