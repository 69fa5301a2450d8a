"""How a VMM was told to set up a VM's interrupts, in one form for all VMMs: ``InterruptConfig``.

Derived from a command line (``vmm.VmmProcess``) or from libvirt's XML. Not here: what the settings lead to
(``analysis.apicv``), and what was changed over a VMM's control socket after its start, which nobody can see.

Rule: each setting has its evidence: the option as it stands, or the VMM's default and that it is one. Where the VMM
could have been told elsewhere (a configuration file, an API) the setting is unknown and says so; nothing is guessed.
"""

from __future__ import annotations

from functools import lru_cache

from ...errors import FormatError
from .. import libvirt_xml
from ..vmm import VmmProcess
from .libvirt import of_domain
from .others import of_other
from .qemu import of_qemu
from .settings import Confidential, InterruptConfig, Irqchip, Pit, Setting

__all__ = [
    "Confidential",
    "InterruptConfig",
    "Irqchip",
    "Pit",
    "Setting",
    "config_of",
    "domain_xml",
    "of_domain",
    "of_process",
    "read_config",
]


def of_process(process: VmmProcess) -> InterruptConfig:
    """What the command line of ``process`` says."""
    if process.vmm == "qemu" and process.argv:
        return of_qemu(process.argv, managed_by=process.managed_by)
    return of_other(process.vmm, process.argv, managed_by=process.managed_by)


@lru_cache(maxsize=4096)
def config_of(process: VmmProcess | None, xml: bytes | None = None) -> InterruptConfig:
    """What the command line says, and for what it leaves open libvirt's XML of the VM if there is some."""
    if process is None:
        return InterruptConfig.unknown("other", "the VMM's process cannot be seen")
    told = of_process(process)
    if xml is None:
        return told
    try:
        return told.filled_from(of_domain(libvirt_xml.parse_domain(xml)))
    except FormatError:
        return told


def domain_xml(process: VmmProcess, *, root: str = "/") -> bytes | None:
    """Libvirt's XML of a VM below ``root``; None if its command line tells all, or no readable XML is there."""
    if process.managed_by != "libvirt" or not process.name or not _is_open(process):
        return None
    return libvirt_xml.read_xml(process.name, root=root)


def read_config(process: VmmProcess | None, *, root: str = "/") -> InterruptConfig:
    """What the command line of a live process says, and libvirt's XML below ``root``."""
    return config_of(process, None if process is None else domain_xml(process, root=root))


@lru_cache(maxsize=4096)
def _is_open(process: VmmProcess) -> bool:
    return of_process(process).is_open
