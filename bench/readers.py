"""Readers in processes of their own (reader.py), and the pinned iterator that unprivileged ones read."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kvmscope.sources.bpf.attach import Attached, attach, detach

NOBODY = 65534
GROUP = 65533  # a group that nobody is in, but for our reader
ROOT = Path("/run/kvmscope-bench")


class Reader:
    """A running reader.py; tell it to read."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._answer()

    def read(self, times: int) -> dict[str, Any]:
        """Read so many times; see reader.py for what comes back."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{times}\n")
        self._process.stdin.flush()
        return self._answer()

    def read_once(self) -> int:
        return int(self.read(1)["ns"][0])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


@contextmanager
def attached() -> Iterator[Attached]:
    """The iterator, pinned for GROUP in a place of the benchmarks' own."""
    try:
        yield attach(gid=GROUP, root=ROOT)
    finally:
        detach(ROOT)


@contextmanager
def running_reader(*arguments: str, prefix: Sequence[str] = ()) -> Iterator[Reader]:
    command = [*prefix, sys.executable, str(Path(__file__).with_name("reader.py")), *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Reader(process)
        finally:
            process.kill()


@contextmanager
def unprivileged_reader() -> Iterator[Reader]:
    """A reader of what ``attached`` pinned: user nobody, no capability, one group."""
    setpriv = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--groups", str(GROUP)]
    with running_reader("--root", str(ROOT), prefix=setpriv) as reader:
        yield reader
