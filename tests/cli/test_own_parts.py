from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

PARTS = '''
import clusir_modules as cm


@cm.PARTS["block"].register
class BlockOfTheCommand(cm.WTB):
    """A block by another name."""
'''
SMALL = {"num_blocks": (1, 0, 0, 1), "num_decoder_blocks": (1, 0, 0), "num_refinement_blocks": 0, "embed_dim": 8}


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "clusir_cli", "restore", "in.png", "out.png", "--weights", "own.safetensors"]
    return subprocess.run([*command, *arguments], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_weights_with_parts_of_ones_own_are_restored_with_import(tmp_path: Path) -> None:
    (tmp_path / "parts_of_the_command.py").write_text(PARTS)
    (tmp_path / "make.py").write_text(
        "import torch, clusir_modules as cm, parts_of_the_command as own\n"
        "from clusir_modules.serialization.network_files import save_network\n"
        f"save_network(cm.ClusIR(8, block=own.BlockOfTheCommand, **{SMALL!r}), 'own.safetensors')\n"
    )
    made = subprocess.run([sys.executable, "make.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    Image.new("RGB", (20, 30), (90, 120, 30)).save(tmp_path / "in.png")
    unknown = run(tmp_path)
    assert unknown.returncode == 1
    assert "one of your own is known once the module that registers it is imported" in unknown.stderr
    missing = run(tmp_path, "--import", "nowhere")
    assert missing.returncode == 2
    assert "the module 'nowhere' cannot be imported" in missing.stderr
    assert "PYTHONPATH" in missing.stderr
    known = run(tmp_path, "--import", "parts_of_the_command")
    assert known.returncode == 0, known.stderr
    assert Image.open(tmp_path / "out.png").size == (20, 30)
