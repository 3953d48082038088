"""What every test shares: a fixed seed."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many examples of the documents ran: code blocks and recipes."""
    counts = {}
    for outcome in ("passed", "failed", "skipped"):
        names = [getattr(report, "nodeid", "") for report in terminalreporter.stats.get(outcome, [])]
        for kind, test in (("blocks", "test_a_python_block"), ("recipes", "test_a_recipe_runs")):
            counts[outcome, kind] = sum(f"docs/test_code_blocks.py::{test}" in name for name in names)
    if any(counts.values()):
        executed = " and ".join(f"{counts['passed', kind]} {kind}" for kind in ("blocks", "recipes"))
        others = sum(count for (outcome, _), count in counts.items() if outcome != "passed")
        terminalreporter.write_line(f"examples of the documents executed: {executed}, {others} failed or skipped")
