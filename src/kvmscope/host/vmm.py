"""Which process is which VM: the VMM, the VM's name and uuid, who manages it, and its vCPU threads.

Works from what a process says of itself (command line, thread names, cgroup), so it needs no privilege, no library of
a VMM and no cooperation. It does not find VMs: callers pass the processes that hold one. It does not read
configurations; ``qemu_args`` and ``libvirt_xml`` do. docs/vmms.md says, VMM by VMM, where each name comes from.

Rule: what the process does not say is None. Nothing here is trusted: a process may claim any name, so names are for
people to read (through ``text.printable``) and never decide what is read or how.

Source: the command lines of QEMU 7.2 to 11, libvirt (qemu and ch drivers), Proxmox qemu-server, KubeVirt, Kata, Nova,
Incus, Firecracker and its jailer, cloud-hypervisor, crosvm, kvmtool, libkrun, krunvm and crun; see docs/vmms.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Final

from ..linux import procfs
from ..linux.files import PROC
from ..linux.kvmfiles import FdKind, parse_link
from . import qemu_args
from .process import OTHER, VmmProcess

_MAX_FILE_NAME = 255

_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)


def identify(pid: int, *, proc_root: str = PROC) -> VmmProcess | None:
    """What the process ``pid`` is; None if it is gone."""
    process = procfs.open_process(pid, proc_root=proc_root)
    if process is None:
        return None
    with process:
        stat = process.stat()
        argv = process.argv()
        if stat is None or argv is None:
            return None
        return _identified(_Subject(process, stat, argv))


_VCPU_THREAD = re.compile(r"(?P<by_index>CPU (\d+)/KVM|vcpu(\d+))|(?:fc_vcpu |crosvm_vcpu|kvm-vcpu-)(\d+)")


def vcpu_threads(pid: int, *, proc_root: str = PROC) -> dict[int, int]:
    """vCPU id to thread id, from thread names; empty if the VMM does not name its threads or the names do not tell.

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
            return {}  # two VMs in one process: the names do not say which thread is whose
        if not any(m["by_index"] for m, _ in found):
            return dict(sorted(by_number.items()))
        files = [parse_link(fd, link) for fd, link in (process.fd_links() or {}).items()]
        ids = [file.vcpu_id for file in files if file and file.kind is FdKind.VCPU and file.vcpu_id is not None]
    # Both count upwards through the same vCPUs. Not so once vCPUs were unplugged: their files stay, their threads go.
    if len(ids) != len(by_number) or len(set(ids)) != len(ids):
        return {}
    return dict(zip(sorted(ids), (tid for _, tid in sorted(by_number.items())), strict=True))


@dataclass(frozen=True)
class _Subject:
    """A process that is being looked at; what costs a system call is read when somebody asks."""

    process: procfs.Process
    stat: procfs.ProcessStat
    argv: tuple[str, ...]

    @cached_property
    def program(self) -> str:
        """File name of the program by its command line, without what packagers wrap around it (NixOS)."""
        if not self.argv:
            return ""
        name = self.argv[0].rpartition("/")[2][:_MAX_FILE_NAME]
        wrapped = re.fullmatch(r"\.(.+)-wrapped", name)
        return wrapped[1] if wrapped else name

    @cached_property
    def cgroups(self) -> str:
        return "\n".join(self.process.cgroups() or ())

    def mentions(self, text: str) -> bool:
        return any(text in word for word in self.argv)


@dataclass(frozen=True, slots=True)
class _Recognised:
    vmm: str
    name: str | None = None
    uuid: str | None = None
    managed_by: str | None = None


def _identified(subject: _Subject) -> VmmProcess:
    found = next((found for recognise in _RECOGNISERS if (found := recognise(subject))), _Recognised(OTHER))
    uuid = found.uuid if found.uuid and _UUID.fullmatch(found.uuid) else None
    return VmmProcess(
        pid=subject.process.pid,
        vmm=found.vmm,
        name=found.name or None,
        uuid=uuid.lower() if uuid else None,
        managed_by=found.managed_by or _manager_by_cgroup(subject),
        command=subject.program or subject.stat.comm,
        argv=subject.argv,
        start_ticks=subject.stat.start_ticks,
    )


