"""A reader in a process of its own: reads when it is told to, and tells how long it took.

    reader.py --root DIRECTORY | --source NAME

The first line out says that the source is open. Then, one line in: how many reads. One line out, JSON: nanoseconds of
each, bytes of statistics in the last sample, how far the memory of this process grew over them at its peak, and what
the kernel holds in BPF maps that only this process has.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import suppress
from pathlib import Path

from kvmscope.collect import Host, open_host
from kvmscope.sources.bpf.source import PinnedSource


def main() -> None:
    parser = argparse.ArgumentParser()
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--root", type=Path)
    where.add_argument("--source")
    options = parser.parse_args()
    with open_root(options.root) if options.root else open_host(options.source) as host:
        print(json.dumps({"source": host.source}), flush=True)
        for line in sys.stdin:
            before = start_of_peak()
            taken, size = read(host, int(line))
            grown = status("VmHWM") - before
            answer = {"ns": taken, "bytes": size, "grown_bytes": grown, "map_bytes": map_bytes()}
            print(json.dumps(answer), flush=True)


def open_root(root: Path) -> Host:
    return Host(PinnedSource(root), {})


def read(host: Host, times: int) -> tuple[list[int], int]:
    """Nanoseconds of each read, and the bytes that KVM has for these subjects; a sample goes before the next one."""
    taken, size = [], 0
    for _ in range(times):
        began = time.perf_counter_ns()
        sample = host.read()
        taken.append(time.perf_counter_ns() - began)
        size = sum(block.values.nbytes for block in sample.blocks if block.schema.provider == "kvm")
        del sample
    return taken, size


def start_of_peak() -> int:
    """Let the peak of this process's memory begin anew; what it has now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return status("VmRSS")


def status(key: str) -> int:
    """A figure of this process's memory, in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {key}")


def map_bytes() -> int:
    """What the BPF maps cost that this process has open, by the kernel's account."""
    costs = {}
    for path in Path("/proc/self/fdinfo").iterdir():
        with suppress(FileNotFoundError):  # the fd that listed them
            info = dict(line.split(":", 1) for line in path.read_text(encoding="ascii").splitlines() if ":" in line)
            if "map_type" in info:  # several fds can be of one map
                costs[info["map_id"]] = int(info["memlock"])
    return sum(costs.values())


if __name__ == "__main__":
    main()
