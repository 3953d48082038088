"""Every Python block of the documents and every recipe prints what stands below it."""

from __future__ import annotations

import ast
import math
import runpy
import sys
from types import ModuleType

import pytest
import torch
from documents import blocks, recipe_outputs, recipes, same_output

import clusir_modules as cm
from clusir_modules.data.degradations.registry import DEGRADATIONS

PYTHON = [pytest.param(block, id=block.name) for block in blocks("python")]
RECIPES = [pytest.param(path, id=path.name) for path in recipes()]


@pytest.mark.parametrize("block", PYTHON)
def test_a_python_block_of_the_documents_prints_what_stands_below_it(block, tmp_path, monkeypatch, capsys):
    torch.manual_seed(1)  # a reader starts with any seed
    monkeypatch.chdir(tmp_path)
    for registry in (DEGRADATIONS, cm.NETWORKS, *cm.PARTS.values()):  # a block may register one of its own
        monkeypatch.setattr(registry, "_objects", dict(registry._objects))
    module = ModuleType("document")  # dataclasses look theirs up
    monkeypatch.setitem(sys.modules, "document", module)
    exec(compile(block.text, "<document>", "exec", dont_inherit=True), module.__dict__)
    printed = capsys.readouterr().out
    assert same_output(printed, block.output), f"{block.name} prints\n{printed}but shows\n{block.output}"


@pytest.mark.parametrize("path", RECIPES)
def test_a_recipe_runs_and_its_assertion_holds(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")
    printed, shown = capsys.readouterr().out, recipe_outputs()[path.name]
    # the numbers of a training differ between machines; what a recipe claims it asserts itself
    assert same_output(printed, shown, last=math.inf), f"{path.name} prints\n{printed}but its page shows\n{shown}"


@pytest.mark.parametrize("path", RECIPES)
def test_a_recipe_is_short_and_asserts_something(path):
    text = path.read_text("utf-8")
    assert len(text.splitlines()) < 90
    assert any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(text)))


def test_every_recipe_is_on_the_page_of_recipes():
    page = (recipes()[0].parents[1] / "recipes.md").read_text("utf-8")
    assert [path.name for path in recipes() if f"recipes/{path.name}" not in page] == []


@pytest.mark.parametrize(
    ("printed", "shown", "same"),
    [
        ("haze 0.93\n", "haze 0.92\n", True),
        ("haze 93%\n", "haze 92%\n", True),
        ("haze 0.93\n", "haze 0.91\n", False),
        ("haze 0.93\n", "haze 0.9\n", False),
        ("(1, 3, 60)\n", "(1, 3, 61)\n", False),
        ("haze\n", "", False),
    ],
)
def test_outputs_are_alike_but_for_the_last_decimal(printed, shown, same):
    assert same_output(printed, shown) == same


def test_no_output_stands_alone():
    assert [block.name for block in blocks("output")] == []
