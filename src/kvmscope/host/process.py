"""A process as a VMM, by its own description. A value; ``vmm`` makes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

OTHER: Final = "other"
"""``VmmProcess.vmm`` of a process that is not a known VMM; ``command`` has its program."""


PROCESSES_KEPT: Final = 32_768
"""The number of processes whose parsed command lines are cached: more than a host has VMs. With fewer, the VMs of a
larger host would evict each other, and each command line would be parsed in every window."""


def outermost(by_process: str | None, by_domain: str | None) -> str | None:
    """The outermost manager: that of libvirt's XML if the process shows none or libvirt, otherwise the process's."""
    return by_domain or by_process if by_process in (None, "libvirt") else by_process


@dataclass(frozen=True, slots=True)
class VmmProcess:
    """One process as a VMM, by its own description; all text is untrusted.

    ``vmm``: ``qemu``, ``firecracker``, … as docs/reference/vmms.md lists them, or ``other``. ``name``, ``uuid``: of the
    VM, None if the process does not show them. ``managed_by``: ``libvirt``, ``proxmox``, ``kubevirt``, … if command
    line or cgroup show it, the outermost known one; otherwise None. ``command``: the program's file name, or the
    process's own name if it has no command line. ``start_ticks``: start in clock ticks since boot. ``known_as``: the
    identifiers that managers use for the VM, such as ``("proxmox.vmid", "100")``. ``clue``: a disk, socket, kernel,
    directory or cgroup that distinguishes a VM without a name from others.
    """

    pid: int
    vmm: str
    name: str | None
    uuid: str | None
    managed_by: str | None
    command: str
    argv: tuple[str, ...]
    start_ticks: int
    known_as: tuple[tuple[str, str], ...] = ()
    clue: str | None = None

    @property
    def domain(self) -> str | None:
        """Libvirt's name of the VM; None if libvirt does not run it, or the process does not show it."""
        return dict(self.known_as).get("libvirt.domain")

    @property
    def program(self) -> str:
        """The name of the program. Untrusted text."""
        return self.vmm if self.vmm != "other" else self.command

    @property
    def title(self) -> str:
        """The display name: the VM's name, otherwise the command. Untrusted text."""
        return self.name or self.command
