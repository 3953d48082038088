"""The documents and what is in their fences."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
_MADE = {"_build", "_generated", "generated"}
_FENCE = re.compile(r"^```((?:\{[\w-]+\} )?[\w./]+)\n(.*?)^```$(?:\n+```output\n(.*?)^```$)?", re.DOTALL | re.MULTILINE)
_MEASURED = re.compile(r"\d+\.(\d+)|\d+(?=%)")


class Block(NamedTuple):
    path: Path
    number: int
    text: str
    output: str
    """What stands below it in a fence ``output``."""

    @property
    def shown(self) -> str:
        """All that a reader sees."""
        return self.text + self.output

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
        fences = [rest for language, *rest in _FENCE.findall(path.read_text("utf-8")) if language in languages]
        found += [Block(path, number, *rest) for number, rest in enumerate(fences)]
    return found


def recipe_outputs() -> dict[str, str]:
    """What the page of recipes says that each of them prints, by the file's name."""
    fences = _FENCE.findall((DOCS / "recipes.md").read_text("utf-8"))
    return {name.rpartition("/")[2]: output for name, _, output in fences if name.startswith("{literalinclude}")}


def same_output(printed: str, shown: str, last: float = 1) -> bool:
    """Whether two outputs are alike, but for ``last`` more or less in the last place of decimals and percentages.

    These differ between machines, as sums are added in another order.
    """
    if _MEASURED.sub("#", printed) != _MEASURED.sub("#", shown):
        return False
    pairs = zip(_MEASURED.finditer(printed), _MEASURED.finditer(shown), strict=True)
    return all(
        len(one[1] or "") == len(other[1] or "")
        and abs(float(one[0]) - float(other[0])) < (last + 0.5) * 0.1 ** len(one[1] or "")
        for one, other in pairs
    )


def recipes() -> list[Path]:
    return sorted((DOCS / "recipes").glob("*.py"))
