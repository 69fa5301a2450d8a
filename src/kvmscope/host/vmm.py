"""Identifies the VM of a process: the VMM, the VM's name and uuid, its manager, and its vCPU threads.

Uses a process's own description of itself (command line, executable, thread names, cgroup), so it needs no privilege,
no library of a VMM and no cooperation. It does not find VMs: callers pass the processes that hold one. It does not read
configurations; ``qemu_args`` and ``libvirt_xml`` do. docs/reference/vmms.md lists the source of each name, by VMM.

Rule: a property that the process does not show is None. Nothing here is trusted: a process may claim any name, so names
are for people to read (through ``text.printable``) and never decide what is read or how.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from ..linux import procfs
from ..linux.files import PROC
from ..linux.kvmfiles import FdKind, parse_link
from .candidate import Candidate, Recognised
from .other_vmms import (
    RECOGNISERS,
    as_cloud_hypervisor,
    as_crosvm,
    as_firecracker,
    as_kvmtool,
    as_virtualbox,
    recognise_libkrun,
)
from .process import OTHER, VmmProcess
from .qemu_vm import as_qemu, recognise_by_options, recognise_qemu

_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)


def identify(pid: int, *, proc_root: str = PROC) -> VmmProcess | None:
    """The process ``pid`` as a VMM; None if it is gone."""
    process = procfs.open_process(pid, proc_root=proc_root)
    if process is None:
        return None
    with process:
        stat = process.stat()
        argv = process.argv()
        if stat is None or argv is None:
            return None
        return _identified(Candidate(process, stat, argv))


_VCPU_THREAD = re.compile(r"(?P<by_index>CPU (\d+)/KVM|vcpu(\d+))|(?:fc_vcpu |crosvm_vcpu|kvm-vcpu-)(\d+)")


def vcpu_threads(pid: int, *, proc_root: str = PROC) -> dict[int, int]:
    """vCPU id to thread id, from thread names; empty if the VMM does not name its threads or the names do not show it.

    QEMU and cloud-hypervisor number threads from 0 while vCPU ids on x86 are APIC ids, with holes for many topologies.
    For those the ids are taken from the open ``kvm-vcpu:ID`` files, which needs the right to ptrace the process.
    """
    process = procfs.open_process(pid, proc_root=proc_root)
    if process is None:
        return {}
    with process:
        found = [(m, tid) for tid, comm in (process.threads() or {}).items() if (m := _VCPU_THREAD.fullmatch(comm))]
        by_number = {int(m[2] or m[3] or m[4]): tid for m, tid in found}
        if len(by_number) != len(found):
            return {}  # two VMs in one process: the names do not show the VM of a thread
        if not any(m["by_index"] for m, _ in found):
            return dict(sorted(by_number.items()))
        files = [parse_link(fd, link) for fd, link in (process.fd_links() or {}).items()]
        ids = [file.vcpu_id for file in files if file and file.kind is FdKind.VCPU and file.vcpu_id is not None]
    # Both are in the order of the same vCPUs, unless vCPUs were unplugged: their files stay, their threads go.
    if len(ids) != len(by_number) or len(set(ids)) != len(ids):
        return {}
    return dict(zip(sorted(ids), (tid for _, tid in sorted(by_number.items())), strict=True))


_BY_THREAD: Final[tuple[tuple[re.Pattern[str], Callable[[Candidate], Recognised]], ...]] = (
    (re.compile(r"CPU \d+/KVM"), as_qemu),
    (re.compile(r"vcpu\d+"), as_cloud_hypervisor),
    (re.compile(r"fc_vcpu \d+"), as_firecracker),
    (re.compile(r"crosvm_vcpu\d+"), as_crosvm),
    (re.compile(r"kvm-vcpu-\d+"), as_kvmtool),
    (re.compile(r"EMT-\d+"), as_virtualbox),
)
"""The names of the vCPU threads of each VMM."""


def _recognise_by_threads(candidate: Candidate) -> Recognised | None:
    """Recognises a VMM by the names of its threads, if its program does not identify it."""
    names = (candidate.process.threads() or {}).values()
    return next((read(candidate) for pattern, read in _BY_THREAD if any(map(pattern.fullmatch, names))), None)


_RECOGNISERS: Final[tuple[Callable[[Candidate], Recognised | None], ...]] = (
    *RECOGNISERS,
    recognise_qemu,
    recognise_by_options,
    recognise_libkrun,
    _recognise_by_threads,
)


def _identified(candidate: Candidate) -> VmmProcess:
    found = next((found for recognise in _RECOGNISERS if (found := recognise(candidate))), Recognised(OTHER))
    name = found.name or candidate.given_name
    uuid = found.uuid if found.uuid and _UUID.fullmatch(found.uuid) else None
    known_as = dict((*found.known_as, *_known_by_cgroup(candidate)))
    managed_by = _manager(found, candidate)
    if managed_by == "libvirt" and name:
        known_as["libvirt.domain"] = name
    return VmmProcess(
        pid=candidate.process.pid,
        vmm=found.vmm,
        name=name or None,
        uuid=uuid.lower() if uuid else None,
        managed_by=managed_by,
        command=candidate.program or candidate.stat.comm,
        argv=candidate.argv,
        start_ticks=candidate.stat.start_ticks,
        known_as=tuple(known_as.items()),
        clue=None if name else found.clue or _clue_by_place(candidate),
    )


_PROXMOX: Final = re.compile(r"/qemu\.slice/(\d+)\.scope")
_CGROUP_MANAGERS: Final = (
    (re.compile(r"/machine-qemu\\x2d"), "libvirt"),
    (_PROXMOX, "proxmox"),
    (re.compile(r"/libpod-[0-9a-f]{64}"), "podman"),
    (re.compile(r"/docker[-/][0-9a-f]{64}"), "docker"),
    (re.compile(r"/kubepods"), "kubernetes"),
)


_INNERMOST = "jailer"
"""A manager that starts a single VM, possibly for another manager."""


def _manager(found: Recognised, candidate: Candidate) -> str | None:
    if found.managed_by is None or found.managed_by == _INNERMOST:
        return _manager_by_cgroup(candidate) or found.managed_by
    return found.managed_by


def _manager_by_cgroup(candidate: Candidate) -> str | None:
    return next((manager for pattern, manager in _CGROUP_MANAGERS if pattern.search(candidate.cgroups)), None)


_POD = re.compile(r"/kubepods[^\n]*[/-]pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})")


def _known_by_cgroup(candidate: Candidate) -> Iterator[tuple[str, str]]:
    if vm := _PROXMOX.search(candidate.cgroups):
        yield "proxmox.vmid", vm[1]
    if pod := _POD.search(candidate.cgroups):
        yield "kubernetes.pod_uid", pod[1].replace("_", "-")


def _clue_by_place(candidate: Candidate) -> str | None:
    """A clue for a process whose command line has none: the place where it runs."""
    directory = candidate.process.working_directory()
    if directory and directory != "/":
        return f"directory {directory}"
    group = candidate.cgroups.rpartition("\n")[2]
    return f"cgroup {group}" if group.strip("/") else None
