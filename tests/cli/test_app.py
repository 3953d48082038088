"""The command as a program of its own."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from click.testing import CliRunner
from PIL import Image

from clusir_cli.app import main

ROOT = Path(__file__).parents[2]


def test_the_command_starts_without_torch():
    script = "import sys, clusir_cli.app; print([n for n in ('torch', 'PIL', 'numpy') if n in sys.modules])"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert run.stdout.strip() == "[]"


def test_without_an_argument_it_teaches_by_three_examples_that_run(tmp_path, monkeypatch, make_pixels):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(make_pixels()).save("photo.jpg")
    runner = CliRunner()
    shown = runner.invoke(main)
    assert shown.exit_code == 0
    lines = re.findall(r"^  clusir (.+?)(?:  |$)", shown.stdout, re.MULTILINE)
    assert [line.split()[0] for line in lines] == ["restore", "inspect", "degrade"]
    for line in lines:
        result = runner.invoke(main, line.split())
        assert result.exit_code == 0, result.output
    assert (tmp_path / "restored.jpg").is_file()
    assert (tmp_path / "rainy.jpg").is_file()


def test_the_package_installs_the_command():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts["clusir"] == "clusir_cli.app:main"


def test_the_module_lists_the_subcommands():
    run = subprocess.run(
        [sys.executable, "-m", "clusir_cli", "--help"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    listed = [line.split()[0] for line in run.stdout.split("Commands:")[1].splitlines() if line.strip()]
    assert listed == ["bench", "check", "degrade", "export", "info", "inspect", "restore"]
