"""Skips, summed up by reason, and forbidden where the machine need not make them.

KVMSCOPE_SKIPS=FILE turns every skip into a failure whose reason matches none of the patterns in FILE, one a line.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from functools import cache
from pathlib import Path

import pytest


@cache
def allowed_skips() -> tuple[re.Pattern[str], ...] | None:
    """Patterns of KVMSCOPE_SKIPS, one a line; None if every skip is allowed."""
    file = os.environ.get("KVMSCOPE_SKIPS")
    if file is None:
        return None
    lines = (line.partition("#")[0].strip() for line in Path(file).read_text(encoding="utf-8").splitlines())
    return tuple(re.compile(line) for line in lines if line)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    allowed = allowed_skips()
    if report.skipped and allowed is not None and not any(each.search(skip_reason(report)) for each in allowed):
        report.outcome = "failed"
        report.longrepr = f"KVMSCOPE_SKIPS does not allow to skip this: {skip_reason(report)}"
    return report


def skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The reason that a skip was given, without pytest's prefix."""
    said = report.longrepr
    return str(said[2] if isinstance(said, tuple) else said).removeprefix("Skipped: ")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Sums skips up by reason, the most frequent first; reasons that differ in a figure count as one."""
    skips: dict[str, list[str]] = {}
    for report in terminalreporter.getreports("skipped"):
        reason = skip_reason(report).partition("\n")[0]
        skips.setdefault(re.sub(r"\d+", "0", reason), []).append(reason)
    if skips:
        terminalreporter.section("skipped, by reason", sep="-")
    for reasons in sorted(skips.values(), key=len, reverse=True):
        terminalreporter.line(f"{len(reasons):5}  {reasons[0]}")
