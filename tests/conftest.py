"""What every test shares: a fixed seed, random pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def make_pixels() -> Callable[..., np.ndarray]:
    """Smooth random pixels."""

    def make(height=20, width=28, channels=3, dtype=np.uint8, seed=0):
        draw = np.random.default_rng(seed)
        coarse = draw.random((5, 7, channels))
        fine = coarse.repeat(-(-height // 5), 0).repeat(-(-width // 7), 1)[:height, :width]
        noisy = (0.8 * fine + 0.1 + 0.05 * draw.standard_normal(fine.shape)).clip(0, 1)
        return np.round(noisy * np.iinfo(dtype).max).astype(dtype)

    return make


def pytest_make_parametrize_id(val: object) -> str | None:
    """Names that are no UTF-8, escaped: pytest-xdist cannot send them to another process."""
    return ascii(val) if isinstance(val, str) and not val.isascii() else None


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Iterator[None]:
    """Reports with file names that are no UTF-8 in them, for the same reason."""
    return _escaped((yield))


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_escaped(key): _escaped(entry) for key, entry in value.items()}
    return type(value)(map(_escaped, value)) if isinstance(value, list | tuple) else value


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
