"""Runs inside an emulated x86 kernel: plays the scenarios, and prints what kvmscope saw and made of it at each phase.

Each scenario has a VM of its own, between two VMs of the same process to which nothing is done. At each phase the BPF
source is read once, then every vCPU runs once, and it is read again. With AVIC on the source has group ``apicv``, else
the smaller ``apic``.
The output is one JSON object; what it should be is said in tests/kernels/test_inhibits.py, test_inhibit_times.py and
test_what_if.py.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from typing import Any

from kvmscope.analysis.apicv import VmVerdict, WhatIf, judge, what_if
from kvmscope.analysis.window import Window
from kvmscope.errors import SourceError
from kvmscope.host.apicv import HostApicv, host_apicv
from kvmscope.host.machine import read_machine
from kvmscope.lab.kvm import Kvm
from kvmscope.sample import Sample
from kvmscope.schema import Scope
from kvmscope.sources.bpf.source import BpfSource

from .guests import Guest
from .scenarios import SCENARIOS, Phases

Vms = list[dict[str, Any]]


def main() -> None:
    """Print what every scenario showed."""
    host = host_apicv(read_machine())
    observer = InhibitObserver(host)
    with Kvm() as kvm:
        earlier = Guest(kvm, 0)
        answers = {
            "release": platform.release(),
            "avic": host.switched_on.value,
            "vm stats": observer.vm_stats,
            "scenarios": {name: _play(kvm, observer, SCENARIOS[name]) for name in sys.argv[1:] or SCENARIOS},
        }
        earlier.vm.close()
    observer.close()
    json.dump(answers, sys.stdout)


class InhibitObserver:
    """The source, and what follows from its samples for the VMs of this process."""

    def __init__(self, host: HostApicv) -> None:
        self._host = host
        self._source = BpfSource(groups=("apicv" if host.switched_on.value else "apic",))
        self._previous = self._source.read()

    @property
    def vm_stats(self) -> list[str]:
        """The VM's stats of provider apicv."""
        (schema,) = (each for each in self._source.schemas if each.provider == "apicv" and each.scope is Scope.VM)
        return list(schema.names)

    def look(self) -> Vms:
        """By one read: the VMs in order of creation, with the provider's stats, the verdict, and what would be."""
        sample = self._source.read()
        window = Window(self._previous, sample)
        self._previous = sample
        verdicts, predictions = judge(sample, self._host).vms, what_if(sample, self._host, window=window)
        return [
            {**vm, "verdict": _verdict(verdicts[row]), "what if": _what_if(predictions[row])}
            for row, vm in _vms_of_this_process(sample)
        ]

    def close(self) -> None:
        self._source.close()


def _play(kvm: Kvm, observer: InhibitObserver, scenario: Callable[[Kvm], Phases]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    guest: Guest | None = None
    later: Guest | None = None
    phases = scenario(kvm)
    try:
        while True:
            started_ns = time.monotonic_ns()
            phase, guest = next(phases)
            ended_ns = time.monotonic_ns()
            later = later or Guest(kvm, 0)
            before_look_ns = time.monotonic_ns()
            at_once = observer.look()
            looked_ns = time.monotonic_ns()
            guest.run()
            later.run()
            seen[phase] = {
                "done ns": [started_ns, ended_ns],
                "read ns": [before_look_ns, looked_ns],
                "at once": at_once,
                "after a run": observer.look(),
            }
    except StopIteration:
        pass
    except SourceError as error:
        seen["refused"] = errno.errorcode[error.errno or 0]
    finally:
        for each in (guest, later):
            if each is not None:
                each.vm.close()
    return seen


def _verdict(verdict: VmVerdict) -> dict[str, Any]:
    return {
        "state": verdict.state.value,
        "branch": verdict.branch.value,
        "is verified": verdict.is_verified,
        "reasons": {
            reason.name: {
                "cause": reason.cause,
                "remedy": reason.remedy,
                "witness": reason.witness.value,
                "evidence": [evidence.text for evidence in reason.evidence],
            }
            for reason in verdict.reasons
        },
        "contradictions": verdict.contradictions,
        "vcpus": [
            {
                "state": vcpu.state.value,
                "is provisional": vcpu.is_provisional,
                "reasons": [reason.name for reason in vcpu.reasons],
            }
            for vcpu in verdict.vcpus
        ],
    }


def _what_if(found: WhatIf) -> dict[str, Any]:
    return {
        "is off": found.is_off,
        "outcome": found.outcome.value,
        "holds": {prediction.reason: prediction.holds for prediction in found.predictions},
        "certainty": {prediction.reason: prediction.certainty.value for prediction in found.predictions},
        "remedies": {prediction.reason: prediction.remedy for prediction in found.predictions},
        "first": found.first,
    }


def _vms_of_this_process(sample: Sample) -> list[tuple[int, dict[str, Any]]]:
    gaps = [gap for gap in sample.gaps if gap.provider != "sched"]  # the VMs of this process share its threads
    assert not gaps, gaps
    vms = _rows(sample, "apicv", Scope.VM)
    states = _rows(sample, "apicv", Scope.VCPU)
    stats = _rows(sample, "kvm", Scope.VCPU, "guest_mode", "irq_window_exits")
    found = []
    for row in range(len(sample.vms)):
        if sample.vms.pid[row] == os.getpid():
            span = sample.vcpus_of_vm[row]
            vcpus = [
                {"id": int(sample.vcpus.id[place]), **states.get(place, {}), **stats[place]}
                for place in range(span.start, span.stop)
            ]
            found.append((row, {"stats": vms[row], "vcpus": vcpus}))
    return found


def _rows(sample: Sample, provider: str, scope: Scope, *names: str) -> dict[int, dict[str, int | bool]]:
    block = sample.block(provider, scope)
    assert block is not None
    chosen = [block.schema[name] for name in names or block.schema.names]
    columns = {each.name: block.column(each.name).astype(bool if each.is_boolean else int).tolist() for each in chosen}
    return {int(row): {name: column[i] for name, column in columns.items()} for i, row in enumerate(block.rows)}


if __name__ == "__main__":
    main()
