"""A small part of `make fuzz-files`: pictures and weights with bytes flipped, cut, spliced."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_damaged_files_are_read_or_refused_and_nothing_else() -> None:
    command = [sys.executable, "tools/fuzz_files.py", "--pictures", "112", "--weights", "30", "--seed", "7"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
    counts = re.findall(r"(\d+) damaged (\w+) of \d+: (\d+) read, (\d+) refused, 0 failures", run.stdout)
    assert [(number, kind) for number, kind, _, _ in counts] == [("112", "pictures"), ("30", "weights")]
    assert all(int(read) > 0 and int(refused) > 0 for _, _, read, refused in counts)
