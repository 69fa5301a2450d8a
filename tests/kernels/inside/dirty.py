"""Runs inside an emulated kernel: pages that guests make dirty, as group dirty counts and as their VMM fetches them.

The output is one JSON object; what it should be is said in tests/kernels/test_dirty.py.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import Any

from kvmscope.lab import process
from kvmscope.lab.spec import LabSpec
from kvmscope.sample import Block, Sample
from kvmscope.schema import Scope
from kvmscope.sources.bpf.groups import dirty
from kvmscope.sources.bpf.groups.kernel import KernelFacts
from kvmscope.sources.bpf.groups.loaded import LoadedGroup
from kvmscope.sources.bpf.source import BpfSource, with_groups

_GUESTS = (("dirty", 1), ("dirty", 2), ("ring", 1), ("ring", 2), ("pio", 1))


def counted(sample: Sample, pid: int) -> dict[str, int] | None:
    """The stats of the VM of a process; None if they are not known."""
    block = sample.block(dirty.NAME, Scope.VM)
    assert block is not None
    places = [place for place, row in enumerate(block.rows) if sample.vms.pid[row] == pid]
    return {name: int(block.column(name)[places[0]]) for name in block.schema.names} if places else None


def main() -> dict[str, Any]:
    answer: dict[str, Any] = {"guests": []}
    with contextlib.closing(BpfSource(groups=(dirty.NAME,))) as source:
        first = dirty.plan(KernelFacts())
        assert first.otherwise is not None
        fetching = first.otherwise("as the test says")
        with contextlib.closing(LoadedGroup(fetching, fetching.shape(1))) as fallback:
            for workload, vcpus in _GUESTS:
                with process.start(LabSpec(workload=workload, vcpus=vcpus, count=200)) as guests:
                    guests.go()
                    (vm,) = guests.wait_for_done(120).vms
                    sample = source.read()
                    bare = replace(sample, blocks=tuple(filter(_is_of_host, sample.blocks)))
                    answer["guests"].append(
                        {
                            "workload": workload,
                            "did": sum(vcpu.did for vcpu in vm.vcpus),
                            "vmm": vm.dirty_pages,
                            "marked": counted(sample, guests.pid),
                            "fetched": counted(with_groups(bare, [fallback]), guests.pid),
                            "gaps": [gap.reason for gap in sample.gaps if gap.provider == dirty.NAME],
                        }
                    )
    return answer


def _is_of_host(block: Block) -> bool:
    return block.schema.provider != dirty.NAME


if __name__ == "__main__":
    print(json.dumps(main()))
