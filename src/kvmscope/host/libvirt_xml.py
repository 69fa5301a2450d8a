"""Libvirt's domain XML as a value: a VM's ``<domain>``, or the ``<domstatus>`` of a running one. No I/O.

``libvirt_files`` reads it. QEMU itself uses its command line (``qemu_args``), which takes precedence if the two differ.

Rule: a value that is not in the XML is None; libvirt's defaults are not filled in. The text is untrusted: document
types and entities are refused, and the network is never used.

Source: libvirt docs/formatdomain.rst and src/conf/domain_conf.c, src/qemu/qemu_domain.c (``<domstatus>``), 9.0 to 11.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ..errors import FormatError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MAX_BYTES: Final = 4 << 20
"""A domain with hundreds of disks is far smaller."""

_MAX_DEPTH = 64

_NAMESPACE_END = "}"
_NOVA = "{http://openstack.org/xmlns/libvirt/nova/"
"""A namespace as ElementTree writes it before a tag. Nova's ends in its version."""

_OPENNEBULA = "{http://opennebula.org/xmlns/libvirt/"
_KUBEVIRT = "{http://kubevirt.io"
_LIBOSINFO = "{http://libosinfo.org/xmlns/libvirt/"


@dataclass(frozen=True, slots=True)
class Timer:
    """``<timer>`` of ``<clock>``; ``present`` and ``tick_policy``: None if not given."""

    name: str
    present: bool | None
    tick_policy: str | None


@dataclass(frozen=True, slots=True)
class CpuFeature:
    """``<feature>`` of ``<cpu>``; ``policy``: ``force``, ``require``, ``optional``, ``disable``, ``forbid``."""

    name: str
    policy: str | None


@dataclass(frozen=True, slots=True)
class Iommu:
    """``<iommu>``. ``model``: ``intel``, ``amd``, ``virtio``, ``smmuv3``. The booleans are None if not given."""

    model: str | None
    interrupt_remapping: bool | None
    eim: bool | None
    xtsup: bool | None


@dataclass(frozen=True, slots=True)
class LibvirtDomain:
    """One domain as libvirt wrote it.

    ``is_running``: read from the running state. ``hyperv_mode``: ``custom`` or ``passthrough``. ``hyperv``: name of
    each enlightenment, and whether it is on; a nested one has its parent's name as prefix: ``tlbflush.direct``.
    ``apic``, ``pae``: whether the element is present. ``ioapic_driver``: ``kvm`` or ``qemu`` (``qemu`` is
    kernel_irqchip=split). ``vcpus``: the maximum; ``current_vcpus``: at the start. ``vcpu_threads``: libvirt's vCPU
    number (QEMU's cpu_index, not the APIC id), thread id; only while running. ``known_as``: the title from its owner,
    and metadata of Nova, OpenNebula and KubeVirt, as in ``VmmProcess``. ``os_id``: libosinfo's id of the guest's
    system, such as ``http://microsoft.com/win/11``.
    """

    is_running: bool
    type: str | None
    name: str | None
    uuid: str | None
    pid: int | None
    machine: str | None
    vcpus: int | None
    current_vcpus: int | None
    acpi: bool
    apic: bool
    pae: bool
    ioapic_driver: str | None
    hyperv_mode: str | None
    hyperv: tuple[tuple[str, bool], ...]
    timers: tuple[Timer, ...]
    launch_security: str | None
    cpu_mode: str | None
    cpu_model: str | None
    cpu_features: tuple[CpuFeature, ...]
    iommu: Iommu | None
    vcpu_threads: tuple[tuple[int, int], ...]
    known_as: tuple[tuple[str, str], ...] = ()
    os_id: str | None = None

    @property
    def manager(self) -> str:
        """The manager that created it, as in ``VmmProcess.managed_by``; libvirt itself if the XML names none."""
        spaces = (word.partition(".")[0] for word, _ in self.known_as)
        return next((space for space in spaces if space != "libvirt"), "libvirt")

    def hyperv_flag(self, name: str) -> bool | None:
        """Whether an enlightenment (``synic``, ``avic``, ``stimer``) is enabled; None if it is not mentioned."""
        return dict(self.hyperv).get(name)

    def timer(self, name: str) -> Timer | None:
        return next((timer for timer in self.timers if timer.name == name), None)


def parse_domain(data: bytes) -> LibvirtDomain:
    """A domain from a ``<domain>`` or ``<domstatus>`` document. Raises FormatError, and no other error."""
    root = _parse_xml(data)
    domain = root.find("domain") if root.tag == "domstatus" else root
    if domain is None or domain.tag != "domain":
        raise FormatError("libvirt XML", offset=0, expected="a <domain>", got=f"<{root.tag[:64]}>")
    features = domain.find("features")
    vcpu = domain.find("vcpu")
    most = _number(_text(domain, "vcpu"))
    current = _number(vcpu.get("current")) if vcpu is not None else None
    return LibvirtDomain(
        is_running=root is not domain,
        type=domain.get("type"),
        name=_text(domain, "name"),
        uuid=_text(domain, "uuid"),
        pid=_number(root.get("pid")) if root is not domain else None,
        machine=_attribute(domain, "os/type", "machine"),
        vcpus=most,
        current_vcpus=most if current is None else current,
        acpi=domain.find("features/acpi") is not None,
        apic=domain.find("features/apic") is not None,
        pae=domain.find("features/pae") is not None,
        ioapic_driver=_attribute(domain, "features/ioapic", "driver"),
        hyperv_mode=_attribute(domain, "features/hyperv", "mode"),
        hyperv=_hyperv(features.find("hyperv") if features is not None else None),
        timers=tuple(_timer(timer) for timer in domain.iterfind("clock/timer")),
        launch_security=_attribute(domain, "launchSecurity", "type"),
        cpu_mode=_attribute(domain, "cpu", "mode"),
        cpu_model=_text(domain, "cpu/model"),
        cpu_features=tuple(
            CpuFeature(feature.get("name", ""), feature.get("policy")) for feature in domain.iterfind("cpu/feature")
        ),
        iommu=_iommu(domain.find("devices/iommu")),
        vcpu_threads=_vcpu_threads(root),
        known_as=tuple((word, value) for word, value in _known_as(domain) if value),
        os_id=next(_os_ids(domain), None),
    )


