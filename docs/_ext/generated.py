"""What the build makes before it reads the pages: pictures from photographs, tables of cost, results from files."""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util import logging

_LOG = logging.getLogger(__name__)
_SCRIPTS = (
    "wavelets",
    "frequency",
    "degradations",
    "losses",
    "tiles",
    "routing",
    "restoration",
    "diagrams",
    "weights",
    "separation",
    "mprnet",
    "costs",
    "results",
    "browser",
)


def _generate(app: Sphinx) -> None:
    folder = Path(app.srcdir) / "_generated"
    folder.mkdir(exist_ok=True)
    sys.path.insert(0, str(app.srcdir))
    for name in _SCRIPTS:
        start = time.perf_counter()
        importlib.import_module(f"pictures.{name}").draw(folder)
        _LOG.info("made %s in %.1f s", name, time.perf_counter() - start)


def setup(app: Sphinx) -> dict[str, bool]:
    """Run every script before the pages are read."""
    app.connect("builder-inited", _generate)
    return {"parallel_read_safe": True}
