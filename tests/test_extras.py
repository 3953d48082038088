from __future__ import annotations

from importlib import metadata

import pytest

from clusir_modules.extras import install_hint

REQUIREMENTS = [
    "torch>=2.8",
    "onnx>=1.17; extra == 'export'",
    'onnxruntime>=1.27 ; extra == "export"',
    "x; extra == 'exports'",
]


def test_the_packages_of_an_extra_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "requires", lambda name: REQUIREMENTS)
    assert install_hint("export") == "pip install 'onnx>=1.17' 'onnxruntime>=1.27'"


def test_a_source_tree_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", missing)
    assert install_hint("export") == "in a checkout of clusir: pip install '.[export]'"
