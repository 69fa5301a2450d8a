"""Runs inside an emulated kernel, where KVM is modules: what an unprivileged user reads by which capabilities.

The output is one JSON object; what it should be is said in tests/kernels/test_capabilities.py.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import struct
from pathlib import Path

from kvmscope.errors import SourceError
from kvmscope.lab import process
from kvmscope.lab.spec import BARE, LabSpec
from kvmscope.linux.capabilities import Capability, effective_capabilities
from kvmscope.sources.bpf.source import BpfSource

GROUPS = ("", "apic", "apicv", "exits", "mmu_lock", "userspace", "accesses", "wakeups", "dirty")
_VERSION_3 = 0x2008_0522
_KEEP_CAPABILITIES = 8
_NOBODY = 65534


def become(*capabilities: Capability) -> None:
    """An unprivileged user with these capabilities, for good."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_KEEP_CAPABILITIES, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    mask = sum(1 << capability for capability in capabilities)
    low, high = mask & 0xFFFF_FFFF, mask >> 32
    header = struct.pack("=Ii", _VERSION_3, 0)
    assert libc.capset(header, struct.pack("=6I", low, low, 0, high, high, 0)) == 0
    assert effective_capabilities() == set(capabilities)


def opening(group: str) -> list[object]:
    """Numbers of VMs and vCPUs, blocks and gaps; or kind, reason and remedy of the refusal."""
    try:
        source = BpfSource([group] if group else [])
    except SourceError as error:
        return [type(error).__name__, error.reason, error.remedy]
    with contextlib.closing(source):
        sample = source.read()
    providers = sorted({block.schema.provider for block in sample.blocks})
    return [len(sample.vms), len(sample.vcpus), providers, sorted({gap.reason for gap in sample.gaps})]


def as_nobody(*capabilities: Capability) -> dict[str, list[object]]:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        become(*capabilities)
        os.write(writer, json.dumps({group: opening(group) for group in GROUPS}).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        answer: dict[str, list[object]] = json.loads(file.read())
    os.waitpid(child, 0)
    return answer


def main() -> None:
    Path("/dev/kvm").chmod(0o666)
    with process.start(LabSpec(workload=BARE, vms=2, vcpus=2)) as lab:
        lab.wait_for_ready()
        enough = (Capability.BPF, Capability.PERFMON)
        print(
            json.dumps(
                {
                    "none": as_nobody(),
                    "bpf and perfmon": as_nobody(*enough),
                    "sys_admin too": as_nobody(*enough, Capability.SYS_ADMIN),
                }
            )
        )


if __name__ == "__main__":
    main()
