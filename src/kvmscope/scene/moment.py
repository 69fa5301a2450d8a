"""A scene: one moment of a host with everything that rules need, as plain values. Rules, views and recordings read only
scenes. Nothing here is derived, and nothing here reads: ``collect`` makes scenes of a live host. Names, command lines
and XML are untrusted text, as their owners wrote them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..host.facts import Machine
from ..host.process import VmmProcess
from ..host.text import printable
from ..sample import NOT_KNOWN, Origin, Sample


@dataclass(frozen=True, slots=True)
class VmIdentity:
    """The identity of one VM.

    ``name``: to display, unique within a scene. ``process``: None if it could not be inspected. ``domain_xml``:
    libvirt's XML, if libvirt manages the VM and its command line leaves a setting open; else None. ``silent_s``:
    seconds for which its VMM has not answered the query for its identity; None if it answered.
    """

    name: str
    process: VmmProcess | None
    domain_xml: bytes | None = None
    silent_s: float | None = None


@dataclass(frozen=True)
class Scene:
    """One moment of a host.

    ``identities``: one for each row of ``sample.vms``. ``machine``: the facts of the host. ``why_not``: for each better
    source than the one that was read, why it was not available.
    """

    sample: Sample
    identities: tuple[VmIdentity, ...]
    machine: Machine
    why_not: Mapping[str, str]

    @property
    def origin(self) -> Origin | None:
        """Host and boot of the sample; None if its source does not know."""
        return self.sample.origin

    def title(self, row: int, *, max_length: int = 64) -> str:
        """The name of a VM for printing, without terminal control characters."""
        return printable(self.identities[row].name, max_length=max_length)

    def pid(self, row: int) -> int | None:
        """The process id of a VM's VMM, None if unknown."""
        pid = int(self.sample.vms.pid[row])
        return None if pid == NOT_KNOWN else pid

    def vmm(self, row: int) -> str | None:
        """The program of a VM's VMM, None if unknown. Untrusted text."""
        process = self.identities[row].process
        return None if process is None else process.program
