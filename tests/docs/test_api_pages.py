"""Every public name has an entry in the reference, and an example in its docstring, which `test_documentation` runs."""

from __future__ import annotations

import inspect
import re

import pytest
from documents import DOCS
from torch import nn

import clusir_modules as cm

ENTRIES = set(re.findall(r"^   ([\w.]+)$", (DOCS / "api" / "index.md").read_text("utf-8"), re.MULTILINE))
WITH_DOCSTRING = [name for name in cm.__all__ if inspect.isclass(getattr(cm, name)) or callable(getattr(cm, name))]


@pytest.mark.parametrize("name", cm.__all__)
def test_a_public_name_has_an_entry(name):
    assert name in ENTRIES or any(entry.endswith(f".{name}") for entry in ENTRIES)


@pytest.mark.parametrize("name", WITH_DOCSTRING)
def test_a_public_name_has_an_example(name):
    assert ">>> " in inspect.getdoc(getattr(cm, name))


@pytest.mark.parametrize("name", [name for name in WITH_DOCSTRING if inspect.isclass(getattr(cm, name))])
def test_a_module_tells_its_shapes(name):
    module = getattr(cm, name)
    if issubclass(module, nn.Module):
        assert "Shape:" in inspect.getdoc(module)
