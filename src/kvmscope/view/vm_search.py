"""Finds the VMs that have a text in what they are called, in their most urgent finding, or in why APICv is inhibited.

What a VM is called is put together once, so a key in a filter costs little with ten thousand VMs.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..sample import VmId
from ..scene import VmIdentity
from .overview import VmOverview, VmRows
from .trouble import HostTroubles, VmTrouble


class VmSearch:
    """Searches consecutive views."""

    def __init__(self) -> None:
        self._ids: Sequence[VmId] = ()
        self._identities: Sequence[VmIdentity] = ()
        self._names: list[str] = []

    def matching(self, vms: VmRows, troubles: HostTroubles, text: str) -> set[VmId]:
        """The VMs that have ``text``, in whatever case."""
        wanted, ids = text.casefold(), vms.ids
        found = {vm for vm, names in zip(ids, self._names_of(vms), strict=True) if wanted in names}
        found.update(vm for vm, trouble in troubles.of_vm.items() if wanted in trouble.rule)
        found.update(ids[place] for place in vms.inhibited_by(lambda reason: wanted in reason.casefold()))
        return found

    def _names_of(self, vms: VmRows) -> list[str]:
        """For each VM, in lower case, what it is called."""
        ids, identities = vms.ids, vms.identities
        if identities is not self._identities or ids != self._ids:
            before = dict(zip(self._ids, zip(self._identities, self._names, strict=True), strict=True))
            self._names = [
                known[1] if (known := before.get(vm)) and _is_same(known[0], identity) else _names(vm, identity, pid)
                for vm, identity, pid in zip(ids, identities, vms.pids, strict=True)
            ]
            self._ids, self._identities = ids, identities
        return self._names


def has_text(vm: VmOverview, trouble: VmTrouble | None, text: str) -> bool:
    """The same of one VM."""
    words = [vm.name, vm.uuid, str(vm.id), vm.vmm, None if vm.pid is None else str(vm.pid)]
    words += [None if trouble is None else trouble.rule, *(reason.name for reason in vm.apicv.reasons)]
    return any(word is not None and text.casefold() in word.casefold() for word in words)


def _is_same(one: VmIdentity, other: VmIdentity) -> bool:
    return one is other or (one.name == other.name and one.process is other.process)


def _names(vm: VmId, identity: VmIdentity, pid: int | None) -> str:
    """One name a line; texts that are searched for have no line break."""
    process = identity.process
    uuid, program = (process.uuid, process.program) if process else (None, None)
    return f"{identity.name}\n{vm}\n{pid or ''}\n{uuid or ''}\n{program or ''}".casefold()