def _known_as(domain: Element) -> Iterator[tuple[str, str | None]]:
    yield "libvirt.title", _text(domain, "title")
    for noted in domain.iterfind("metadata/*"):
        space, _, tag = noted.tag.rpartition(_NAMESPACE_END)
        at = space + _NAMESPACE_END
        if tag == "instance" and space.startswith(_NOVA):
            yield "openstack.name", _text(noted, f"{at}name")
            yield "openstack.project", _text(noted, f"{at}owner/{at}project")
            yield "openstack.flavor", _attribute(noted, f"{at}flavor", "name")
        elif tag == "vm" and space.startswith(_OPENNEBULA):
            yield "opennebula.name", _text(noted, f"{at}name")
            yield "opennebula.group", _text(noted, f"{at}gname")
        elif tag == "kubevirt" and space.startswith(_KUBEVIRT):
            yield "kubevirt.uid", _text(noted, f"{at}uid")


def _os_ids(domain: Element) -> Iterator[str]:
    for noted in domain.iterfind("metadata/*/*"):
        space, _, tag = noted.tag.rpartition(_NAMESPACE_END)
        if tag == "os" and space.startswith(_LIBOSINFO) and (found := noted.get("id")):
            yield found


def _hyperv(element: Element | None) -> tuple[tuple[str, bool], ...]:
    children = () if element is None else tuple(element)
    found = [(child.tag, _switch(child.get("state"))) for child in children]
    found += [(f"{child.tag}.{part.tag}", _switch(part.get("state"))) for child in children for part in child]
    return tuple((name, state) for name, state in found if state is not None)


def _timer(element: Element) -> Timer:
    return Timer(element.get("name", ""), _switch(element.get("present")), element.get("tickpolicy"))


def _iommu(element: Element | None) -> Iommu | None:
    if element is None:
        return None
    driver = element.find("driver")
    given = driver.attrib if driver is not None else {}
    return Iommu(
        model=element.get("model"),
        interrupt_remapping=_switch(given.get("intremap")),
        eim=_switch(given.get("eim")),
        xtsup=_switch(given.get("xtsup")),
    )


def _vcpu_threads(status: Element) -> tuple[tuple[int, int], ...]:
    pairs = ((_number(vcpu.get("id")), _number(vcpu.get("pid"))) for vcpu in status.iterfind("vcpus/vcpu"))
    return tuple((number, tid) for number, tid in pairs if number is not None and tid is not None)


def _text(element: Element, path: str) -> str | None:
    text = element.findtext(path)
    return text.strip() or None if text else None


def _attribute(element: Element, path: str, name: str) -> str | None:
    found = element.find(path)
    return None if found is None else found.get(name)


def _switch(text: str | None) -> bool | None:
    return {"on": True, "yes": True, "off": False, "no": False}.get(text or "")


def _number(text: str | None) -> int | None:
    stripped = (text or "").strip()
    return int(stripped) if stripped.isascii() and stripped.isdecimal() and len(stripped) < 20 else None


class _Refused(Exception):
    """Raised inside expat's handlers, to abort parsing."""


def _qualified(tag: str) -> str:
    """``{namespace}tag`` from expat's ``namespace}tag``."""
    return "{" + tag if _NAMESPACE_END in tag else tag


def _parse_xml(data: bytes) -> Element:
    """An element tree, built with expat itself, since ElementTree's own parser cannot refuse a document type."""
    if len(data) > MAX_BYTES:
        raise FormatError("libvirt XML", offset=MAX_BYTES, expected=f"at most {MAX_BYTES} bytes", got=str(len(data)))
    from xml.etree.ElementTree import TreeBuilder  # 7 ms of a start, only needed on hosts with libvirt
    from xml.parsers import expat

    builder = TreeBuilder()
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _MAX_DEPTH:
            raise _Refused(f"more than {_MAX_DEPTH} levels")
        builder.start(_qualified(tag), attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(_qualified(tag))

    def refuse_doctype(*_: object) -> None:
        raise _Refused("a document type")

    parser = expat.ParserCreate(namespace_separator=_NAMESPACE_END)
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse_doctype
    try:
        parser.Parse(data, True)
        return builder.close()
    except (expat.ExpatError, _Refused, ValueError, LookupError) as error:
        offset = max(parser.CurrentByteIndex, 0)
        raise FormatError("libvirt XML", offset=offset, expected="a well-formed <domain>", got=str(error)) from error
