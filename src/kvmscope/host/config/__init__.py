"""How a VMM was configured to set up a VM's interrupts, in one form for all VMMs: ``InterruptConfig``.

Derived from a command line (``process.VmmProcess``) or from libvirt's XML. Not here: what the settings lead to
(``analysis.apicv``), and what was changed over a VMM's control socket after its start, which nobody can see.

Rule: each setting has its evidence: the option as it stands, or the VMM's default and that it is one. Where the VMM
could have been configured elsewhere (a file, an API) the setting is unknown and says so; nothing is guessed.
"""

from __future__ import annotations

from functools import lru_cache

from ...errors import FormatError
from .. import libvirt_xml
from ..apicv import Hardware
from ..process import PROCESSES_KEPT, VmmProcess
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
    "of_domain",
    "of_process",
]


def of_process(process: VmmProcess, *, hardware: Hardware | None = None) -> InterruptConfig:
    """What the command line of ``process`` says; ``hardware`` is what KVM runs on, None if unknown."""
    if process.vmm == "qemu" and process.argv:
        return of_qemu(process.argv, managed_by=process.managed_by, hardware=hardware)
    return of_other(process.vmm, process.argv, managed_by=process.managed_by)


@lru_cache(maxsize=PROCESSES_KEPT)
def config_of(
    process: VmmProcess | None, xml: bytes | None = None, *, hardware: Hardware | None = None
) -> InterruptConfig:
    """What the command line says, and for what it leaves open libvirt's XML of the VM if there is some."""
    return _one_object(_config(process, xml, hardware))


def _config(process: VmmProcess | None, xml: bytes | None, hardware: Hardware | None) -> InterruptConfig:
    if process is None:
        return InterruptConfig.unknown("other", "the VMM's process cannot be seen")
    told = of_process(process, hardware=hardware)
    if xml is None:
        return told
    try:
        return told.filled_from(of_domain(libvirt_xml.parse_domain(xml), hardware=hardware))
    except FormatError:
        return told


@lru_cache(maxsize=1024)
def _one_object(config: InterruptConfig) -> InterruptConfig:
    """Most VMs of a host are configured alike, and comparing one object with itself costs nothing."""
    return config
