"""The other sources on as many VMs: stats fds that the VMM keeps open, and what a process publishes.

`statsfd`: 16 VMs with 64 vCPUs each in processes of their own; every file is read by a system call, and /proc walked at
each tenth read. `published`: 128 VMs with 8 vCPUs each, of one process; copied from shared memory.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median

from bench.guests import vms_with_stats_fds
from bench.preads import c_loop
from bench.result import Row
from bench.timing import duration, pairs, repeat, timed
from kvmscope.sources.published import PublishedSource
from kvmscope.sources.statsfd import StatsFdSource

ROUNDS = 20

_PUBLISHER = """
import resource, sys
from kvmscope.publish import StatSet, Vm
from kvmscope.schema import Scope
from kvmscope.sources.kvm_schema import read_kvm_schemas
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
schemas = read_kvm_schemas()
of_vm = StatSet("kvm", Scope.VM, schemas.vm.descriptors)
of_vcpu = StatSet("kvm", Scope.VCPU, schemas.vcpu.descriptors)
vms = [Vm(f"bench-{i}", simulated=True) for i in range(128)]
for vm in vms:
    vm.publish(of_vm)
    for vcpu in range(8):
        vm.publish(of_vcpu, vcpu=vcpu)
print("ready", flush=True)
sys.stdin.read()
"""


def bench() -> Sequence[Row]:
    return [_statsfd(), _published()]


def _statsfd() -> Row:
    with vms_with_stats_fds(16, 64) as guests:
        guests.wait_for_ready()
        loop, _ = c_loop(guests.stats_fds().values())
        with StatsFdSource() as source:
            vcpus = len(source.read().vcpus)
            taken = pairs(timed(source.read), loop, rounds=ROUNDS)
    return Row(f"statsfd: a read of {vcpus:,} vCPUs ÷ C loop", f"{taken.ratio:.2f} ({taken.note})")


def _published() -> Row:
    with publisher(), PublishedSource() as source:
        vcpus = len(source.read().vcpus)
        taken = repeat(timed(source.read), rounds=ROUNDS)
    return Row(f"published: a read of {vcpus:,} vCPUs", f"{duration(median(taken))} (fastest {duration(min(taken))})")


@contextmanager
def publisher() -> Iterator[None]:
    """A process that publishes 128 VMs with this kernel's own schemas."""
    command = [sys.executable, "-c", _PUBLISHER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise RuntimeError("the publisher did not come up")
            yield
        finally:
            process.kill()
