"""The names of a VM in its managers: libvirt's domain and title, Nova's name, Proxmox's id, …

Sources: the VMM's command line, and libvirt's XML if the scene has it. All names are untrusted text.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from ..errors import FormatError
from ..host.libvirt_xml import LibvirtDomain, parse_domain
from ..host.process import outermost
from ..scene import VmIdentity

_OF_MANY = (
    "kubevirt.namespace",
    "kubernetes.namespace",
    "openstack.flavor",
    "openstack.project",
    "opennebula.group",
    "incus.project",
    "lxd.project",
)
"""Names that several VMs share, so they select none."""


def known_names(identity: VmIdentity) -> Mapping[str, str]:
    """Each name by its kind, such as ``{"proxmox.vmid": "100"}``; the outermost manager first."""
    of_process = identity.process.known_as if identity.process else ()
    domain = _domain(identity.domain_xml) if identity.domain_xml else None
    return MappingProxyType(dict((*of_process, *(domain.known_as if domain else ()))))


def selecting_names(identity: VmIdentity) -> frozenset[str]:
    """The names by which a user can select this VM."""
    return frozenset(value for word, value in known_names(identity).items() if word not in _OF_MANY)


def manager_of(identity: VmIdentity) -> str | None:
    """The outermost known manager of a VM, as in ``VmmProcess.managed_by``."""
    return outermost_manager(identity.process.managed_by if identity.process else None, identity.domain_xml)


def outermost_manager(by_process: str | None, domain_xml: bytes | None) -> str | None:
    """The outermost of the manager that the VMM's process shows and the one in libvirt's XML; either may be missing."""
    domain = _domain(domain_xml) if domain_xml else None
    return outermost(by_process, domain.manager if domain else None)


@lru_cache(maxsize=4096)
def _domain(xml: bytes) -> LibvirtDomain | None:
    try:
        return parse_domain(xml)
    except FormatError:
        return None
