"""What a release must agree on."""

from __future__ import annotations

import tomllib
from pathlib import Path

import yaml

import clusir_modules

ROOT = Path(__file__).parents[1]


def test_one_version_and_one_license() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == project.get("version", clusir_modules.__version__) == clusir_modules.__version__
    assert citation["license"] == project["license"]
