"""The fixes of a finding, in the syntax of the VM's manager or VMM."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, TypeAlias

from ..catalog.findings import Remedy
from ..catalog.settings import SettingWay, parties_of, ways_of
from ..scene import VmIdentity
from .known_names import manager_of

Parties: TypeAlias = tuple[str, ...]
"""The managers and the VMM of a VM, the outermost first, as ``settings.parties_of`` returns them."""

_MOST_WAYS: Final = 6


@dataclass(frozen=True, slots=True)
class RemedyWay:
    """How a VMM or manager writes a setting that a remedy changes, or why it does not."""

    party: Annotated[str, "The VMM or manager, as in `vmm` and `managed_by`; `any` is what a VMM itself calls."]
    text: Annotated[str, "How it is written there, or why it is not; a sentence with the party's name."]
    is_possible: Annotated[bool, "Whether it can be set there."]


@dataclass(frozen=True, slots=True)
class FindingRemedy:
    """A fix of a finding."""

    do: Annotated[str, "The change."]
    price: Annotated[str, "Its trade-off."]
    how: Annotated[Sequence[RemedyWay], "How those who run the VM write it; empty if that is not a setting of the VM."]

    @property
    def is_possible(self) -> bool:
        """Whether a manager or VMM of the VM supports it, as far as is known."""
        return not self.how or any(way.is_possible for way in self.how)


def parties_of_vm(identity: VmIdentity) -> Parties:
    """The managers and the VMM of a VM; empty if its process is unknown."""
    process = identity.process
    return () if process is None else parties_of(process.vmm, manager_of(identity))


def remedy_views(remedies: Iterable[Remedy], vms: Sequence[Parties] = ()) -> tuple[FindingRemedy, ...]:
    """The remedies for VMs with these parties. Remedies that none of the parties supports come last."""
    views = [FindingRemedy(remedy.do, remedy.price, _ways(remedy, vms)) for remedy in remedies]
    return tuple(sorted(views, key=lambda view: not view.is_possible))


def _ways(remedy: Remedy, vms: Sequence[Parties]) -> tuple[RemedyWay, ...]:
    """The ways, those for most VMs first; for one VM in the order of its settings."""
    count: Counter[SettingWay] = Counter()
    for parties, times in Counter(vms).items():  # a large host has many VMs but few combinations of parties
        for way in dict.fromkeys(ways_of(remedy.settings, parties)):
            count[way] += times
    return tuple(RemedyWay(way.party, str(way), way.is_possible) for way, _ in count.most_common(_MOST_WAYS))
