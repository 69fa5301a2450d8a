"""The configuration of a VM's interrupts, in one form for all VMMs: ``InterruptConfig``.

Derived from a command line (``process.VmmProcess``) or from libvirt's XML. Not here: the effect of the settings
(``analysis.apicv``), and changes over a VMM's control socket after its start, which cannot be seen.

Rule: each setting has its evidence: the option as given, or the VMM's default, marked as such. If the VMM could have
been configured elsewhere (a file, an API), the setting is unknown, with that reason; nothing is guessed.
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
    """The settings in the command line of ``process``; ``hardware``: below KVM, None if unknown."""
    if process.vmm == "qemu" and process.argv:
        return of_qemu(process.argv, managed_by=process.managed_by, hardware=hardware)
    return of_other(process.vmm, process.argv, managed_by=process.managed_by)


@lru_cache(maxsize=PROCESSES_KEPT)
def config_of(
    process: VmmProcess | None, xml: bytes | None = None, *, hardware: Hardware | None = None
) -> InterruptConfig:
    """The settings in the command line; those that it leaves open are from libvirt's XML of the VM, if there is one."""
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
    """One object for equal configurations: most VMs of a host have one, and comparing it with itself costs nothing."""
    return config
