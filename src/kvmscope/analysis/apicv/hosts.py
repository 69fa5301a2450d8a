"""The host of each VM: this host, or the simulated host of a simulated VM."""

from __future__ import annotations

from functools import lru_cache

from ...host.apicv import Hardware, HostApicv, HostFlag
from ...sample import Sample
from ...schema import Scope
from .cases import flags_of

HOST_PROVIDER = "simulated_host"
"""The provider by which a simulated VM describes its simulated host."""

SIMULATED_HOST = ("is_amd", "cpu_has_apicv", "switched_on", "x2avic", "ipi_virtualization", "device_posting", "nested")
"""The booleans of that provider."""


def hosts_of(sample: Sample, host: HostApicv) -> tuple[HostApicv, ...]:
    """The host by which to judge each VM: ``host``, or the simulated host of a simulated VM."""
    if not sample.simulated:
        return (host,) * len(sample.vms)
    of_vms = flags_of(sample, Scope.VM, HOST_PROVIDER, SIMULATED_HOST).T.tolist()
    return tuple(_simulated_host(*(None if flag < 0 else bool(flag) for flag in flags)) for flags in of_vms)


@lru_cache(maxsize=256)
def _simulated_host(*flags: bool | None) -> HostApicv:
    facts = dict(zip(SIMULATED_HOST, flags, strict=True))
    if facts["is_amd"] is None:
        return HostApicv.unknown("simulated, without facts about the host that it pretends to run on")

    def told(name: str) -> HostFlag:
        return HostFlag(facts[name], f"simulated: {name.replace('_', ' ')}: {'yes' if facts[name] else 'no'}")

    return HostApicv(
        is_x86=True,
        hardware=Hardware.AMD if facts["is_amd"] else Hardware.INTEL,
        module="kvm_amd" if facts["is_amd"] else "kvm_intel",
        supported=told("cpu_has_apicv"),
        switched_on=told("switched_on"),
        x2avic=told("x2avic"),
        ipi=told("ipi_virtualization"),
        device_posting=told("device_posting"),
        nested=told("nested"),
        cpu_ipi=told("ipi_virtualization"),
    )
