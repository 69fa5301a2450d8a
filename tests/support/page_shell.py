"""A shell that runs the lines of a page, one after another, as its reader does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = f"{Path(sys.executable).parent}:{os.environ['PATH']}"


class PageShell:
    """A bash that says how each line ended; its jobs are those of the page."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            ["bash", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env={**os.environ, "PATH": PROGRAMS, "COLUMNS": "120"},
        )
        self.run("set -m -o pipefail")

    def run(self, line: str) -> tuple[int, str]:
        """Exit code and output, stderr included."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\ncode=$?; echo; echo ended: $code\n")
        self._process.stdin.flush()
        output = ""
        for text in self._process.stdout:
            if found := re.fullmatch(r"ended: (\d+)\n", text):
                return int(found[1]), output
            output += text
        raise AssertionError(f"the shell ended at {line!r}: {output}")

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("kill $(jobs -p) 2>/dev/null; wait\n")
        self._process.stdin.close()
        assert self._process.stdout is not None
        self._process.stdout.read()
        self._process.wait()
        self._process.stdout.close()


@contextmanager
def shell(folder: Path) -> Iterator[PageShell]:
    opened = PageShell(folder)
    try:
        yield opened
    finally:
        opened.close()
