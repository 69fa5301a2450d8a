"""A VM as an operator's report has it, and what the doctor says of it: counters, command line, machine to texts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import pytest
from crafted import MACHINE
from crafted_host import CraftedHost
from processes import BuildProcess
from troubles import BUSY

from kvmscope.host.facts import Machine
from kvmscope.host.process import VmmProcess
from kvmscope.host.vmm import identify
from kvmscope.linux.facts import CpuInfo, Fact, KernelModule
from kvmscope.scene import Scene, VmIdentity
from kvmscope.view.doctor import DoctorReport
from kvmscope.view.doctor_text import report_lines
from kvmscope.view.findings import ReportedFinding
from kvmscope.view.watch import HostView, Watch

PID = 4001
INTERVAL_S = 2.0


@dataclass(frozen=True)
class ReportedVm:
    """``rates``: a second on each vCPU or of the VM, on top of a guest that works. ``values``,
    ``vcpu_values``: what the VM's and each vCPU's stats have. ``facts``: its process as
    ``build_process`` takes it; without any the VMM cannot be seen. ``apicv``: reasons that inhibit it, None if the
    state is not read. ``module``, ``cpu_flags``, ``parameters``: of the host's KVM and CPU. ``kvm_parameters``: of
    its module kvm, ``parameters`` being of the vendor's. ``clocksource``: of the host's kernel."""

    rates: Mapping[str, float]
    values: Mapping[str, int] = field(default_factory=dict)
    vcpu_values: Mapping[str, int] = field(default_factory=dict)
    facts: Mapping[str, Any] | None = None
    xml: bytes | None = None
    vcpus: int = 2
    apicv: frozenset[str] | None = frozenset()
    active: bool = False
    module: str = "kvm_intel"
    cpu_flags: frozenset[str] = frozenset()
    parameters: Mapping[str, str] = field(default_factory=dict)
    kvm_parameters: Mapping[str, str] = field(default_factory=dict)
    halt_poll_ns: int | None = None
    clocksource: str = "tsc"

    @property
    def machine(self) -> Machine:
        parameters = MappingProxyType({name: Fact(value) for name, value in self.parameters.items()})
        common = {name: Fact(value) for name, value in self.kvm_parameters.items()}
        common |= {} if self.halt_poll_ns is None else {"halt_poll_ns": Fact(str(self.halt_poll_ns))}
        vendor = "AuthenticAMD" if self.module == "kvm_amd" else "GenuineIntel"
        return replace(
            MACHINE,
            kvm=Fact(KernelModule("kvm", False, MappingProxyType(common))),
            kvm_vendor=Fact(KernelModule(self.module, False, parameters)),
            cpu=Fact(CpuInfo(vendor, "Some CPU", self.cpu_flags)),
            clocksource=Fact(self.clocksource),
        )


@dataclass(frozen=True)
class Told:
    """What the doctor says of one VM."""

    view: HostView

    @property
    def report(self) -> DoctorReport:
        return self.view.report()

    @property
    def rules(self) -> set[str]:
        return {finding.rule for finding in self.report.findings}

    def finding(self, rule: str) -> ReportedFinding:
        return next(finding for finding in self.report.findings if finding.rule == rule)

    def ways(self, rule: str) -> Sequence[str]:
        """How whoever runs the VM writes what the rule's remedies change."""
        return [way.text for remedy in self.finding(rule).remedies for way in remedy.how]

    def causes(self, rule: str) -> Mapping[str, str]:
        """Name and evidence of each cause."""
        return {cause.name: cause.cause for cause in self.finding(rule).causes}

    @property
    def text(self) -> str:
        """The page that a person reads, in one line."""
        return " ".join(" ".join(report_lines(self.report, width=100)).split())


Doctor = Callable[[ReportedVm], Told]


@pytest.fixture
def doctor(build_process: BuildProcess) -> Doctor:
    """Watches a VM for three intervals."""

    pids = itertools.count(PID)

    def see(vm: ReportedVm) -> Told:
        process = _process(vm, next(pids), build_process)
        host = CraftedHost()
        made = host.add(vcpus=vm.vcpus, apicv=vm.apicv, active=vm.active)
        made.vm_stats.update(vm.values)
        for stats in made.vcpu_stats:
            stats.update(vm.vcpu_values)
        host.count(*(name for name in (*vm.rates, *vm.values) if "." in name))
        watch = Watch(keeps_ended=True)
        view = None
        for _ in range(4):
            identity = VmIdentity((process and process.name) or "vm", process, vm.xml)
            view = watch.add(Scene(host.sample(), (identity,), vm.machine, {}))
            host.run(INTERVAL_S, {**BUSY, **vm.rates})
        assert view is not None
        return Told(view)

    return see


def _process(vm: ReportedVm, pid: int, build_process: BuildProcess) -> VmmProcess | None:
    if vm.facts is None:
        return None
    process = identify(pid, proc_root=build_process(pid, dict(vm.facts)))
    assert process is not None
    return process
