"""Configuration of the documentation; `make docs` builds it."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
import textwrap
from pathlib import Path

_HERE = Path(__file__).parent
sys.path[:0] = [str(_HERE.parent), str(_HERE / "_ext")]
os.environ.setdefault("MPLBACKEND", "Agg")

from sphinx.application import Sphinx  # noqa: E402 - after the path

import clusir_modules  # noqa: E402

project = "clusir"
author = "The clusir authors"
project_copyright = author
version = release = clusir_modules.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "mathml",
    "generated",
    "browser",
    "checked",
    "names",
    "before_after",
    "diagram",
    "sphinx_codeautolink",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "_generated", "assets", "recipes/*.py"]
templates_path = ["_templates"]

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "signature"
autodoc_inherit_docstrings = False  # nn.Module's text on forward says nothing about ours
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # fields of a NamedTuple are members already
napoleon_custom_sections = ["Shape", "Reference"]

suppress_warnings = ["codeautolink.match_block"]  # docstrings whose marks for doctest Sphinx removes

html_theme = "furo"
html_title = f"clusir {release}"
html_static_path = ["_static"]
html_css_files = ["clusir.css"]
html_js_files = [("scrolling.js", {"defer": "defer"})]
html_show_sourcelink = False
pygments_style = "default"  # of enough contrast, unlike "friendly"
pygments_dark_style = "monokai"


def _choose(app: object, what: str, name: str, member: object, skip: bool, options: object) -> bool | None:
    """Leave out the members of a NamedTuple, which its docstring explains; show ``forward``, also without a text."""
    if str(getattr(member, "__doc__", "")).startswith("Alias for field number"):
        return True
    return False if name == "forward" else None


def _add_shapes(app: object, what: str, name: str, member: object, options: object, lines: list[str]) -> None:
    """Below ``forward`` stand the shapes, which the docstring of the class tells."""
    place, _, own = name.rpartition(".")
    if what != "method" or own != "forward":
        return
    module, _, cls = place.rpartition(".")
    text = inspect.getdoc(getattr(importlib.import_module(module), cls)) or ""
    if found := re.search(r"^Shape:\n((?: .*\n|\n)+)", text + "\n", re.MULTILINE):
        lines += ["", *textwrap.dedent(found[1]).strip().splitlines()]


def _tell_level(app: object, page: str, template: str, context: dict[str, object], doctree: object) -> None:
    """Headings of the navigation say their level, which assistive programs ask for."""
    tree = str(context.get("furo_navigation_tree", ""))
    context["furo_navigation_tree"] = tree.replace('role="heading"', 'role="heading" aria-level="2"')


def setup(app: Sphinx) -> None:
    """Connect the handlers."""
    app.connect("html-page-context", _tell_level, priority=900)  # after the theme's
    app.connect("autodoc-skip-member", _choose)
    app.connect("autodoc-process-docstring", _add_shapes)
