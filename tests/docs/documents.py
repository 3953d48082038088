"""The documents and what is in their fences."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_MADE = {"_build", "_generated", "generated"}
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    path: Path
    number: int
    text: str

    @property
    def name(self) -> str:
        return f"{self.path.relative_to(ROOT)}-{self.number}"


def pages() -> list[Path]:
    """README, CONTRIBUTING and the pages of the site that somebody wrote."""
    written = [path for path in sorted(DOCS.rglob("*.md")) if not _MADE & set(path.relative_to(DOCS).parts)]
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *written]


def blocks(*languages: str) -> list[Block]:
    """Fenced blocks of these languages, in order."""
    found = []
    for path in pages():
        texts = [text for language, text in _FENCE.findall(path.read_text("utf-8")) if language in languages]
        found += [Block(path, number, text) for number, text in enumerate(texts)]
    return found


def recipes() -> list[Path]:
    return sorted((DOCS / "recipes").glob("*.py"))
