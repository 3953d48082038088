"""Every Python block of the documents and every recipe is executed."""

from __future__ import annotations

import ast
import runpy
import sys
from types import ModuleType

import pytest
from documents import blocks, recipes

import clusir_modules as cm
from clusir_modules.data.degradations.registry import DEGRADATIONS

PYTHON = [pytest.param(block.text, id=block.name) for block in blocks("python")]
RECIPES = [pytest.param(path, id=path.name) for path in recipes()]


@pytest.mark.parametrize("text", PYTHON)
def test_a_python_block_of_the_documents_runs(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for registry in (DEGRADATIONS, cm.NETWORKS, *cm.PARTS.values()):  # a block may register one of its own
        monkeypatch.setattr(registry, "_objects", dict(registry._objects))
    module = ModuleType("document")  # dataclasses look theirs up
    monkeypatch.setitem(sys.modules, "document", module)
    exec(compile(text, "<document>", "exec", dont_inherit=True), module.__dict__)


@pytest.mark.parametrize("path", RECIPES)
def test_a_recipe_runs_and_its_assertion_holds(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")


@pytest.mark.parametrize("path", RECIPES)
def test_a_recipe_is_short_and_asserts_something(path):
    text = path.read_text("utf-8")
    assert len(text.splitlines()) < 60
    assert any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(text)))


def test_every_recipe_is_on_the_page_of_recipes():
    page = (recipes()[0].parents[1] / "recipes.md").read_text("utf-8")
    assert [path.name for path in recipes() if f"recipes/{path.name}" not in page] == []
