"""Formulas as MathML, which browsers draw by themselves: no script, no font, no network."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_SIZES = re.compile(r"\\[bB]igg?[lrm]?(?![a-zA-Z])")  # MathML sizes brackets by itself
_BARRED = re.compile(r"<munderover>\s*(<mi>\w</mi>)\s*(<mi>\w</mi>)\s*(<mo[^>]*>ˉ</mo>)\s*</munderover>")


def convert(formula: str, *, block: bool) -> str:
    """Return a formula as MathML.

    Raises:
        docutils.utils.math.MathError: it has a command that is not known there.
    """
    formula = _SIZES.sub("", formula).replace(r"\dots", r"\ldots")
    if block and r"\\" in formula and r"\begin" not in formula:
        formula = rf"\begin{{aligned}}{formula}\end{{aligned}}"
    # docutils puts the index of a barred letter below it
    return _BARRED.sub(r"<msub><mover>\1\3</mover>\2</msub>", str(tex2mathml(formula, as_block=block)))


def _visit_inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(convert(node.astext(), block=False))
    raise nodes.SkipNode


def _visit_block(translator: Any, node: nodes.math_block) -> None:
    from sphinx.util.math import get_node_equation_number

    translator.body.append(translator.starttag(node, "div", CLASS="math"))
    if node.get("number"):
        translator.body.append(f'<span class="eqno">({get_node_equation_number(translator, node)})</span>')
    translator.body.append(convert(node.astext(), block=True) + "</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer; Sphinx takes it because no other is loaded."""
    app.add_html_math_renderer("mathml", (_visit_inline, None), (_visit_block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True}
