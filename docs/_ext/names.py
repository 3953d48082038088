"""Names of the library in prose and in code lead to their entry in the API reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.transforms import SphinxTransform

import clusir_modules

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_ELSEWHERE = {"NETWORKS": "serialization.registry.NETWORKS", "PARTS": "networks.parts.PARTS"}
"""Objects without a docstring of their own have their entry where a comment stands beside them."""

_ABOVE = nodes.title | nodes.reference | pending_xref | nodes.literal_block


class LinkNames(SphinxTransform):
    """Make a link of the first mention of a public name in a section, as ``ClusterMoE`` or ``cm.restore``."""

    default_priority = 500

    def apply(self) -> None:
        """Go through the literals of the page; none in headings, links and the reference itself."""
        if self.env.docname.startswith("api/"):
            return
        linked = set()
        for literal in list(self.document.findall(nodes.literal)):
            name = literal.astext().removeprefix("cm.")
            if name not in clusir_modules.__all__ or _inside(literal):
                continue
            section = literal
            while not isinstance(section, nodes.section | nodes.document):
                section = section.parent
            if (id(section), name) in linked:
                continue
            linked.add((id(section), name))
            target = f"clusir_modules.{_ELSEWHERE.get(name, name)}"
            link = pending_xref("", refdomain="py", reftype="obj", reftarget=target, refdoc=self.env.docname)
            literal.replace_self(link)
            link += literal


def _inside(node: nodes.Node) -> bool:
    while node := node.parent:
        if isinstance(node, _ABOVE):
            return True
    return False


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the transform."""
    app.add_transform(LinkNames)
    return {"parallel_read_safe": True}
