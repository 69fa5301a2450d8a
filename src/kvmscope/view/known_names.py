"""By which words the managers of a VM know it: libvirt's domain and title, Nova's name, Proxmox's id, …

From the VMM's command line, and from libvirt's XML where the scene has it. All of it is untrusted text.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

from ..errors import FormatError
from ..host.libvirt_xml import parse_domain
from ..scene import VmIdentity

_OF_MANY = ("kubevirt.namespace", "openstack.flavor", "openstack.project", "incus.project", "lxd.project")
"""Words that several VMs have, so they select none."""


def known_names(identity: VmIdentity) -> Mapping[str, str]:
    """Each word with what it is, such as ``{"proxmox.vmid": "100"}``; the outermost manager first."""
    of_process = identity.process.known_as if identity.process else ()
    of_domain = _of_domain(identity.domain_xml) if identity.domain_xml else ()
    return MappingProxyType(dict((*of_process, *of_domain)))


def selecting_names(identity: VmIdentity) -> frozenset[str]:
    """Those by which a person can mean this VM."""
    return frozenset(value for word, value in known_names(identity).items() if word not in _OF_MANY)


@lru_cache(maxsize=4096)
def _of_domain(xml: bytes) -> tuple[tuple[str, str], ...]:
    try:
        return parse_domain(xml).known_as
    except FormatError:
        return ()
