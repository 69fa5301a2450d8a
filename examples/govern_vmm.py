"""A VMM that adapts the limit on halt polling of its own VM, by kvmscope's controller.

    python examples/govern_vmm.py [--for SECONDS]

Only the VMM itself can set the limit of a VM: KVM_ENABLE_CAP(KVM_CAP_HALT_POLL) on its VM fd. The VMM here is the
lab's, with a guest whose halts are too long for most polls. A VMM of yours has its own fds, and the same three steps:
read the stats fds of its vCPUs, ``gather`` the evidence, ``decide``. It prints a line for each interval.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence

import numpy as np

from kvmscope.analysis.evaluate import Evaluator
from kvmscope.analysis.governor import GovernorAction, GovernorPlan, GovernorState, decide, gather
from kvmscope.analysis.window import Window
from kvmscope.catalog.metrics import formulas, load_metrics
from kvmscope.codec.statsfile import parse
from kvmscope.lab.kvm import Kvm
from kvmscope.lab.spec import LabSpec
from kvmscope.lab.vmm import RunningGuest, install_kick_handler
from kvmscope.sample import Sample, VmId
from kvmscope.schema import Scope
from kvmscope.sources.files import StatsOf, VcpuStats, VmStats, assemble

INTERVAL_S = 0.5
BEGUN_NS = 200_000
PLAN = GovernorPlan(BEGUN_NS, least_ns=0, most_ns=BEGUN_NS, patience=1)


def read(stats_fds: Sequence[int]) -> Sample:
    """The stats of this VMM's own vCPUs, as KVM has them now."""
    files = [parse(os.pread(fd, 1 << 16, 0)) for fd in stats_fds]
    schema = files[0].schema("kvm", Scope.VCPU)
    vcpus = [VcpuStats(number, [StatsOf(schema, file.words())]) for number, file in enumerate(files)]
    now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return assemble([VmStats(VmId(1), (), vcpus)], source="own", taken_ns=time.time_ns(), monotonic_ns=now_ns)


def govern(guest: RunningGuest, stats_fds: Sequence[int], seconds: float) -> None:
    """Adapt the limit of the running guest for so long."""
    metrics, state, limit_ns = formulas(load_metrics()), GovernorState(), BEGUN_NS
    before, deadline = read(stats_fds), time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(INTERVAL_S)
        now = read(stats_fds)
        evidence = gather(Evaluator(Window(before, now), metrics), PLAN, limit_ns, np.array([True]))
        state, decision = decide(PLAN, state, evidence)
        if decision.action is not GovernorAction.KEEP:
            guest.vm.limit_halt_poll(decision.limit_ns)
        shown = f"{limit_ns} ns, polled {evidence.polled_cpus:.4f} CPU"
        print(f"{shown}: {decision.action.value}: {decision.reason}", flush=True)
        before, limit_ns = now, decision.limit_ns


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--for", dest="seconds", type=float, default=20.0, help="seconds to run")
    options = parser.parse_args()
    install_kick_handler()
    with Kvm() as kvm:
        guest = RunningGuest(kvm, LabSpec(workload="uneven", period_us=150, halt_poll_ns=BEGUN_NS).checked(), 0)
        # KVM gives out the fd of a vCPU only while that does not run.
        stats_fds = [vcpu.stats_fd() for vcpu in guest.vm.vcpus]
        try:
            guest.start()
            guest.go(when_still=lambda: None)
            govern(guest, stats_fds, options.seconds)
        finally:
            for fd in stats_fds:
                os.close(fd)
            guest.close()


if __name__ == "__main__":
    main()
