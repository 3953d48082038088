"""What the page that restores pictures is built from, where npm is there and where it is not."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from documents import DOCS

from clusir_modules.inspection.degradation_table import read_table
from clusir_modules.networks.clusir import SHIPPED_WEIGHTS

sys.path.append(str(DOCS))
from pictures import browser


def test_without_npm_the_page_is_told_how_to_get_the_runtime(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    missing = browser._fetch_runtime(tmp_path)
    assert "lacks onnxruntime-web@" in missing
    assert "install npm" in missing
    described = browser._describe(tmp_path, missing)
    assert described["missing"] == missing
    assert described["bytes"] == 0
    browser._write_sizes(tmp_path / "try.md", tmp_path)
    assert (tmp_path / "try.md").read_text("utf-8").count("not in this build") == 4


def test_without_a_network_the_page_is_told_so_too(tmp_path, monkeypatch):
    def refuse(command, **options):
        raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(subprocess, "run", refuse)
    assert "npm could not get it" in browser._fetch_runtime(tmp_path)


@pytest.mark.parametrize("level", [0, 1])
def test_the_page_gets_the_table_of_the_weights(tmp_path, level):
    table, given = read_table(SHIPPED_WEIGHTS), browser._describe(tmp_path, None)["table"]
    assert given["kinds"] == table.kinds
    assert given["levels"][level] == table.levels[level]._asdict()
