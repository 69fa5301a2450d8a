"""The typed settings that determine a VM's interrupts, the same for every VMM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from typing import Generic, Self, TypeVar

from ..process import outermost

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Irqchip(Enum):
    """Where interrupt controllers are emulated: all in the kernel, only the local APICs in the kernel, or none."""

    KERNEL = "kernel"
    SPLIT = "split"
    OFF = "off"


class Pit(Enum):
    """How the in-kernel PIT treats ticks that the guest missed; ABSENT if the kernel does not emulate a PIT."""

    ABSENT = "absent"
    REINJECT = "reinject"
    DISCARD = "discard"


class Confidential(Enum):
    """The technology that protects the guest's memory from the host."""

    NONE = "none"
    SEV = "sev"
    SEV_SNP = "sev-snp"
    TDX = "tdx"


@dataclass(frozen=True, slots=True)
class Setting(Generic[T_co]):
    """One setting. ``value``: None if unknown. ``evidence``: the option, the default in force, or why it is unknown.

    ``is_sure``: false for a default that the VMM can change without a trace in its command line. Untrusted text.
    """

    value: T_co | None
    evidence: str
    is_sure: bool = True

    @classmethod
    def unknown(cls, why: str) -> Setting[T_co]:
        return cls(None, why, is_sure=False)


@dataclass(frozen=True, slots=True)
class SettingGroup:
    """Base of configurations all of whose fields are a ``Setting``."""

    @classmethod
    def unknown(cls, why: str) -> Self:
        make: Callable[..., Self] = cls
        return make(**{each.name: Setting.unknown(why) for each in fields(cls)})

    def filled_from(self, other: Self) -> Self:
        """This configuration, with unknown settings taken from ``other``."""
        mine = ((each.name, getattr(self, each.name)) for each in fields(self))
        return replace(self, **{name: getattr(other, name) for name, setting in mine if setting.value is None})


@dataclass(frozen=True, slots=True)
class InterruptConfig:
    """The configuration of one VM. ``vmm``, ``managed_by``: as in ``VmmProcess``.

    ``synic``, ``avic_hint``: whether the guest has Hyper-V's interrupt controller, and the advice not to use AutoEOI
    (hv-avic). ``nested``: whether it is shown SVM or VMX. ``cpus``: the maximum number of vCPUs.
    """

    vmm: str
    managed_by: str | None
    irqchip: Setting[Irqchip]
    pit: Setting[Pit]
    synic: Setting[bool]
    avic_hint: Setting[bool]
    confidential: Setting[Confidential]
    nested: Setting[bool]
    cpus: Setting[int]
    highest_apic_id: Setting[int]
    _hash: int | None = field(default=None, init=False, repr=False, compare=False)

    def __hash__(self) -> int:
        """Computed once: configurations are part of the cache key of VMs in every window."""
        if self._hash is None:
            object.__setattr__(self, "_hash", hash((self.vmm, self.managed_by, *self.settings.values())))
        return self._hash or 0

    @classmethod
    def unknown(cls, vmm: str, why: str, *, managed_by: str | None = None) -> InterruptConfig:
        """A configuration of which nothing is known, for one reason."""
        return cls(
            vmm=vmm,
            managed_by=managed_by,
            irqchip=Setting.unknown(why),
            pit=Setting.unknown(why),
            synic=Setting.unknown(why),
            avic_hint=Setting.unknown(why),
            confidential=Setting.unknown(why),
            nested=Setting.unknown(why),
            cpus=Setting.unknown(why),
            highest_apic_id=Setting.unknown(why),
        )

    @property
    def is_open(self) -> bool:
        """Whether some setting is unknown."""
        return any(setting.value is None for setting in self.settings.values())

    @property
    def settings(self) -> dict[str, Setting[object]]:
        """Every setting by its name."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in found.items() if isinstance(value, Setting)}

    def filled_from(self, other: InterruptConfig) -> InterruptConfig:
        """This configuration, with unknown settings taken from ``other``."""
        return InterruptConfig(
            vmm=self.vmm,
            managed_by=outermost(self.managed_by, other.managed_by),
            irqchip=_known(self.irqchip, other.irqchip),
            pit=_known(self.pit, other.pit),
            synic=_known(self.synic, other.synic),
            avic_hint=_known(self.avic_hint, other.avic_hint),
            confidential=_known(self.confidential, other.confidential),
            nested=_known(self.nested, other.nested),
            cpus=_known(self.cpus, other.cpus),
            highest_apic_id=_known(self.highest_apic_id, other.highest_apic_id),
        )


def _known(first: Setting[T], second: Setting[T]) -> Setting[T]:
    return second if first.value is None and second.value is not None else first


def bits_for(count: int) -> int:
    """Bits of an APIC id that distinguish ``count`` (1 or more) parts of one level."""
    return (count - 1).bit_length()


def apic_id(index: int, levels: tuple[int, ...]) -> int:
    """APIC id of the vCPU with this index; ``levels``: parts in each level below the package, innermost first."""
    found, shift = 0, 0
    for parts in levels:
        index, place = divmod(index, parts)
        found |= place << shift
        shift += bits_for(parts)
    return found | index << shift


def highest_apic_id(count: int, levels: tuple[int, ...]) -> int:
    """The largest APIC id of ``count`` vCPUs."""
    return apic_id(max(count, 1) - 1, levels)
