"""A VMM's main loop that publishes its own stats: one class for the VM's device, one for each vCPU's exits.

Run it, and in another terminal read it: ``kvmscope read --source published``.
The loop here only pretends to run guests; what matters is where the stats are updated.
"""

from __future__ import annotations

import argparse
import random
import time

from kvmscope import publish
from kvmscope.schema import Scope, Unit


class DiskStats(publish.Stats, provider="examplevmm", scope=Scope.VM):
    requests = publish.Counter("Requests that the disk completed.")
    queued = publish.Instant("Requests that wait for the disk.")
    most_queued = publish.Peak("Most requests that have waited at once.")
    is_stalled = publish.Boolean("The backing file does not answer.")
    sizes = publish.LinearHistogram("Sizes of requests.", size=16, bucket_size=4096, unit=Unit.BYTES)


class ExitStats(publish.Stats, provider="examplevmm", scope=Scope.VCPU):
    userspace_exits = publish.Counter("Exits that this VMM handled.")
    handling_ns = publish.Counter("Time spent on them.", unit=Unit.SECONDS, exponent=-9)
    handling_hist = publish.LogHistogram("Time spent on each of them.", unit=Unit.SECONDS, exponent=-9)


def handle_exit(disk: DiskStats, stats: ExitStats) -> None:
    """What a VMM does between two KVM_RUNs, with its stats."""
    began_ns = time.perf_counter_ns()
    queued = random.randrange(8)
    disk.queued.set(queued)
    disk.most_queued.raise_to(queued)
    disk.sizes.record(512 * random.randint(1, 128))
    disk.requests.add()
    took_ns = time.perf_counter_ns() - began_ns
    stats.userspace_exits.add()
    stats.handling_ns.add(took_ns)
    stats.handling_hist.record(took_ns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--for", dest="seconds", type=float, default=60.0, help="seconds to run")
    deadline = time.monotonic() + parser.parse_args().seconds
    with publish.Vm("example-1") as vm:
        disk = DiskStats(vm)
        vcpus = [ExitStats(vm, vcpu=number) for number in range(2)]
        while time.monotonic() < deadline:
            for stats in vcpus:
                handle_exit(disk, stats)
            time.sleep(0.001)


if __name__ == "__main__":
    main()
