"""Every Python block of the documents runs; what they name exists."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
import torch

import clusir_modules

ROOT = Path(__file__).parents[1]
BLOCKS = [
    pytest.param(block, id=f"{path.relative_to(ROOT)}-{number}")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL))
]
MODULES = [
    info.name
    for info in pkgutil.walk_packages(clusir_modules.__path__, "clusir_modules.")
    if not info.name.startswith("clusir_modules.integrations")
]


@pytest.mark.parametrize("block", BLOCKS)
def test_a_python_block_of_the_documents_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "<document>", "exec"), {"__name__": "__document__"})


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_print_what_they_say(name):
    module = importlib.import_module(name)
    result = doctest.testmod(module, extraglobs={"torch": torch}, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


def test_the_option_files_that_the_readme_names_exist():
    from basicsr_plugin.option_files import list_options

    names = {name.rsplit("/", 1)[-1] for name in list_options()}
    named = set(re.findall(r"(?:--copy |-opt )(clusir_\w+|mprnet_\w+)", (ROOT / "README.md").read_text()))
    assert named
    assert named <= names


def test_links_between_documents_lead_somewhere():
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"
