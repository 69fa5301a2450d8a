"""A VMM's main loop that publishes its own stats: one class for the VM's device, one for each vCPU's exits.

Run it, and in another terminal read it: ``kvmscope read --source published``. With ``--detailed`` it also has the
histograms, which cost more than all the rest. With ``--hand-to PATH`` it hands its files to whoever listens at that
Unix socket, which is for readers that may not look into this process: examples/receive_stats.py is one.
The loop here only pretends to run guests; what matters is where the stats are updated.
"""

from __future__ import annotations

import argparse
import random
import socket
import time

from kvmscope import publish
from kvmscope.publish import Tier
from kvmscope.schema import Scope, Unit


class DiskStats(publish.Stats, provider="examplevmm", scope=Scope.VM):
    requests = publish.Counter("Requests that the disk completed.", tier=Tier.ABI_LIKE)
    queued = publish.Instant("Requests that wait for the disk.", tier=Tier.STABLE)
    most_queued = publish.Peak("Most requests that have waited at once.", tier=Tier.STABLE)
    is_stalled = publish.Bit("The backing file does not answer.", tier=Tier.STABLE)
    is_readonly = publish.Bit("The guest may not write to the disk.", tier=Tier.STABLE)
    sizes = publish.LinearHistogram(
        "Sizes of requests.", size=16, bucket_size=4096, unit=Unit.BYTES, tier=Tier.VOLATILE, group="detailed"
    )


class ExitStats(publish.Stats, provider="examplevmm", scope=Scope.VCPU, budget=512):
    userspace_exits = publish.Counter("Exits that this VMM handled.", tier=Tier.ABI_LIKE)
    handling_ns = publish.Counter("Time spent on them.", unit=Unit.SECONDS, exponent=-9, tier=Tier.STABLE)
    handling_hist = publish.LogHistogram(
        "Time spent on each of them.", unit=Unit.SECONDS, exponent=-9, tier=Tier.VOLATILE, group="detailed"
    )


def handle_exit(disk: DiskStats, stats: ExitStats) -> None:
    """What a VMM does between two KVM_RUNs, with its stats; those of a group that is off cost next to nothing."""
    began_ns = time.perf_counter_ns()
    queued = random.randrange(8)
    disk.queued.set(queued)
    disk.most_queued.raise_to(queued)
    disk.is_stalled.set(queued == 7)
    disk.sizes.record(512 * random.randint(1, 128))
    disk.requests.add()
    took_ns = time.perf_counter_ns() - began_ns
    stats.userspace_exits.add()
    stats.handling_ns.add(took_ns)
    stats.handling_hist.record(took_ns)


def hand_to(path: str, *all_stats: publish.Stats) -> None:
    """Gives the files to whoever listens there."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        for stats in all_stats:
            stats.publication.send(connection)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--for", dest="seconds", type=float, default=60.0, help="seconds to run")
    parser.add_argument("--detailed", dest="groups", action="append_const", const="detailed", help="histograms too")
    parser.add_argument("--hand-to", metavar="PATH", help="a Unix socket where somebody listens for the files")
    options = parser.parse_args()
    deadline = time.monotonic() + options.seconds
    with publish.Vm("example-1", budget=publish.Budget(vm=1024, vcpu=512)) as vm:
        disk = DiskStats(vm, groups=options.groups)
        vcpus = [ExitStats(vm, vcpu=number, groups=options.groups) for number in range(2)]
        if options.hand_to:
            hand_to(options.hand_to, disk, *vcpus)
        while time.monotonic() < deadline:
            for stats in vcpus:
                handle_exit(disk, stats)
            time.sleep(0.001)


if __name__ == "__main__":
    main()
