"""Every formula of the pages and docstrings can be drawn by the site."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys

from documents import DOCS, pages
from docutils.utils.math import MathError

import clusir_modules

sys.path.append(str(DOCS / "_ext"))
from mathml import convert


def docstrings():
    for info in pkgutil.walk_packages(clusir_modules.__path__, "clusir_modules."):
        if info.name.startswith("clusir_modules.integrations"):
            continue
        for member in vars(importlib.import_module(info.name)).values():
            if getattr(member, "__module__", None) == info.name:
                inner = vars(member).values() if inspect.isclass(member) else ()
                yield from (inspect.getdoc(part) or "" for part in (member, *inner) if callable(part))


def formulas():
    for text in docstrings():
        for block in re.findall(r"^\.\. math::((?:[^\n]*\n?)(?:\n|[ ]+[^\n]+\n?)*)", text, re.MULTILINE):
            yield block.strip(), True
        for inline in re.findall(r":math:`([^`]+)`", text):
            yield inline, False
    for path in pages():
        text = re.sub(r"^```.*?^```|`[^`\n]*`", "", path.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
        for block in re.findall(r"^\$\$\n(.*?)^\$\$", text, re.DOTALL | re.MULTILINE):
            yield block.strip(), True
        for inline in re.findall(
            r"(?<![\\$])\$([^$\n]+)\$", re.sub(r"^\$\$\n.*?^\$\$", "", text, flags=re.DOTALL | re.M)
        ):
            yield inline, False


def test_every_formula_can_be_drawn():
    found, refused = list(formulas()), []
    for formula, block in found:
        try:
            convert(formula, block=block)
        except MathError as error:
            refused.append(f"{formula}: {error}")
    assert len(found) > 50
    assert sum(block for _, block in found) > 20
    assert refused == []
