"""Recognises the VMMs other than QEMU.

Source: the command lines of Firecracker and its jailer, cloud-hypervisor, libvirt's ch driver, crosvm, kvmtool,
StratoVirt, VirtualBox on KVM, gVisor's KVM platform, Kata's Dragonball, OpenVMM, Alioth, libkrun and what uses it; see
docs/reference/vmms.md. Patterns that are cut or end in ``.*`` also match a process's name, which has at most 15 bytes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from . import qemu_args
from .candidate import Candidate, Recognised

_ALIOTH = re.compile(r"alioth(?:-cli)?")
_CLOUD_HYPERVISOR = re.compile(r"cloud-hyperviso(?:r.*)?")
_CROSVM = re.compile(r"crosvm(?:-direct)?")
_FIRECRACKER = re.compile(r"firecracker.*")
_GVISOR = re.compile(r"runsc(?:-sandbox)?")
_KATA_SHIM = re.compile(r"containerd-shim-kata.*")
_KVMTOOL = re.compile(r"lkvm|lkvm-static|kvmtool|vm")
_OPENVMM = re.compile(r"openvmm")
_STRATOVIRT = re.compile(r"stratovirt.*")
_VIRTUALBOX = re.compile(r"VBoxHeadless|VirtualBoxVM|VBoxSDL")


def _firecracker(candidate: Candidate) -> Recognised | None:
    is_firecracker = candidate.is_called(_FIRECRACKER) or candidate.option("--api-sock") is not None
    return as_firecracker(candidate) if is_firecracker or _is_jailed(candidate) else None


def _is_jailed(candidate: Candidate) -> bool:
    """Firecracker's jailer may run the binary under any file name, but always with these two options."""
    return "--start-time-us" in candidate.argv and "--parent-cpu-time-us" in candidate.argv


def as_firecracker(candidate: Candidate) -> Recognised:
    """The VM's identity from the command line of Firecracker."""
    name = candidate.option("--id")
    _, kata, inside = (candidate.option("--api-sock") or "").partition("/run/vc/firecracker/")
    if kata:
        sandbox = inside.partition("/")[0]
        return Recognised("firecracker", sandbox, None, "kata", (("kata.sandbox", sandbox),))
    return Recognised(
        "firecracker",
        None if name == "anonymous-instance" else name,
        managed_by="jailer" if _is_jailed(candidate) else None,
        clue=_clue(candidate, ("socket", "--api-sock"), ("configuration", "--config-file")),
    )


def _cloud_hypervisor(candidate: Candidate) -> Recognised | None:
    is_named = candidate.is_called(_CLOUD_HYPERVISOR) or candidate.option("--api-socket") is not None
    return as_cloud_hypervisor(candidate) if is_named else None


def as_cloud_hypervisor(candidate: Candidate) -> Recognised:
    """The VM's identity from the command line of cloud-hypervisor."""
    platform = dict(qemu_args.split_pairs(candidate.option("--platform") or ""))
    uuid = platform.get("system_uuid") or platform.get("uuid")
    # libvirt passes its API socket as an inherited fd, but names the event pipe after the VM.
    _, libvirt, pipe = (_path_in(candidate.option("--event-monitor")) or "").rpartition("/libvirt/ch/")
    if libvirt:
        domain = pipe.removesuffix("-event-monitor-fifo")
        return Recognised("cloud-hypervisor", domain, uuid, "libvirt")
    socket = _path_in(candidate.option("--api-socket"))
    _, kata, inside = (socket or "").partition("/run/vc/vm/")
    if kata:
        sandbox = inside.partition("/")[0]
        return Recognised("cloud-hypervisor", sandbox, uuid, "kata", (("kata.sandbox", sandbox),))
    disk = dict(qemu_args.split_pairs(candidate.option("--disk") or "")).get("path")
    clue = f"disk {disk}" if disk else _clue(candidate, ("kernel", "--kernel"))
    return Recognised("cloud-hypervisor", _name_by_socket(socket), uuid, clue=clue)


def _crosvm(candidate: Candidate) -> Recognised | None:
    return as_crosvm(candidate) if candidate.is_called(_CROSVM) else None


def as_crosvm(candidate: Candidate) -> Recognised:
    """The VM's identity from the command line of crosvm."""
    name = candidate.option("--name")
    socket = candidate.option("--socket") or candidate.option("-s")
    return Recognised("crosvm", name or _name_by_socket(socket))


def _kvmtool(candidate: Candidate) -> Recognised | None:
    # kvmtool also installs itself as "vm", a name that any program may have; its subcommands decide.
    if not candidate.is_called(_KVMTOOL) or candidate.argv[1:2] not in (("run",), ("sandbox",)):
        return None
    return as_kvmtool(candidate)


def as_kvmtool(candidate: Candidate) -> Recognised:
    """The VM's identity from the command line of kvmtool."""
    # -n is --network here. Without --name, kvmtool names the guest after its pid, or after the directory it boots.
    name = candidate.option("--name") or candidate.given_name
    if name is None and candidate.option("--disk") is None and candidate.option("-d") is None:
        status = candidate.process.status()
        name = f"guest-{status.ns_pids[-1]}" if status and status.ns_pids else None
    return Recognised("kvmtool", name)


def _lab(candidate: Candidate) -> Recognised | None:
    if ("-m", "kvmscope.lab.process") not in zip(candidate.argv, candidate.argv[1:], strict=False):
        return None
    return Recognised("kvmscope-lab", candidate.option("--name"))


