"""Finds VMs by a text in their names, in their most urgent finding, or in the reasons why APICv is inhibited.

The names of a VM are joined once, so a key typed into the filter costs little even with ten thousand VMs.
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
        """The VMs that have ``text``; the case does not matter."""
        wanted, ids = text.casefold(), vms.ids
        found = {vm for vm, names in zip(ids, self._names_of(vms), strict=True) if wanted in names}
        found.update(vm for vm, trouble in troubles.of_vm.items() if wanted in trouble.rule)
        found.update(ids[place] for place in vms.inhibited_by(lambda reason: wanted in reason.casefold()))
        return found

    def _names_of(self, vms: VmRows) -> list[str]:
        """The names of each VM, in lower case."""
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
    """Whether one VM has the text."""
    words = [vm.name, vm.uuid, str(vm.id), vm.vmm, None if vm.pid is None else str(vm.pid)]
    words += [None if trouble is None else trouble.rule, *(reason.name for reason in vm.apicv.reasons)]
    return any(word is not None and text.casefold() in word.casefold() for word in words)


def _is_same(one: VmIdentity, other: VmIdentity) -> bool:
    return one is other or (one.name == other.name and one.process is other.process)


def _names(vm: VmId, identity: VmIdentity, pid: int | None) -> str:
    """The names of a VM, one per line; searched texts do not have line breaks."""
    process = identity.process
    uuid, program = (process.uuid, process.program) if process else (None, None)
    return f"{identity.name}\n{vm}\n{pid or ''}\n{uuid or ''}\n{program or ''}".casefold()
