"""One side of a diff: its scenes, the VMs that are compared, and the facts of its host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

from ..analysis.caveats import Facts, facts_of
from ..analysis.difference_sides import SpanValues, lasting_vms, read_span
from ..catalog.kernels import architecture_of
from ..catalog.metrics import Metric
from ..errors import UsageError
from ..host.facts import Machine
from ..scene import Scene
from ..schema import KernelTables, Table
from .subjects import find_subject
from .values import Moment


@dataclass(frozen=True, slots=True)
class DiffSource:
    """The input for one side. ``spans``: one per host, each the scenes of one boot and source."""

    place: str
    spans: Sequence[Sequence[Scene]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffSideView:
    """One side."""

    place: Annotated[str, "The recording."]
    begin: Annotated[Moment, "Its first scene."]
    end: Annotated[Moment, "Its last scene."]
    simulated: Annotated[bool, "Whether a simulated host stands behind the numbers, and not a kernel."]
    hosts: Annotated[tuple[str | None, ...], "Host names."]
    kernels: Annotated[tuple[str | None, ...], "Releases of their kernels, each once."]
    vms: Annotated[int, "Number of VMs that are compared."]
    intervals: Annotated[int, "Number of intervals, of all hosts together."]
    interval_s: Annotated[float | None, "Mean length of an interval; null if there is none."]


class DiffSide:
    """A side, whose first and last scenes are read once."""

    def __init__(self, source: DiffSource) -> None:
        """Raises UsageError if it has no interval."""
        self._place = source.place
        self.spans = [span for span in source.spans if len(span) > 1]
        if not self.spans:
            raise UsageError(f"{source.place} has no two scenes of one boot and source in this time")
        self.ends = [(span[0], span[-1]) for span in self.spans]

    @property
    def last(self) -> Scene:
        """The last scene of the first span."""
        return self.ends[0][1]

    @property
    def machine(self) -> Machine:
        return self.last.machine

    def choose(self, vm: str | None) -> list[list[int]]:
        """For each span, the rows of the VMs that lasted, in its last scene; if ``vm`` is given, of that VM alone.

        Raises UsageError if no span has it.
        """
        lasting = [lasting_vms(first, last) for first, last in self.ends]
        if vm is None:
            return lasting
        return [[row for row in rows if row == self._find(place, vm)] for place, rows in enumerate(lasting)]

    def _find(self, place: int, vm: str) -> int | None:
        try:
            return find_subject(self.ends[place][1], vm).vm
        except UsageError:
            if len(self.ends) == 1:
                raise
            return None

    def read(self, chosen: Sequence[Sequence[int]], metrics: Sequence[Metric]) -> list[SpanValues]:
        """The values of the metrics for the chosen VMs in each span."""
        return [
            read_span(span, [int(last.sample.vms.id[row]) for row in rows], metrics)
            for span, (_, last), rows in zip(self.spans, self.ends, chosen, strict=True)
        ]

    def names_without(self, chosen: Sequence[Sequence[int]]) -> tuple[str, ...]:
        """The VMs of the last scenes that are not chosen."""
        return tuple(
            identity.name
            for (_, last), rows in zip(self.ends, chosen, strict=True)
            for row, identity in enumerate(last.identities)
            if row not in set(rows)
        )

    @cached_property
    def tables(self) -> KernelTables:
        """The stats of its first host."""
        found: dict[tuple[object, ...], Table] = {}
        for block in self.last.sample.blocks:
            found.setdefault((block.schema.provider, block.schema.scope), block.schema.table)
        machine = self.machine.architecture.value
        architecture = None if machine is None else architecture_of(machine)
        release = self.machine.kernel_release.value
        return KernelTables(self._place, release, architecture, True, "recorded", tuple(found.values()))

    @property
    def facts(self) -> Facts:
        """The facts of its first host, by which caveats are judged."""
        return facts_of(self.machine, self.last.sample)

    def view(self, values: Sequence[SpanValues]) -> DiffSideView:
        samples = [(first.sample, last.sample) for first, last in self.ends]
        machines = [last.machine for _, last in self.ends]
        lengths = [length for span in values for length in span.lengths_s.tolist()]
        return DiffSideView(
            place=self._place,
            begin=Moment(min(first.taken_ns for first, _ in samples)),
            end=Moment(max(last.taken_ns for _, last in samples)),
            simulated=any(last.simulated for _, last in samples),
            hosts=tuple(machine.hostname.value for machine in machines),
            kernels=tuple(dict.fromkeys(machine.kernel_release.value for machine in machines)),
            vms=sum(len(span.vcpus) for span in values),
            intervals=len(lengths),
            interval_s=sum(lengths) / len(lengths) if lengths else None,
        )
