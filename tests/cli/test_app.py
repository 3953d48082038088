"""The command as a program of its own."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_command_starts_without_torch():
    script = "import sys, clusir_cli.app; print([n for n in ('torch', 'PIL', 'numpy') if n in sys.modules])"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert run.stdout.strip() == "[]"


def test_the_package_installs_the_command():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts["clusir"] == "clusir_cli.app:main"


def test_the_module_lists_the_subcommands():
    run = subprocess.run(
        [sys.executable, "-m", "clusir_cli", "--help"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    listed = [line.split()[0] for line in run.stdout.split("Commands:")[1].splitlines() if line.strip()]
    assert listed == ["check", "degrade", "export", "info", "inspect", "restore"]