def _stratovirt(candidate: Candidate) -> Recognised | None:
    # Its options are QEMU's.
    if not candidate.is_called(_STRATOVIRT):
        return None
    config = qemu_args.parse(candidate.argv)
    return Recognised("stratovirt", config.name, config.uuid, clue=_clue(candidate, ("socket", "-qmp")))


def _virtualbox(candidate: Candidate) -> Recognised | None:
    return as_virtualbox(candidate) if candidate.is_called(_VIRTUALBOX) else None


def as_virtualbox(candidate: Candidate) -> Recognised:
    """The VM's identity from the command line of VirtualBox."""
    started = candidate.option("--startvm") or candidate.option("-startvm")
    comment = candidate.option("--comment") or candidate.option("-comment")
    return Recognised("virtualbox", comment or started, started)


def _gvisor(candidate: Candidate) -> Recognised | None:
    # The sandbox runs "runsc … boot … ID"; in a shim's environment it is called runsc-sandbox.
    if not candidate.is_called(_GVISOR) or "boot" not in candidate.argv:
        return None
    return Recognised("gvisor", _short_id(candidate.argv[-1]))


def _dragonball(candidate: Candidate) -> Recognised | None:
    # Kata's own VMM is a library of its shim.
    if not candidate.is_called(_KATA_SHIM):
        return None
    sandbox = candidate.option("-id") or ""
    return Recognised("dragonball", _short_id(sandbox), None, "kata", (("kata.sandbox", sandbox),) if sandbox else ())


def _openvmm(candidate: Candidate) -> Recognised | None:
    if not candidate.is_called(_OPENVMM):
        return None
    return Recognised("openvmm", clue=_clue(candidate, ("disk", "--disk"), ("kernel", "--kernel")))


def _alioth(candidate: Candidate) -> Recognised | None:
    if not candidate.is_called(_ALIOTH) or not {"run", "boot"} & set(candidate.argv[1:]):
        return None
    kernel = ("kernel", "--kernel")
    return Recognised("alioth", candidate.option("--name"), clue=_clue(candidate, kernel, ("firmware", "--firmware")))


def _short_id(text: str) -> str:
    """The first 12 digits of a container's id, as container tools show it; any other text as it is."""
    return text[:12] if re.fullmatch(r"[0-9a-f]{64}", text) else text


RECOGNISERS = (
    _firecracker,
    _cloud_hypervisor,
    _crosvm,
    _kvmtool,
    _stratovirt,
    _virtualbox,
    _gvisor,
    _dragonball,
    _openvmm,
    _alioth,
    _lab,
)
"""All recognisers but that of libkrun, which may have to read a process's mappings."""


# --- libkrun: a library, so the program can be any --------------------------------------------------------------------

_KRUN_LIBRARY = re.compile(r"/libkrun(?:fw)?(?:-\w+)?\.so[.\d]*(?: \(deleted\))?$")
_KRUN_PROGRAM = re.compile(r"krunvm|boxlite-shim|msb")


def recognise_libkrun(candidate: Candidate) -> Recognised | None:
    """Recognises libkrun by its program or its thread, otherwise by the library that the process has mapped."""
    comm = candidate.stat.comm
    is_named = comm == "libkrun VM" or comm.startswith("VM:")
    if not (is_named or candidate.is_called(_KRUN_PROGRAM) or _maps_libkrun(candidate)):
        return None
    if candidate.program == "krunvm":
        return Recognised("libkrun", _krunvm_name(candidate.argv) or _krun_hostname(comm), managed_by="krunvm")
    container = re.search(r"(?:libpod|crun|docker|cri-containerd)-([0-9a-f]{12})[0-9a-f]{52}", candidate.cgroups)
    box = re.search(r"/boxes/([\w-]+)/", candidate.argv[0] if candidate.argv else "")
    named = _krun_hostname(comm) or candidate.option("--name") or (box[1] if box else None)
    return Recognised("libkrun", named or (container[1] if container else None))


def _krun_hostname(comm: str) -> str | None:
    """The hostname in a thread's name: krun_start_enter() names it after $HOSTNAME, of which 12 bytes fit."""
    return comm.removeprefix("VM:") if comm.startswith("VM:") else None


def _maps_libkrun(candidate: Candidate) -> bool:
    return any(_KRUN_LIBRARY.search(path) for path in candidate.process.mapped_files() or ())


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


def _clue(candidate: Candidate, *options: tuple[str, str]) -> str | None:
    """The value of the first of these options that is given, with the label for its kind."""
    found = ((word, candidate.option(option)) for word, option in options)
    return next((f"{word} {value}" for word, value in found if value), None)


def _path_in(value: str | None) -> str | None:
    """The path in ``PATH`` or ``path=PATH``; None for an inherited ``fd=N``."""
    if value is None or value.startswith("fd="):
        return None
    return value.removeprefix("path=")


# Generic names of sockets, and of directories that hold the sockets of all VMs.
_GENERIC = frozenset(
    """
    api api-socket ch ch-api clh clh-api cloud-hypervisor cloud-hypervisor-api cloud_hypervisor control crosvm
    crosvm-control crosvm_control ctl instance instances internal run sock socket sockets tmp var vm vmm vms
    """.split()
)


def _name_by_socket(path: str | None) -> str | None:
    """The name from the control socket of a VMM without a name option: the last non-generic part of the path."""
    if not path:
        return None
    *directories, file = PurePosixPath(path).parts
    if directories[1:2] == ["home"]:
        del directories[:3]  # a user's name is not a VM's
    stem = file.removesuffix(".sock").removesuffix(".socket")
    parts = (part for part in (stem, *reversed(directories)) if part not in ("/", "root"))
    return next((part for part in parts if part not in _GENERIC), None)
