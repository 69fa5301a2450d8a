"""The interrupt state of each VM and vCPU; None where the sample does not have it. ``cases`` reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from ...sample import Sample
from ...schema import Schema, Scope

PROVIDER = "apicv"
INHIBIT = "apicv_inhibit_"


@dataclass(frozen=True, slots=True)
class VcpuFacts:
    """``row``: within its VM. ``has_apic``: whether the kernel emulates its local APIC. ``has_run``: whether it ever
    entered the guest. ``irq_windows``: the number of interrupt windows during the window.
    """

    row: int
    id: int
    has_apic: bool | None
    has_run: bool | None
    active: bool | None
    enabled: bool | None
    x2apic: bool | None
    base_moved: bool | None
    blockirq: bool | None
    apic_id: int | None
    ldr: int | None
    dfr: int | None
    guest_mode: bool | None
    irq_windows: int | None


@dataclass(frozen=True, slots=True)
class VmFacts:
    """``inhibits``: whether each reason of this kernel holds; None if the state was not read.

    ``before``: the same at the start of the window; None without a window, or for a VM that came in it.
    """

    inhibits: Mapping[str, bool] | None
    irqchip_kernel: bool | None
    irqchip_split: bool | None
    pit_in_kernel: bool | None
    pit_reinject: bool | None
    x2apic_32bit_ids: bool | None
    synic_auto_eoi: bool | None
    sev: bool | None
    vcpus: tuple[VcpuFacts, ...]
    before: Mapping[str, bool] | None

    @property
    def irqchip_in_kernel(self) -> bool | None:
        """Whether the kernel emulates the local APICs."""
        if self.irqchip_kernel is None or self.irqchip_split is None:
            return None
        return self.irqchip_kernel or self.irqchip_split

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the reasons that hold."""
        return tuple(name for name, holds in (self.inhibits or {}).items() if holds)


def reasons_of(sample: Sample) -> tuple[str, ...]:
    """The stats of the reasons that this kernel has, in the order of its bits; cumulative ones are not among them."""
    return _reasons_in(tuple(block.schema for block in sample.blocks_from(PROVIDER, Scope.VM)))


@lru_cache(maxsize=64)
def _reasons_in(schemas: tuple[Schema, ...]) -> tuple[str, ...]:
    stats = (stat for schema in schemas for stat in schema.descriptors)
    return tuple(dict.fromkeys(stat.name for stat in stats if stat.name.startswith(INHIBIT) and stat.is_boolean))
