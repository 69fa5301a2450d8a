"""Runs inside an emulated kernel: how the BPF source fares as lockdown tightens. Prints one JSON object."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from kvmscope.errors import SourceError
from kvmscope.sources.bpf.source import BpfSource

LOCKDOWN = Path("/sys/kernel/security/lockdown")


def opening() -> list[str]:
    """``["works"]``, or kind, reason and remedy of the refusal."""
    try:
        source = BpfSource()
    except SourceError as error:
        return [type(error).__name__, error.reason, error.remedy]
    source.read()
    source.close()
    return ["works"]


def main() -> None:
    if not LOCKDOWN.exists():
        subprocess.run(["mount", "-t", "securityfs", "none", "/sys/kernel/security"], check=True)
    answer = {"none": opening()}
    for mode in ("integrity", "confidentiality"):
        LOCKDOWN.write_text(mode, encoding="ascii")
        answer[mode] = opening()
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
