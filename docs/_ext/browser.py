"""Lays what `pictures/browser.py` made beside the page `try`, which loads it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def _copy(app: Sphinx, exception: Exception | None) -> None:
    if exception is None and app.builder.name == "html":
        shutil.copytree(
            Path(app.srcdir) / "_generated" / "try", Path(app.outdir) / "_static" / "try", dirs_exist_ok=True
        )


def setup(app: Sphinx) -> dict[str, bool]:
    """Copy when the page is written."""
    app.connect("build-finished", _copy)
    return {"parallel_read_safe": True}
