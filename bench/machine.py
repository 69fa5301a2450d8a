"""What the machine is, as far as it bears on the figures. Never its name, nor any path on it."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import numpy as np


def describe() -> list[str]:
    """A line a thing, as Markdown list items."""
    return [
        f"- CPU: {_cpu()}, {os.cpu_count()} cores",
        f"- kernel: Linux {_kernel()}, {_kvm_modules()}",
        f"- QEMU {_qemu()}, Python {platform.python_version()}, numpy {np.__version__}",
        f"- load average at the start: {os.getloadavg()[0]:.1f}",
    ]


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _kernel() -> str:
    """Without what the builder of the kernel appended, which can name a machine."""
    found = re.match(r"[0-9.]+", platform.release())
    return found[0].rstrip(".") if found else sys.platform


def _kvm_modules() -> str:
    modules = sorted(path.name for path in Path("/sys/module").glob("kvm*"))
    return ", ".join(modules) or "no kvm module"


def _qemu() -> str:
    try:
        done = subprocess.run(["qemu-system-x86_64", "--version"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "not installed"
    found = re.search(r"version ([0-9.]+)", done.stdout)
    return found[1] if found else "of unknown version"
