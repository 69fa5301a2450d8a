"""Facts of this host: kernel, KVM module and its parameters, CPU, lockdown.

Reads /proc and /sys under roots that are passed in; nothing is mounted, written or executed. What the facts mean for a
statistic is not said here.

Rule: a fact that cannot be had is a ``Fact`` without a value but with the reason, never a default.

Source: Documentation/ABI/testing/sysfs-module (``initstate`` exists for loaded modules alone), kernel/module/main.c,
security/lockdown/lockdown.c, arch/x86/kernel/cpu/proc.c, arch/arm64/kernel/cpuinfo.c, kernel/utsname_sysctl.c.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, Generic, TypeVar

T = TypeVar("T")

SYS: Final = "/sys"
PROC: Final = "/proc"


@dataclass(frozen=True, slots=True)
class Fact(Generic[T]):
    """A value, or None and the reason why there is none."""

    value: T | None
    reason: str | None = None

    @classmethod
    def unknown(cls, reason: str) -> Fact[T]:
        return cls(None, reason)


@dataclass(frozen=True, slots=True)
class Module:
    """A kernel module as /sys/module shows it. ``parameters``: by name, as the kernel writes them (``Y``, ``-1``)."""

    name: str
    is_built_in: bool
    parameters: Mapping[str, Fact[str]]


@dataclass(frozen=True, slots=True)
class Cpu:
    """The first CPU of /proc/cpuinfo. ``flags``: x86 ``flags`` with ``vmx flags``, or arm64 ``Features``."""

    vendor: str | None
    model: str | None
    flags: frozenset[str]


@dataclass(frozen=True, slots=True)
class Machine:
    """``kvm``: the common module. ``kvm_vendor``: the one that does the work (``kvm_intel``, ``kvm_amd``, …).

    On an architecture without such a split (arm64, s390, riscv) both are ``kvm``. ``lockdown``: ``none``,
    ``integrity`` or ``confidentiality``.
    """

    hostname: Fact[str]
    kernel_release: Fact[str]
    architecture: Fact[str]
    kvm: Fact[Module]
    kvm_vendor: Fact[Module]
    cpu: Fact[Cpu]
    lockdown: Fact[str]


def read_machine(*, proc_root: str = PROC, sys_root: str = SYS) -> Machine:
    """Every fact of the host; never raises for a missing one."""
    architecture = _read_architecture(proc_root)
    cpu = read_cpu(proc_root=proc_root)
    return Machine(
        hostname=_read_line(f"{proc_root}/sys/kernel/hostname"),
        kernel_release=_read_line(f"{proc_root}/sys/kernel/osrelease"),
        architecture=architecture,
        kvm=read_module("kvm", sys_root=sys_root),
        kvm_vendor=_read_vendor_module(sys_root, cpu, architecture),
        cpu=cpu,
        lockdown=read_lockdown(sys_root=sys_root),
    )


def read_module(name: str, *, sys_root: str = SYS) -> Fact[Module]:
    """One module that is loaded or built in.

    A built-in module without parameters does not show in /sys/module, so it is then reported as absent.
    """
    path = Path(sys_root, "module", name)
    try:
        is_there = path.is_dir()
        is_loaded = (path / "initstate").exists()
    except OSError as error:
        return Fact.unknown(_why(error))
    if not is_there:
        return Fact.unknown(f"no {path}: {name} is neither loaded nor built in with parameters")
    return Fact(Module(name, not is_loaded, _read_parameters(path / "parameters")))


def read_cpu(*, proc_root: str = PROC) -> Fact[Cpu]:
    """Vendor, model and flags of the first CPU."""
    text = _read(f"{proc_root}/cpuinfo")
    if text.value is None:
        return Fact.unknown(text.reason or "")
    fields: dict[str, str] = {}
    for line in text.value.split("\n\n", 1)[0].splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    flags = " ".join(fields.get(key, "") for key in ("flags", "vmx flags", "Features"))
    return Fact(
        Cpu(
            vendor=fields.get("vendor_id") or fields.get("CPU implementer"),
            model=fields.get("model name") or fields.get("CPU part"),
            flags=frozenset(flags.split()),
        )
    )


def read_lockdown(*, sys_root: str = SYS) -> Fact[str]:
    """The level in force. The file is in securityfs, which is not always mounted and is not mounted here."""
    path = f"{sys_root}/kernel/security/lockdown"
    text = _read(path)
    if text.value is None:
        return Fact.unknown(f"{text.reason} (securityfs not mounted, or the kernel has no lockdown)")
    chosen = re.search(r"\[(\w+)\]", text.value)
    return Fact(chosen[1]) if chosen else Fact.unknown(f"{path} marks no level as chosen")


_NEEDS_FLAG: Final = {"kvm_intel": "vmx", "kvm_amd": "svm"}
_X86: Final = frozenset({"x86_64", "i686", "i586", "i486", "i386"})


def _read_vendor_module(sys_root: str, cpu: Fact[Cpu], architecture: Fact[str]) -> Fact[Module]:
    names = sorted(path.name for path in Path(sys_root, "module").glob("kvm_*"))
    modules = [module.value for name in names if (module := read_module(name, sys_root=sys_root)).value is not None]
    if not modules:
        if architecture.value is not None and architecture.value not in _X86:
            return read_module("kvm", sys_root=sys_root)
        return Fact.unknown(f"no kvm_* in {sys_root}/module")
    # A loadable module that found no hardware for itself does not stay loaded. One that is built in stays in any case.
    loaded = [module for module in modules if not module.is_built_in]
    flags = cpu.value.flags if cpu.value else frozenset()
    candidates = loaded or [m for m in modules if _NEEDS_FLAG.get(m.name) in (None, *flags)]
    if len(candidates) == 1:
        return Fact(candidates[0])
    names_found = ", ".join(module.name for module in candidates or modules)
    return Fact.unknown(f"cannot tell which is in use: {names_found}")


def _read_parameters(directory: Path) -> Mapping[str, Fact[str]]:
    try:
        names = sorted(path.name for path in directory.iterdir())
    except OSError:
        names = []
    return MappingProxyType({name: _read_line(str(directory / name)) for name in names})


def _read_architecture(proc_root: str) -> Fact[str]:
    told = _read_line(f"{proc_root}/sys/kernel/arch")  # since Linux 6.1
    if told.value is None and proc_root == PROC:
        return Fact(os.uname().machine)
    return told


def _read_line(path: str) -> Fact[str]:
    text = _read(path)
    return text if text.value is None else Fact(text.value.strip())


def _read(path: str) -> Fact[str]:
    try:
        return Fact(Path(path).read_bytes().decode("utf-8", "backslashreplace"))
    except OSError as error:
        return Fact.unknown(_why(error))


def _why(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}"
