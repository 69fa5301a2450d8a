"""What one process says of itself as a VMM. A value; ``vmm`` recognises it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

OTHER: Final = "other"
"""``VmmProcess.vmm`` of a process that is not a known VMM; its ``command`` says what it is."""


PROCESSES_KEPT: Final = 32_768
"""Of how many processes it is remembered what their command lines say: more than a host has VMs. With fewer, the VMs of
a larger host would push each other out, and each command line would be parsed in every window."""


def outermost(by_process: str | None, by_domain: str | None) -> str | None:
    """Of the managers that a process and libvirt's XML show: the XML's, if the process shows libvirt at most."""
    return by_domain or by_process if by_process in (None, "libvirt") else by_process


@dataclass(frozen=True, slots=True)
class VmmProcess:
    """What one process says of itself; all text is untrusted.

    ``vmm``: ``qemu``, ``firecracker``, … as docs/reference/vmms.md lists them, or ``other``. ``name``, ``uuid``: of the
    VM, None if the process does not say. ``managed_by``: ``libvirt``, ``proxmox``, ``kubevirt``, … where command line
    or cgroup show it, the outermost of those known; else None. ``command``: the program's file name, or the process's
    own name where it has no command line. ``start_ticks``: start in clock ticks since boot. ``known_as``: by which
    words its managers know the VM, such as ``("proxmox.vmid", "100")``. ``clue``: a disk, socket, kernel, directory or
    cgroup by which a VM without a name differs from others.
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
        """What libvirt calls the VM; None if libvirt does not run it, or the process does not say."""
        return dict(self.known_as).get("libvirt.domain")

    @property
    def program(self) -> str:
        """What program it is. Untrusted text."""
        return self.vmm if self.vmm != "other" else self.command

    @property
    def title(self) -> str:
        """What to call it: the VM's name, else the command. Untrusted text."""
        return self.name or self.command
