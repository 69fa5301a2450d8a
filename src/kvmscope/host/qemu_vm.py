"""Recognises QEMU, who manages it, and by which words that manager knows the VM.

Rule: QEMU is known by what it is called, or else by its options, since distributions, OpenNebula and users rename it.
Source: the command lines that libvirt, Proxmox qemu-server, KubeVirt, Nova, Kata, Incus, OpenNebula, Multipass and the
Android emulator write; see docs/reference/vmms.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from . import qemu_args
from .candidate import Candidate, Recognised

_QEMU = re.compile(r"qemu|(?:qemu-)?kvm(?:-spice)?|qemu(?:-[a-z0-9]+)*-system-[\w.-]+")

_TELLING_OPTIONS = frozenset(
    """
    M accel blockdev chardev cpu device drive enable-kvm machine mon netdev nodefaults no-user-config overcommit qmp smp
    """.split()
)
"""Options that no other program has together with a single dash. StratoVirt has some, and is recognised before."""

_TELLING_AT_LEAST = 2


def recognise_qemu(candidate: Candidate) -> Recognised | None:
    """QEMU by one of its names."""
    return _recognised(candidate) if candidate.is_called(_QEMU) else None


def recognise_by_options(candidate: Candidate) -> Recognised | None:
    """QEMU under another name."""
    options = qemu_args.split_options(candidate.argv)
    telling = {option.name for option in options if option.name in _TELLING_OPTIONS}
    return _recognised(candidate) if len(telling) >= _TELLING_AT_LEAST else None


def _recognised(candidate: Candidate) -> Recognised:
    config = qemu_args.parse(candidate.argv)
    system = next((table for table in config.smbios if table.text("type") == "1"), qemu_args.Properties(None))
    known_as = dict(_known_as(candidate, config, system))
    return Recognised(
        "qemu",
        config.name or known_as.get("multipass.instance") or known_as.get("android.avd"),
        config.uuid or system.text("uuid"),
        next((word.partition(".")[0] for word in known_as), None),
        tuple((word, value) for word, value in known_as.items() if value),
        _clue(config),
    )


def _known_as(
    candidate: Candidate, config: qemu_args.QemuConfig, system: qemu_args.Properties
) -> Iterator[tuple[str, str]]:
    """Of each manager that shows, the outermost first: KubeVirt, Nova and OpenNebula run QEMU through libvirt.

    A value is empty where the command line shows who manages the VM, but not what it is called there.
    """
    by_libvirt = any(chardev.startswith("socket,id=charmonitor") for chardev in config.values("chardev"))
    name = config.name or ""
    if system.text("manufacturer") == "KubeVirt" or candidate.mentions("/run/kubevirt"):
        # No name in Kubernetes has an underscore.
        namespace, _, vm = name.partition("_")
        yield "kubevirt.namespace", namespace
        yield "kubevirt.vm", vm
    if (system.text("product") or "").startswith("OpenStack"):
        yield "openstack.uuid", config.uuid or system.text("uuid") or ""
    if config.has("id") and candidate.mentions("/run/qemu-server/"):
        yield "proxmox.vmid", next(iter(config.values("id")), "")
    if candidate.mentions("/run/vc/vm/"):
        yield "kata.sandbox", _part_after(candidate, "/run/vc/vm/")
    for manager in ("incus", "lxd"):
        if any(f"/{manager}/" in path for path in config.config_files):
            # A project other than the default stands before the name, which has no underscore.
            project, _, instance = name.rpartition("_")
            yield f"{manager}.instance", instance
            if project:
                yield f"{manager}.project", project
    if (one := re.fullmatch(r"one-(\d+)", name)) and candidate.mentions("/one/"):
        yield "opennebula.vm", one[1]
    if candidate.mentions("/vault/instances/") and candidate.mentions("multipass"):
        yield "multipass.instance", _part_after(candidate, "/vault/instances/")
    if avd := _android_device(candidate, config):
        yield "android.avd", avd
    if by_libvirt:
        yield "libvirt.domain", name


def _part_after(candidate: Candidate, place: str) -> str:
    """The next part of the first path that has ``place`` in it."""
    word = next((word for word in candidate.argv if place in word), "")
    return re.split(r"[/,]", word.partition(place)[2])[0]


def _android_device(candidate: Candidate, config: qemu_args.QemuConfig) -> str | None:
    """The virtual device of an Android emulator, which is a QEMU with ``-avd NAME`` or ``@NAME``."""
    named = next(iter(config.values("avd")), None)
    return named or next((word[1:] for word in candidate.argv[1:] if re.fullmatch(r"@[\w.-]+", word)), None)


def _clue(config: qemu_args.QemuConfig) -> str | None:
    """A disk, a socket or a kernel of the VM."""
    disk = next(_disks(config), None)
    if disk:
        return f"disk {disk}"
    for option in ("qmp", "monitor"):
        for value in config.values(option):
            if value.startswith("unix:"):
                return f"socket {value.removeprefix('unix:').partition(',')[0]}"
    kernel = next(iter(config.values("kernel")), None)
    return f"kernel {kernel}" if kernel else None


def _disks(config: qemu_args.QemuConfig) -> Iterator[str]:
    """Files of disks, and not of firmware."""
    for blockdev in config.blockdevs:
        inner = blockdev.get("file")
        inside = inner.get("filename") if isinstance(inner, dict) else None
        file = blockdev.text("filename") or blockdev.text("file.filename") or inside
        if isinstance(file, str) and not file.endswith(".fd"):
            yield file
    for option in config.options:
        if option.name == "drive":
            parts = dict(qemu_args.split_pairs(option.value or ""))
            if parts.get("file") and parts.get("if") != "pflash":
                yield parts["file"]
        elif option.name in ("", "hda", "hdb", "sda", "cdrom") and option.value and not option.value.startswith("@"):
            yield option.value
