"""Recognises QEMU, its manager, and the manager's names of the VM.

Rule: QEMU is recognised by its program name, otherwise by its options, as distributions, OpenNebula and users rename
it. Source: the command lines that libvirt, Proxmox qemu-server, KubeVirt, Nova, oVirt, CloudStack, Kata, Incus,
OpenNebula, Multipass, Lima, podman machine, Docker Desktop and the Android emulator write; see docs/reference/vmms.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from . import qemu_args
from .candidate import Candidate, Recognised

_QEMU = re.compile(r"qemu|kvm(?:-spice)?|qemu-kvm(?:-[\w.-]+)?|qemu(?:-[a-z0-9]+)*-system-[\w.-]+")

_TELLING_OPTIONS = frozenset(
    """
    M accel blockdev chardev cpu device drive enable-kvm machine mon netdev nodefaults no-user-config overcommit qmp smp
    """.split()
)
"""Options that no other program has with a single dash. StratoVirt has some, but is recognised earlier."""

_TELLING_AT_LEAST = 2

_COMMON_OPTIONS = frozenset(
    """
    S append bios boot cdrom daemonize display drive global hda hdb incoming initrd kernel m monitor name no-reboot
    no-shutdown nographic object pidfile readconfig rtc sandbox serial smbios snapshot spice usb uuid vga vnc
    """.split()
)
"""Options of which most QEMU command lines have some, but other programs too."""

_COMMON_AT_LEAST = 3
"""The number required, each with a single dash; one fewer if there is also one of ``_TELLING_OPTIONS``."""


def recognise_qemu(candidate: Candidate) -> Recognised | None:
    """Recognises QEMU by one of its names."""
    return as_qemu(candidate) if candidate.is_called(_QEMU) else None


def recognise_by_options(candidate: Candidate) -> Recognised | None:
    """Recognises QEMU under another name, by its options."""
    given = {option.name for option in qemu_args.split_options(candidate.argv)}
    with_one_dash = given & {word[1:] for word in candidate.argv if word.startswith("-")}
    has_telling = bool(with_one_dash & _TELLING_OPTIONS)
    is_qemu = (
        len(given & _TELLING_OPTIONS) >= _TELLING_AT_LEAST
        or len(with_one_dash & _COMMON_OPTIONS) >= _COMMON_AT_LEAST - has_telling
    )
    return as_qemu(candidate) if is_qemu else None


def as_qemu(candidate: Candidate) -> Recognised:
    """The VM's identity from the command line of QEMU."""
    config = qemu_args.parse(candidate.argv)
    system = next((table for table in config.smbios if table.text("type") == "1"), qemu_args.Properties(None))
    known_as = dict(_known_as(candidate, config, system))
    return Recognised(
        "qemu",
        config.name or next((known_as[word] for word in _NAMING_WORDS if known_as.get(word)), None),
        config.uuid or system.text("uuid"),
        next((word.partition(".")[0] for word in known_as), None),
        tuple((word, value) for word, value in known_as.items() if value),
        _clue(config),
    )


_NAMING_WORDS = ("multipass.instance", "android.avd", "podman-machine.vm", "lima.instance")
"""Identifiers from managers that do not pass a name to QEMU."""


def _known_as(
    candidate: Candidate, config: qemu_args.QemuConfig, system: qemu_args.Properties
) -> Iterator[tuple[str, str]]:
    """The identifiers of each visible manager, the outermost first: KubeVirt, Nova and others run QEMU through libvirt.

    A value is empty if the command line shows the manager of the VM, but not the manager's name for it.
    """
    by_libvirt = any(chardev.startswith("socket,id=charmonitor") for chardev in config.values("chardev"))
    yield from _known_by_clouds(candidate, config, system, by_libvirt=by_libvirt)
    yield from _known_by_virtualisers(candidate, config)
    yield from _known_by_desktop_tools(candidate, config)
    if by_libvirt:
        yield "libvirt.domain", config.name or ""