# --- QEMU -------------------------------------------------------------------------------------------------------------

_QEMU = re.compile(r"qemu|(?:qemu-)?kvm(?:-spice)?|qemu(?:-[a-z0-9]+)*-system-[\w.-]+")


def _qemu(subject: _Subject) -> _Recognised | None:
    if not _QEMU.fullmatch(subject.program):
        return None
    config = qemu_args.parse(subject.argv)
    system = next((table for table in config.smbios if table.text("type") == "1"), qemu_args.Properties(None))
    return _Recognised("qemu", config.name, config.uuid or system.text("uuid"), _qemu_manager(subject, config, system))


def _qemu_manager(subject: _Subject, config: qemu_args.QemuConfig, system: qemu_args.Properties) -> str | None:
    """Outermost first: KubeVirt and Nova run QEMU through libvirt."""
    signs = (
        ("kubevirt", system.text("manufacturer") == "KubeVirt" or subject.mentions("/run/kubevirt")),
        ("openstack", (system.text("product") or "").startswith("OpenStack")),
        ("proxmox", config.has("id") and subject.mentions("/run/qemu-server/")),
        ("kata", subject.mentions("/run/vc/vm/")),
        ("incus", any("/incus/" in path for path in config.config_files)),
        ("lxd", any("/lxd/" in path for path in config.config_files)),
        ("libvirt", any(chardev.startswith("socket,id=charmonitor") for chardev in config.values("chardev"))),
    )
    return next((manager for manager, is_shown in signs if is_shown), None)


# --- VMMs with GNU-like options ---------------------------------------------------------------------------------------


def _firecracker(subject: _Subject) -> _Recognised | None:
    # The jailer may run the binary under any file name, but always with these two.
    jailed = "--start-time-us" in subject.argv and "--parent-cpu-time-us" in subject.argv
    if not subject.program.startswith("firecracker") and not jailed:
        return None
    name = _option(subject.argv, "--id")
    return _Recognised(
        "firecracker", None if name == "anonymous-instance" else name, managed_by="jailer" if jailed else None
    )


def _cloud_hypervisor(subject: _Subject) -> _Recognised | None:
    if not subject.program.startswith("cloud-hypervisor"):
        return None
    platform = dict(qemu_args.split_pairs(_option(subject.argv, "--platform") or ""))
    uuid = platform.get("system_uuid") or platform.get("uuid")
    # libvirt passes its API socket as an inherited fd, but names the event pipe after the VM.
    _, libvirt, pipe = (_path_in(_option(subject.argv, "--event-monitor")) or "").rpartition("/libvirt/ch/")
    if libvirt:
        return _Recognised("cloud-hypervisor", pipe.removesuffix("-event-monitor-fifo"), uuid, "libvirt")
    socket = _path_in(_option(subject.argv, "--api-socket"))
    _, kata, inside = (socket or "").partition("/run/vc/vm/")
    if kata:
        return _Recognised("cloud-hypervisor", inside.partition("/")[0], uuid, "kata")
    return _Recognised("cloud-hypervisor", _name_by_socket(socket), uuid)


def _crosvm(subject: _Subject) -> _Recognised | None:
    if subject.program != "crosvm":
        return None
    name = _option(subject.argv, "--name")
    socket = _option(subject.argv, "--socket") or _option(subject.argv, "-s")
    return _Recognised("crosvm", name or _name_by_socket(socket))


def _kvmtool(subject: _Subject) -> _Recognised | None:
    # kvmtool installs itself as "vm" too, a name that anything may have; its subcommands decide.
    if subject.program not in ("lkvm", "lkvm-static", "kvmtool", "vm") or subject.argv[1:2] not in (
        ("run",),
        ("sandbox",),
    ):
        return None
    # -n is --network here. Without --name, kvmtool calls the guest after its pid, or after the directory it boots.
    name = _option(subject.argv, "--name")
    if name is None and _option(subject.argv, "--disk") is None and _option(subject.argv, "-d") is None:
        status = subject.process.status()
        name = f"guest-{status.ns_pids[-1]}" if status and status.ns_pids else None
    return _Recognised("kvmtool", name)


