"""The suite's own rules on skips: summed up by reason, and forbidden where the machine need not make them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SUPPORT = Path(__file__).with_name("support")
SUITE = """
import pytest

@pytest.mark.parametrize("number", range(40))
def test_of_a_kernel(number):
    pytest.skip("no kernel is asked for")

@pytest.mark.parametrize("share", [20, 31])
def test_of_time(share):
    pytest.skip(f"its threads were queued {share} % of the time")

def test_that_runs():
    pass
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    for name in ("machine", "skips"):
        shutil.copy(SUPPORT / f"{name}.py", tmp_path)
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["machine", "skips"]\n', encoding="utf-8")
    (tmp_path / "test_some.py").write_text(SUITE, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    return tmp_path


def run(suite: Path, **settings: str) -> tuple[int, list[str]]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("KVMSCOPE_", "PYTEST_"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(suite)],
        cwd=suite,
        capture_output=True,
        text=True,
        check=False,
        env=ours | settings,
    )
    return done.returncode, done.stdout.splitlines()


def test_skips_are_a_line_for_each_reason_and_the_closing_line_is_the_runners(suite: Path) -> None:
    status, lines = run(suite)
    assert status == 0
    summary = lines[[line.strip("- ") for line in lines].index("skipped, by reason") + 1 : -1]
    assert [line for line in summary if line] == [
        "   40  no kernel is asked for",
        "    2  its threads were queued 20 % of the time",
    ]
    assert lines[-1].strip("= ").startswith("1 passed, 42 skipped in ")


def test_a_skip_that_is_not_allowed_is_a_failure_that_says_its_reason(suite: Path) -> None:
    allowed = suite / "allowed"
    allowed.write_text("# kinds of skips\nno kernel is asked for  # tried elsewhere\n", encoding="utf-8")
    status, lines = run(suite, KVMSCOPE_SKIPS=str(allowed))
    assert status == 1
    assert "KVMSCOPE_SKIPS does not allow to skip this: its threads were queued 31 % of the time" in lines
    assert lines[-1].strip("= ").startswith("2 failed, 1 passed, 40 skipped in ")


def test_a_thing_that_is_required_and_missing_is_a_failure(suite: Path) -> None:
    (suite / "test_some.py").write_text(
        "import pytest\n@pytest.mark.needs('gcc')\ndef test_it(): pass\n", encoding="utf-8"
    )
    nothing = {"PATH": str(suite)}
    assert run(suite, **nothing)[0] == 0
    status, lines = run(suite, **nothing, KVMSCOPE_REQUIRE="gcc")
    assert status == 1
    assert "KVMSCOPE_REQUIRE has gcc, but gcc is not installed" in "".join(lines)
