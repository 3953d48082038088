"""The directive ``before-after``: two pictures of one size, which a slider lays over each other.

Without JavaScript they stand side by side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from sphinx.application import Sphinx


class BeforeAfter(SphinxDirective):
    """A paragraph of two pictures with alternative texts, and what stands below them."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        box = nodes.container(classes=["before-after"])
        self.state.nested_parse(self.content, self.content_offset, box)
        texts = [picture.get("alt", "") for picture in box.findall(nodes.image)]
        if len(texts) != 2 or not all(texts):
            raise self.error(f"before-after must hold two pictures with alternative texts, got the texts {texts}")
        return [box]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive and the script behind it."""
    app.add_directive("before-after", BeforeAfter)
    app.add_js_file("before_after.js", loading_method="defer")
    return {"parallel_read_safe": True}