def _lab(subject: _Subject) -> _Recognised | None:
    if ("-m", "kvmscope.lab.process") not in zip(subject.argv, subject.argv[1:], strict=False):
        return None
    return _Recognised("kvmscope-lab", _option(subject.argv, "--name"))


# --- libkrun: a library, so the program may be anything ---------------------------------------------------------------

_KRUN_LIBRARY = re.compile(r"/libkrun(?:-\w+)?\.so[.\d]*(?: \(deleted\))?$")


def _libkrun(subject: _Subject) -> _Recognised | None:
    comm = subject.stat.comm
    krunvm = subject.program == "krunvm"
    if not (krunvm or comm == "libkrun VM" or comm.startswith("VM:") or _maps_libkrun(subject)):
        return None
    # krun_start_enter() names its thread after $HOSTNAME, of which 12 bytes fit.
    name = comm.removeprefix("VM:") if comm.startswith("VM:") else None
    if krunvm:
        return _Recognised("libkrun", _krunvm_name(subject.argv) or name, managed_by="krunvm")
    container = re.search(r"(?:libpod|crun|docker|cri-containerd)-([0-9a-f]{12})[0-9a-f]{52}", subject.cgroups)
    return _Recognised("libkrun", name or (container[1] if container else None))


def _maps_libkrun(subject: _Subject) -> bool:
    return any(_KRUN_LIBRARY.search(path) for path in subject.process.mapped_files() or ())


def _krunvm_name(argv: Sequence[str]) -> str | None:
    """``krunvm start [--cpus N] [--mem N] [--env K=V] NAME [COMMAND]``."""
    if "start" not in argv:
        return None
    words = iter(argv[argv.index("start") + 1 :])
    for word in words:
        if not word.startswith("-"):
            return word
        if word in ("--cpus", "--mem", "--env"):
            next(words, None)
    return None


# --- common -----------------------------------------------------------------------------------------------------------

_RECOGNISERS: Final[tuple[Callable[[_Subject], _Recognised | None], ...]] = (
    _qemu, _firecracker, _cloud_hypervisor, _crosvm, _kvmtool, _lab, _libkrun
)  # fmt: skip

_CGROUP_MANAGERS: Final = (
    (re.compile(r"/machine-qemu\\x2d"), "libvirt"),
    (re.compile(r"/qemu\.slice/\d+\.scope"), "proxmox"),
    (re.compile(r"/libpod-[0-9a-f]{64}"), "podman"),
    (re.compile(r"/docker[-/][0-9a-f]{64}"), "docker"),
    (re.compile(r"/kubepods"), "kubernetes"),
)


def _manager_by_cgroup(subject: _Subject) -> str | None:
    return next((manager for pattern, manager in _CGROUP_MANAGERS if pattern.search(subject.cgroups)), None)


def _option(argv: Sequence[str], name: str) -> str | None:
    """The value of ``name VALUE`` or ``--name=VALUE``; None if absent or empty."""
    for i, word in enumerate(argv[1:], start=1):
        if word == name:
            return argv[i + 1] or None if i + 1 < len(argv) else None
        if name.startswith("--") and word.startswith(f"{name}="):
            return word[len(name) + 1 :] or None
    return None


def _path_in(value: str | None) -> str | None:
    """The path in ``PATH`` or ``path=PATH``; None for an inherited ``fd=N``."""
    if value is None or value.startswith("fd="):
        return None
    return value.removeprefix("path=")


# What VMMs and their callers call every socket, and directories that hold the sockets of all VMs.
_GENERIC = frozenset(
    """
    api api-socket ch ch-api clh clh-api cloud-hypervisor cloud-hypervisor-api cloud_hypervisor control crosvm
    crosvm-control crosvm_control ctl instance instances internal run sock socket sockets tmp var vm vmm vms
    """.split()
)


def _name_by_socket(path: str | None) -> str | None:
    """A VMM without a name option is told by its control socket: the last part of the path that is not generic."""
    if not path:
        return None
    *directories, file = PurePosixPath(path).parts
    if directories[1:2] == ["home"]:
        del directories[:3]  # a user's name is not a VM's
    stem = file.removesuffix(".sock").removesuffix(".socket")
    parts = (part for part in (stem, *reversed(directories)) if part not in ("/", "root"))
    return next((part for part in parts if part not in _GENERIC), None)
