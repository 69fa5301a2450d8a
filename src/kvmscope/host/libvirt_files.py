"""Reads libvirt's files about a VM: its domain XML, running or defined.

Reads files only and never talks to libvirtd, so it cannot block on a job and needs no library. The running state
(``/run/libvirt/qemu/NAME.xml``, by default readable by root only) is the one with which the VM was started; the
definition (``/etc/libvirt/qemu/NAME.xml``) is for its next start. A libvirt without root (``qemu:///session``) keeps
the running state below the user's runtime directory, and KubeVirt's in ``/run/libvirt/qemu/run``.

A libvirt in a container writes into the container's file system, which is read through ``/proc/PID/root`` of the VM's
process. Rule: names are untrusted, so none of them may lead to another directory, and no link leads out of such a root,
which a container controls.
Source: libvirt src/qemu/qemu_conf.c (virQEMUDriverConfigNew: stateDir); KubeVirt cmd/virt-launcher (pidDir).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..linux.files import PROC
from ..linux.procfs import read_file, read_file_below
from .libvirt_xml import MAX_BYTES, LibvirtDomain, parse_domain
from .process import VmmProcess

if TYPE_CHECKING:
    from .apicv import Hardware
    from .config import InterruptConfig

_RUNNING: Final = ("run/libvirt/qemu", "run/libvirt/qemu/run")
_RUNNING_OF_USER: Final = "run/user/{uid}/libvirt/qemu/run"
_DEFINED: Final = "etc/libvirt/qemu"


def read_domain(name: str, *, root: str = "/") -> LibvirtDomain | None:
    """The domain called ``name`` below ``root``: the running state, otherwise the definition.

    None if neither file exists, is readable, and has a sane size. Raises FormatError if the file is not a domain XML.
    """
    data = read_xml(name, root=root)
    return None if data is None else parse_domain(data)


def read_xml(name: str, *, root: str = "/", uid: int | None = None) -> bytes | None:
    """The document that ``read_domain`` parses. ``uid``: of the user whose libvirt may run the domain, None for only
    root's."""
    found = (read_file(f"{root}/{file}", max_bytes=MAX_BYTES) for file in _files(name, uid))
    return next((data for data in found if data is not None), None)


def domain_xml(process: VmmProcess, *, root: str = "/", proc_root: str = PROC) -> bytes | None:
    """Libvirt's XML of a VM; None if libvirt does not run it, or no readable XML is there.

    The search starts in the file system that the VM's process sees, if it differs from ours, and continues below
    ``root``.
    """
    if not process.domain:
        return None
    home = f"{proc_root}/{process.pid}"
    uid = _owner_of(home)
    if _sees_other_mounts(home, proc_root):
        found = (read_file_below(f"{home}/root", file, max_bytes=MAX_BYTES) for file in _files(process.domain, uid))
        inside = next((data for data in found if data is not None), None)
        if inside is not None:
            return inside
    return read_xml(process.domain, root=root, uid=uid)


def read_config(process: VmmProcess | None, *, root: str = "/", hardware: Hardware | None = None) -> InterruptConfig:
    """The configuration from the command line of a live process, and from libvirt's XML below ``root``."""
    from .config import config_of  # commands that only name VMs do not need it; it takes 10 ms to load

    return config_of(process, None if process is None else domain_xml(process, root=root), hardware=hardware)


def _files(name: str, uid: int | None) -> Iterator[str]:
    """The paths at which the XML of a domain may be, relative to a root; none if the name is not a valid file name."""
    if not name or "/" in name or "\0" in name:
        return
    try:
        name.encode()
    except UnicodeEncodeError:
        return
    of_user = () if uid is None else (_RUNNING_OF_USER.format(uid=uid),)
    for directory in (*_RUNNING, *of_user, _DEFINED):
        yield f"{directory}/{name}.xml"


def _owner_of(home: str) -> int | None:
    try:
        return Path(home).stat().st_uid
    except OSError:
        return None


def _sees_other_mounts(home: str, proc_root: str) -> bool:
    """Whether a process is in another mount namespace; False if this process may not read that."""
    try:
        return Path(home, "ns/mnt").readlink() != Path(proc_root, "self/ns/mnt").readlink()
    except OSError:
        return False
