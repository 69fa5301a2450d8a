"""Reads what libvirt has written down about a VM: its domain XML, running or defined.

Reads files only and never talks to libvirtd, so it cannot block on a job and needs no library. The running state
(``/run/libvirt/qemu/NAME.xml``, by default for root alone) is what the VM was started with; the definition
(``/etc/libvirt/qemu/NAME.xml``) is what its next start will use.

Rule: names are untrusted, so none of them may lead to another directory, and a root that a container controls
(``/proc/PID/root``) is only safe as far as the last part of the path: that part is never followed if it is a link.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..linux.procfs import read_file
from .libvirt_xml import MAX_BYTES, LibvirtDomain, parse_domain
from .process import VmmProcess

if TYPE_CHECKING:
    from .apicv import Hardware
    from .config import InterruptConfig

_RUNNING = "run/libvirt/qemu"
_DEFINED = "etc/libvirt/qemu"


def read_domain(name: str, *, root: str = "/") -> LibvirtDomain | None:
    """The domain called ``name`` below ``root``: as it runs, else as it is defined.

    None if neither file is there, may be read, or has a sane size. Raises FormatError if the file is no domain XML.
    """
    data = read_xml(name, root=root)
    return None if data is None else parse_domain(data)


def read_xml(name: str, *, root: str = "/") -> bytes | None:
    """The document that ``read_domain`` parses."""
    if not name or "/" in name or "\0" in name:
        return None
    try:
        name.encode()
    except UnicodeEncodeError:
        return None
    for directory in (_RUNNING, _DEFINED):
        data = read_file(f"{root}/{directory}/{name}.xml", max_bytes=MAX_BYTES)
        if data is not None:
            return data
    return None


def domain_xml(process: VmmProcess, *, root: str = "/") -> bytes | None:
    """Libvirt's XML of a VM below ``root``; None if libvirt does not run it, or no readable XML is there."""
    return read_xml(process.domain, root=root) if process.domain else None


def read_config(process: VmmProcess | None, *, root: str = "/", hardware: Hardware | None = None) -> InterruptConfig:
    """What the command line of a live process says, and libvirt's XML below ``root``."""
    from .config import config_of  # commands that only name VMs do not need it; it takes 10 ms to load

    return config_of(process, None if process is None else domain_xml(process, root=root), hardware=hardware)
