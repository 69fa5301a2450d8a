"""Runs inside an emulated kernel, and prints as JSON what kvmscope needs from it."""

from __future__ import annotations

import ctypes
import ctypes.util
import fcntl
import json
import os
import platform
import struct
from pathlib import Path

import numpy

import kvmscope

_KVM_GET_API_VERSION = 0xAE00
_KVM_CREATE_VM = 0xAE01
_KVM_CREATE_VCPU = 0xAE41
_KVM_GET_STATS_FD = 0xAECE


def _stats_count(owner: int) -> int:
    """``num_desc`` of a stats fd's header, its third word."""
    stats = fcntl.ioctl(owner, _KVM_GET_STATS_FD)
    count = int(struct.unpack_from("=III", os.pread(stats, 24, 0))[2])
    os.close(stats)
    return count


def _read(path: str) -> str | None:
    place = Path(path)
    return place.read_text(encoding="ascii").strip() if place.exists() else None


def main() -> None:
    """Print the answers."""
    kvm = os.open("/dev/kvm", os.O_RDWR)
    vm = fcntl.ioctl(kvm, _KVM_CREATE_VM, 0)
    vcpu = fcntl.ioctl(vm, _KVM_CREATE_VCPU, 0)
    libbpf = ctypes.CDLL("libbpf.so.1")
    answers = {
        "release": platform.release(),
        "machine": platform.machine(),
        "uid": os.geteuid(),
        "kvm_api": fcntl.ioctl(kvm, _KVM_GET_API_VERSION),
        "vm_stats": _stats_count(vm),
        "vcpu_stats": _stats_count(vcpu),
        "avic": _read("/sys/module/kvm_amd/parameters/avic"),
        "nested": _read("/sys/module/kvm_amd/parameters/nested"),
        "btf": sorted(path.name for path in Path("/sys/kernel/btf").iterdir()),
        "mounts": [line.split()[1] for line in Path("/proc/mounts").read_text(encoding="ascii").splitlines()],
        "libbpf_name": ctypes.util.find_library("bpf"),
        "libbpf": [libbpf.libbpf_major_version(), libbpf.libbpf_minor_version()],
        "numpy": numpy.__version__,
        "kvmscope": kvmscope.__file__,
        "events": Path("/sys/kernel/tracing/events/kvm").is_dir(),
    }
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
