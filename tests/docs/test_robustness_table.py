"""Every row of the table of faults names tests that exist."""

from __future__ import annotations

import ast
import re

import pytest
from documents import DOCS, ROOT

ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (DOCS / "robustness.md").read_text("utf-8").split("## Fault, what happens, test")[1].splitlines()
    if line.startswith("|") and not line.startswith(("|---", "| fault |"))
]
TARGETS = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)


def exists(named):
    """Whether a test is there, ``make TARGET`` or a file with ``::`` and the name of a class or function in it."""
    if named.startswith("make "):
        return named.removeprefix("make ") in TARGETS
    name, _, wanted = named.partition("::")
    path = ROOT / name if name.startswith("tests/") else ROOT / "tests" / "basicsr_plugin" / name
    if not path.is_file():
        return False
    defined = {
        node.name
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name.lower().startswith("test")
    }
    return wanted in defined if wanted else bool(defined)


@pytest.mark.parametrize("row", [pytest.param(row, id=row[0]) for row in ROWS])
def test_a_row_says_what_happens_and_names_tests_that_exist(row):
    fault, happens, tests = row
    assert fault
    assert happens
    names = re.findall(r"`([^`]+)`", tests)
    assert names
    assert [name for name in names if not exists(name)] == []


def test_what_does_not_exist_is_noticed():
    assert not exists("test_no_such_file.py")
    assert not exists("test_faults.py::test_no_such_name")
    assert not exists("make no-such-target")
