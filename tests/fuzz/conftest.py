"""Counts the cases that the property tests ran, also over several processes, and prints them at the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fuzzing
import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    before = fuzzing.COUNT.cases
    try:
        return (yield)
    finally:
        item.user_properties.append(("fuzz cases", fuzzing.COUNT.cases - before))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    cases = tests = failures = 0
    for report in (report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, ())):
        counted = dict(report.user_properties).get("fuzz cases")
        if report.when == "call" and counted:
            tests, cases, failures = tests + 1, cases + counted, failures + report.failed
    if cases:
        terminalreporter.write_line(f"fuzz: {cases} cases run in {tests} properties, {failures} failures")
