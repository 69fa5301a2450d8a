"""Group apicv: what each event costs the vCPU that it happens to, by the kernel's own run statistics of BPF programs.

They include the kernel's two readings of its clock, which an empty program would show as well. Lab guests cause the
events. Those of AVIC, of delivery and of inhibition cannot be made to happen, or not be hooked, on every KVM: what did
not run here has no row.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.result import Row
from kvmscope.lab import process
from kvmscope.lab.spec import LabSpec
from kvmscope.sources.bpf.group import Hook
from kvmscope.sources.bpf.libbpf import library
from kvmscope.sources.bpf.source import BpfSource

_LIMIT_NS = 200
_RUN_TIME = 0  # BPF_STATS_RUN_TIME


def bench() -> Sequence[Row]:
    source = BpfSource(groups=("apicv",))
    try:
        assert source.hooks is not None
        with _run_statistics():
            for workload, count, vcpus in (("msi", 30_000, 1), ("ipi", 2_000, 2)):
                with process.start(LabSpec(workload=workload, count=count, vcpus=vcpus)) as guests:
                    guests.go()
                    guests.wait_for_done(120)
            return [row for hook in source.hooks.chosen for row in _row(hook, source.program.fd(hook.program))]
    finally:
        source.close()


def _row(hook: Hook, fd: int) -> Iterator[Row]:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/self/fdinfo/{fd}").read_text("ascii").splitlines())
    runs, time_ns = int(fields["run_cnt"]), int(fields["run_time_ns"])
    if runs:
        each = time_ns / runs
        yield Row(f"an event of {hook}", f"{each:.0f} ns ({runs:,} events)", f"≤ {_LIMIT_NS} ns", each <= _LIMIT_NS)


@contextmanager
def _run_statistics() -> Iterator[None]:
    """The kernel measures every BPF program for as long as a file is open."""
    fd = library().bpf_enable_stats(_RUN_TIME)
    if fd < 0:
        raise OSError(-fd, os.strerror(-fd))
    try:
        yield
    finally:
        os.close(fd)
