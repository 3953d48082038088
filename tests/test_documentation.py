"""Every example in a docstring prints what it says. The documents have tests of their own, in `tests/docs`."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest
import torch

import clusir_modules

MODULES = [
    info.name
    for info in pkgutil.walk_packages(clusir_modules.__path__, "clusir_modules.")
    if not info.name.startswith("clusir_modules.integrations")
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_print_what_they_say(name):
    module = importlib.import_module(name)
    result = doctest.testmod(module, extraglobs={"torch": torch}, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0
