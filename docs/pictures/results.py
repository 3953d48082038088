"""Pages of measured figures, put together from the files that the measuring programs wrote."""

from __future__ import annotations

import shutil
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "benchmarks" / "results"
_TITLES = {
    "contest": "Beside other networks, trained for the same time",
    "cpu_float32": "On a processor, float32",
    "gpu": "On a GPU",
    "growth": "How time and memory grow",
    "quality_additions": "What FFTLoss and a fallback bring",
    "quality_causes": "What each part is worth",
    "quality_cbsd68": "CBSD68, task by task",
    "quality_clusters": "Do the clusters name the degradation?",
    "quality_confidence": "Can the confidence be believed?",
    "quality_real": "Sets of other people",
    "quality_stability": "How steady a decision is",
}
_MISSING = "No file in `benchmarks/results` yet: `{command}` writes it.\n"


def _section(table: Path, folder: Path) -> str:
    """A table, and the picture of the same name if there is one."""
    title = _TITLES.get(table.stem, table.stem.replace("_", " ").capitalize())
    text = f"## {title}\n\n{table.read_text(encoding='utf-8').strip()}\n"
    text = text.replace("](", "](_generated/") if "](http" not in text else text
    picture = table.with_suffix(".png")
    if picture.is_file():
        shutil.copy(picture, folder / picture.name)
        text += f"\n![{title}](/_generated/{picture.name})\n"
    return text


def _page(tables: list[Path], folder: Path, command: str) -> str:
    return "\n".join(_section(table, folder) for table in tables) or _MISSING.format(command=command)


def draw(folder: Path) -> None:
    """Write ``benchmarks.md`` (speed and memory) and ``results.md`` (quality)."""
    tables = sorted(SOURCE.glob("*.md")) if SOURCE.is_dir() else []
    speed = [table for table in tables if table.stem.startswith(("cpu", "cuda", "gpu", "growth"))]
    quality = [table for table in tables if table not in speed]
    (folder / "benchmarks.md").write_text(_page(speed, folder, "make bench"), encoding="utf-8")
    (folder / "results.md").write_text(_page(quality, folder, "make quality"), encoding="utf-8")
