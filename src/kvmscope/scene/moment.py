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
    """Who one VM is.

    ``name``: what to call it, different for each VM of a scene. ``process``: None if it could not be looked at.
    ``domain_xml``: libvirt's XML of it, where libvirt manages it and its command line leaves a setting open; else None.
    ``silent_s``: for how many seconds its VMM has not answered the question who it is; None if it answered.
    """

    name: str
    process: VmmProcess | None
    domain_xml: bytes | None = None
    silent_s: float | None = None


@dataclass(frozen=True)
class Scene:
    """One moment of a host.

    ``identities``: one a row of ``sample.vms``. ``machine``: the facts of the host. ``why_not``: for each source that
    is better than the one that was read, why it could not be had.
    """

    sample: Sample
    identities: tuple[VmIdentity, ...]
    machine: Machine
    why_not: Mapping[str, str]

    @property
    def origin(self) -> Origin | None:
        """Host and boot that the sample is of; None if its source does not know."""
        return self.sample.origin

    def title(self, row: int, *, max_length: int = 64) -> str:
        """What to print for a VM: its name, without anything that a terminal would obey."""
        return printable(self.identities[row].name, max_length=max_length)

    def pid(self, row: int) -> int | None:
        """The process id of a VM's VMM, None if it is not known."""
        pid = int(self.sample.vms.pid[row])
        return None if pid == NOT_KNOWN else pid

    def vmm(self, row: int) -> str | None:
        """What program a VM's VMM is, None if it is not known. Untrusted text."""
        process = self.identities[row].process
        return None if process is None else process.program