def _known_by_clouds(
    candidate: Candidate, config: qemu_args.QemuConfig, system: qemu_args.Properties, *, by_libvirt: bool
) -> Iterator[tuple[str, str]]:
    """Managers of many hosts, by the fields that they set in the guest's SMBIOS tables."""
    name, uuid = config.name or "", config.uuid or system.text("uuid") or ""
    manufacturer, product = system.text("manufacturer") or "", system.text("product") or ""
    if manufacturer == "KubeVirt" or candidate.mentions("/run/kubevirt"):
        # Names in Kubernetes have no underscore.
        namespace, _, vm = name.partition("_")
        yield "kubevirt.namespace", namespace
        yield "kubevirt.vm", vm
    # Vendors put their own names into manufacturer and product, but keep the family.
    if product.startswith("OpenStack") or (by_libvirt and system.text("family") == "Virtual Machine"):
        yield "openstack.uuid", uuid
    if manufacturer == "oVirt" or system.text("family") in ("oVirt", "RHV"):
        yield "ovirt.vm", name
    if product.startswith("CloudStack") or (by_libvirt and _CLOUDSTACK_NAME.fullmatch(name)):
        yield "cloudstack.instance", name
    if (one := re.fullmatch(r"one-(\d+)", name)) and _is_of_opennebula(candidate, one[1]):
        yield "opennebula.vm", one[1]


_CLOUDSTACK_NAME = re.compile(r"i-\d+-\d+-VM|[rsv]-\d+-VM")
"""An instance, or a system VM. Vendors put their own names into manufacturer and product."""


def _is_of_opennebula(candidate: Candidate, vm: str) -> bool:
    """Whether OpenNebula runs the VM: by its name for QEMU, its datastores, or its image names in Ceph
    (``one-IMAGE-VM-DISK``)."""
    in_ceph = re.compile(rf"one-\d+-{vm}-\d+")
    return (
        candidate.program == "qemu-kvm-one" or candidate.mentions("/one/") or any(map(in_ceph.search, candidate.argv))
    )


def _known_by_virtualisers(candidate: Candidate, config: qemu_args.QemuConfig) -> Iterator[tuple[str, str]]:
    """Managers of one host that start QEMU without libvirt."""
    if config.has("id") and candidate.mentions("/run/qemu-server/"):
        yield "proxmox.vmid", next(iter(config.values("id")), "")
    if candidate.mentions("/run/vc/vm/"):
        yield "kata.sandbox", _part_after(candidate, "/run/vc/vm/")
    for manager in ("incus", "lxd"):
        if any(f"/{manager}/" in path for path in config.config_files):
            # A project other than the default precedes the name, which has no underscore.
            project, _, instance = (config.name or "").rpartition("_")
            yield f"{manager}.instance", instance
            if project:
                yield f"{manager}.project", project


def _known_by_desktop_tools(candidate: Candidate, config: qemu_args.QemuConfig) -> Iterator[tuple[str, str]]:
    """Desktop tools that start VMs for one user, without a name for QEMU."""
    if candidate.mentions("/vault/instances/") and candidate.mentions("multipass"):
        yield "multipass.instance", _part_after(candidate, "/vault/instances/")
    if candidate.mentions("/.lima/"):
        yield "lima.instance", _part_after(candidate, "/.lima/")
    if candidate.mentions("/podman/qmp_"):
        yield "podman-machine.vm", _part_after(candidate, "/podman/qmp_").removesuffix(".sock")
    if candidate.mentions("/.docker/desktop/vms/"):
        yield "docker-desktop.vm", _part_after(candidate, "/.docker/desktop/vms/")
    if avd := _android_device(candidate, config):
        yield "android.avd", avd


def _part_after(candidate: Candidate, place: str) -> str:
    """The path component after ``place``, in the first argument that contains ``place``."""
    word = next((word for word in candidate.argv if place in word), "")
    return re.split(r"[/,]", word.partition(place)[2])[0]


def _android_device(candidate: Candidate, config: qemu_args.QemuConfig) -> str | None:
    """The virtual device of an Android emulator, which is a QEMU with ``-avd NAME`` or ``@NAME``."""
    named = next(iter(config.values("avd")), None)
    return named or next((word[1:] for word in candidate.argv[1:] if re.fullmatch(r"@[\w.-]+", word)), None)


def _clue(config: qemu_args.QemuConfig) -> str | None:
    """A disk, socket or kernel that distinguishes the VM."""
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
    """The files of disks, without those of firmware."""
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
