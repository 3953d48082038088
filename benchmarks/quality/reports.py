"""How every evaluation leaves its result: figures as JSON, the same as a table."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

__all__ = ["write_report"]


def write_report(path: Path, figures: Any, lines: Iterable[str]) -> None:
    """Write ``figures`` to ``path`` as ``.json`` and ``lines`` as ``.md``, and print the lines."""
    path.with_suffix(".json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    table = "\n".join(lines)
    path.with_suffix(".md").write_text(table + "\n", encoding="utf-8")
    print(table)
