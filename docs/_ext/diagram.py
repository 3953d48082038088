"""The directive ``diagram NAME``: a drawing of ``pictures/diagrams.py`` within the page, so that it has its colors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from sphinx.application import Sphinx


class ShowDiagram(SphinxDirective):
    """A figure of the SVG that the build drew."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        path = Path(self.env.srcdir) / "_generated" / f"diagram_{self.arguments[0]}.svg"
        if not path.is_file():
            raise self.error(f"no diagram is called {self.arguments[0]}: pictures/diagrams.py draws none")
        self.env.note_dependency(str(path))
        text = f"<figure>{path.read_text(encoding='utf-8')}</figure>"
        return [nodes.raw("", text, format="html")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("diagram", ShowDiagram)
    return {"parallel_read_safe": True}
