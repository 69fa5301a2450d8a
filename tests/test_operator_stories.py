"""Slow VMs as operators run them: the command line that a manager writes, counters of a trouble, and what is then said.

The command lines have the shape that each manager's current release gives them, shortened to what is read. A test's id
is the story; see tests/test_reported_cases.py for reports that were made public.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any

import pytest
from reported import Doctor, ReportedVm
from troubles import BUSY, MS

UUID = "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"
POD = "7c2f4b1e-9a53-4b0e-8d5c-3b1f0a9e2d11"
CONTAINER = "e" * 64
MONITOR = ("-chardev", "socket,id=charmonitor,fd=31,server=on,wait=off", "-mon", "chardev=charmonitor,mode=control")
Facts = Mapping[str, Any]


def smbios(text: str) -> tuple[str, str]:
    return "-smbios", f"type=1,{text},uuid={UUID}"


def of(*argv: str, cgroup: str = "/") -> Facts:
    return {"argv": list(argv), "cgroup": [f"0::{cgroup}"]}


LIBVIRT = of(
    *("/usr/bin/qemu-system-x86_64", "-name", "guest=win10-ws,debug-threads=on", "-S"),
    *("-machine", "pc-q35-7.2,usb=off,vmport=off,smm=on", "-accel", "kvm"),
    *("-cpu", "host,migratable=on,hv-relaxed=on,hv-vapic=on,hv-spinlocks=0x1fff", "-smp", "8"),
    *("-rtc", "base=localtime,driftfix=slew", "-global", "kvm-pit.lost_tick_policy=delay", "-uuid", UUID, *MONITOR),
    cgroup="/machine.slice/machine-qemu\\x2d7\\x2dwin10\\x2dws.scope/libvirt/emulator",
)
SCRIPT = of(
    *("/usr/bin/qemu-system-x86_64", "-name", "guest=win11", "-machine", "q35", "-accel", "kvm", "-smp", "6"),
    *("-cpu", "host,hv_time,hv_relaxed,hv_vapic,hv_spinlocks=0x1fff"),
)
PROXMOX = (
    *("/usr/bin/kvm", "-id", "104", "-name", "erp-db,debug-threads=on", "-no-shutdown"),
    *("-chardev", "socket,id=qmp,path=/var/run/qemu-server/104.qmp,server=on,wait=off", "-mon", "chardev=qmp"),
    *("-pidfile", "/var/run/qemu-server/104.pid", "-daemonize", *smbios("serial=1"), "-nodefaults"),
)
PROXMOX_LINUX = of(
    *PROXMOX,
    *("-cpu", "host,+kvm_pv_eoi,+kvm_pv_unhalt", "-machine", "type=pc-i440fx-9.0+pve0"),
    cgroup="/qemu.slice/104.scope",
)
PROXMOX_WINDOWS = of(
    *PROXMOX,
    *("-cpu", "host,hv_ipi,hv_relaxed,hv_reset,hv_runtime,hv_spinlocks=0x1fff,hv_stimer,hv_synic,hv_time,hv_vapic"),
    *("-rtc", "driftfix=slew,base=localtime", "-machine", "hpet=off,type=pc-q35-9.0+pve0"),
    *("-global", "kvm-pit.lost_tick_policy=discard"),
    cgroup="/qemu.slice/104.scope",
)
NEVER_IDLE = of(*PROXMOX, "-overcommit", "cpu-pm=on", cgroup="/qemu.slice/104.scope")
NOVA = of(
    *("/usr/libexec/qemu-kvm", "-name", "guest=instance-000003e8,debug-threads=on", "-S", "-accel", "kvm"),
    *("-machine", "pc-q35-rhel9.4.0,usb=off,hpet=off,acpi=on", "-cpu", "Cascadelake-Server,vmx=on", "-smp", "8"),
    *smbios("manufacturer=RDO,product=OpenStack Compute,version=29.0,family=Virtual Machine"),
    *("-rtc", "base=utc,driftfix=slew", "-global", "kvm-pit.lost_tick_policy=delay", *MONITOR),
    cgroup="/machine.slice/machine-qemu\\x2d12\\x2dinstance\\x2d000003e8.scope/libvirt/emulator",
)
IN_POD = f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{POD.replace('-', '_')}.slice"
KUBEVIRT = of(
    *("/usr/libexec/qemu-kvm", "-name", "guest=prod_fedora-db,debug-threads=on", "-S", "-accel", "kvm"),
    *("-machine", "pc-q35-rhel9.6.0,usb=off,hpet=off,acpi=on", "-cpu", "Skylake-Server-IBRS,vmx=on"),
    *(*smbios("manufacturer=KubeVirt,product=None,family=KubeVirt"), *MONITOR),
    cgroup=f"{IN_POD}/cri-containerd-{CONTAINER}.scope",
)
KUBEVIRT_WINDOWS = of(
    *("/usr/libexec/qemu-kvm", "-name", "guest=prod_win-ci,debug-threads=on", "-S", "-accel", "kvm"),
    *("-cpu", "EPYC-Milan,svm=on,hv-time=on,hv-relaxed=on,hv-vapic=on,hv-spinlocks=0x1fff,hv-vpindex=on"),
    *(*smbios("manufacturer=KubeVirt,product=None,family=KubeVirt"), *MONITOR),
    cgroup=f"{IN_POD}/cri-containerd-{CONTAINER}.scope",
)
WINDOWS_XML = b"""<domain type='kvm'><name>win10-ws</name><metadata>
<libosinfo:libosinfo xmlns:libosinfo='http://libosinfo.org/xmlns/libvirt/domain/1.0'>
<libosinfo:os id='http://microsoft.com/win/11'/></libosinfo:libosinfo></metadata>
<cpu mode='host-passthrough'/></domain>"""
HARVESTER = of(
    *("/usr/bin/qemu-system-x86_64", "-name", "guest=default_suse,debug-threads=on", "-S", "-accel", "kvm"),
    *(*smbios("manufacturer=KubeVirt,product=None,family=KubeVirt"), *MONITOR),
    cgroup=f"{IN_POD}/cri-containerd-{CONTAINER}.scope",
)
INCUS = of(
    *("/opt/incus/bin/qemu-system-x86_64", "-S", "-name", "web01", "-uuid", UUID, "-cpu", "host,hv_passthrough"),
    *("-nodefaults", "-readconfig", "/run/incus/web01/qemu.conf", "-spice", "unix=on"),
    *("-smbios", "type=2,manufacturer=LinuxContainers,product=Incus"),
)
OPENNEBULA = of(
    *("/usr/bin/qemu-kvm-one", "-name", "guest=one-318,debug-threads=on", "-S", "-machine", "pc-i440fx-rhel7.6.0"),
    *("-accel", "kvm", "-cpu", "EPYC", "-smp", "4", *MONITOR),
)
CLOUDSTACK = of(
    *("/usr/libexec/qemu-kvm", "-name", "guest=i-2-1043-VM,debug-threads=on", "-S", "-machine", "pc-i440fx-rhel7.6.0"),
    *("-cpu", "qemu64", *smbios("manufacturer=Apache Software Foundation,product=CloudStack KVM Hypervisor"), *MONITOR),
)
OVIRT = of(
    *("/usr/libexec/qemu-kvm", "-name", "guest=hr-win2019,debug-threads=on", "-S", "-accel", "kvm"),
    *("-machine", "pc-q35-rhel8.6.0,usb=off,hpet=off"),
    *("-cpu", "Cascadelake-Server-noTSX,hv-time=on,hv-relaxed=on,hv-vapic=on,hv-spinlocks=0x1fff,hv-vpindex=on"),
    *(*smbios("manufacturer=oVirt,product=RHEL,family=oVirt"), *MONITOR),
)
KATA = of(
    *(
        "/opt/kata/bin/qemu-system-x86_64",
        "-name",
        f"sandbox-{CONTAINER},debug-threads=on",
        "-machine",
        "q35,accel=kvm",
    ),
    *("-cpu", "host,pmu=off", "-qmp", "unix:fd=3,server=on,wait=off", "-pidfile", f"/run/vc/vm/{CONTAINER}/pid"),
    cgroup=f"{IN_POD}/cri-containerd-{CONTAINER}.scope",
)
FIRECRACKER = of(
    *("/firecracker", "--id", "551e7604-e35c", "--start-time-us", "13298", "--parent-cpu-time-us", "3511"),
    cgroup="/firecracker/551e7604-e35c",
)
CLOUD_HYPERVISOR = of(
    *("/usr/bin/cloud-hypervisor", "--api-socket", "/run/ch/build.sock", "--cpus", "boot=8,max=8"),
    *("--memory", "size=8G", "--kernel", "/srv/vmlinux", "--disk", "path=/srv/build.raw"),
)
CROSVM = of("/usr/bin/crosvm", "run", "--cpus", "4", "--name", "termina", "--rwdisk", "/run/d.img", "/opt/kernel")
VIRTUALBOX = of("/usr/lib/virtualbox/VBoxHeadless", "--comment", "jenkins-agent", "--startvm", UUID, "--vrde", "config")
GVISOR = of("runsc-sandbox", "--root=/run/containerd/runsc/k8s.io", "--platform=kvm", "boot", "f" * 64)

QUIET = dict.fromkeys(BUSY, 0)
NO_LIMIT = {"cgroup.nr_periods": 0, "cgroup.nr_throttled": 0}
THREADS = {f"sched.{kind}_run_ns": 0.0 for kind in ("vmm", "main", "iothread", "vhost", "pit")}
DELAYS = {f"sched.{kind}_run_delay_ns": 0.0 for kind in ("main", "iothread", "vhost", "pit")}


def ports(rate: float, **by_name: float) -> Mapping[str, float]:
    counted = {f"accesses.port_{name}": value for name, value in by_name.items()}
    return {"io_exits": rate, "fpu_reload": rate, "exits": rate + 3000, **counted}


def mmio(rate: float) -> Mapping[str, float]:
    return {"mmio_exits": rate, "fpu_reload": rate, "exits": rate + 3000, "insn_emulation": rate}


@dataclass(frozen=True)
class OperatorStory:
    """A VM, its name and who manages it, the rules that fire, and what the page says: ``words``, and none of
    ``unsaid``. ``causes``: those of the first rule, where that has some."""

    vm: ReportedVm
    name: str
    manager: str | None
    rules: Set[str] = frozenset()
    words: tuple[str, ...] = ()
    unsaid: tuple[str, ...] = ()
    causes: Set[str] | None = field(default=None)


STORIES: Mapping[str, OperatorStory] = {
    "Windows without hv-time": OperatorStory(
        ReportedVm(ports(7800), facts=LIBVIRT, vcpus=8),
        *("win10-ws", "libvirt", {"port-io-storm"}),
        words=("<timer name='hypervclock' present='yes'/>", "tickpolicy='delay'"),
        causes={"hyperv-clock", "acpi-pm-timer", "hpet", "rtc-catchup"},
    ),
    "Windows on q35 reads the HPET": OperatorStory(
        ReportedVm(mmio(9000), facts=SCRIPT, vcpus=6),
        *("win11", None, {"mmio-storm"}),
        words=("-machine hpet=off",),
        causes={"hpet", "hyperv-timers"},
    ),
    "host TSC unstable, guests on the HPET": OperatorStory(
        ReportedVm(mmio(60_000), facts=OPENNEBULA, vcpus=4, module="kvm_amd", clocksource="hpet"),
        *("one-318", "opennebula", {"mmio-storm"}),
        words=("<timer name='hpet' present='no'/> in HYPERV_TIMERS", "the host's clocksource is hpet"),
        causes={"host-clock", "hyperv-clock", "acpi-pm-timer", "hpet"},
    ),
    "Windows with hv-time on a host that left the TSC": OperatorStory(
        ReportedVm(
            {
                **{"exits.exit_msr_read_ns": 250 * MS, "exits.exit_msr_write_ns": 0, "exits": 90_000},
                **{"accesses.msr_hv_clock": 80_000, "accesses.msr_other": 0, "accesses.msr_other_number": 0},
            },
            facts=PROXMOX_WINDOWS,
            module="kvm_amd",
            clocksource="acpi_pm",
        ),
        *("erp-db", "proxmox", {"exits-costly"}),
        words=("the host's clocksource is acpi_pm", "MSR 0x40000020", "kernel log says why"),
        causes={"host-clock", "MSR hv_clock"},
    ),
    "a busy serial port on a host that left the TSC": OperatorStory(
        ReportedVm(ports(22_000, serial=22_000, other=0), facts=FIRECRACKER, vcpus=1, clocksource="hpet"),
        *("551e7604-e35c", "jailer", {"port-io-storm"}),
        unsaid=("the host's clocksource",),
        causes={"port serial"},
    ),
    "RTC at 2 kHz": OperatorStory(
        ReportedVm({**ports(4100, rtc=4096, other=0), "irq_injections": 2048}, facts=OVIRT, vcpus=1),
        *("hr-win2019", "ovirt", {"port-io-storm"}),
        words=("port 0x70-0x71", "from compatibility version 4.4 on with SynIC and timers"),
        causes={"hyperv-timers", "port rtc"},
    ),
    "Linux on the ACPI PM timer": OperatorStory(
        ReportedVm(ports(30_000, pm_timer=30_000, other=0), facts=CLOUD_HYPERVISOR, module="kvm_amd", vcpus=8),
        *("build", None, {"port-io-storm"}),
        words=("port 0x608-0x60b", "clocksource"),
        causes={"hyperv-clock", "acpi-pm-timer", "port pm_timer"},
    ),
    "TSC calibrated by the PIT at boot": OperatorStory(
        ReportedVm(ports(50_000, speaker=49_000, pit=900, other=0), facts=NOVA, vcpus=1),
        *("instance-000003e8", "openstack", {"port-io-storm"}),
        words=("gate and output of the PIT's channel 2",),
        unsaid=("keyboard",),
        causes={"hyperv-clock", "port speaker", "port pit"},
    ),
    "console at full log level": OperatorStory(
        ReportedVm(ports(22_000, serial=22_000, other=0), facts=FIRECRACKER, vcpus=1),
        *("551e7604-e35c", "jailer", {"port-io-storm"}),
        words=("port 0x3f8-0x3ff", "lower its log level"),
        causes={"port serial"},
    ),
    "port 0x80 delays": OperatorStory(
        ReportedVm(ports(9000, delay=9000, other=0), facts=LIBVIRT, vcpus=1),
        *("win10-ws", "libvirt", {"port-io-storm"}),
        words=("io_delay=none",),
        causes={"port delay"},
    ),
    "mode sets of a VGA without a driver": OperatorStory(
        ReportedVm(ports(6000, vga=5000, vga_mode=900, other=0), facts=CLOUDSTACK, vcpus=1),
        *("i-2-1043-VM", "cloudstack", {"port-io-storm"}),
        words=("a guest without a driver for its display",),
        causes={"port vga", "port vga_mode"},
    ),
    "open-vm-tools outside VMware": OperatorStory(
        ReportedVm(ports(4000, vmware=3900, other=0), facts=CLOUDSTACK, vcpus=1),
        *("i-2-1043-VM", "cloudstack", {"port-io-storm"}),
        words=("VMware's backdoor",),
        causes={"port vmware"},
    ),
    "a game with split locks": OperatorStory(
        ReportedVm({"exits.exit_exception_nmi_ns": 620 * MS, "exits.exit_exception_nmi": 60}, facts=LIBVIRT, vcpus=8),
        *("win10-ws", "libvirt", {"split-locks"}),
        words=("kernel.split_lock_mitigate=0",),
    ),
    "pause-loop exits of an overcommitted flavor": OperatorStory(
        ReportedVm(
            {"exits.exit_pause_instruction_ns": 450 * MS, "exits": 95_000, "sched.run_delay_ns": 60 * MS},
            facts=NOVA,
            vcpus=8,
        ),
        *("instance-000003e8", "openstack", {"pause-exits"}),
        words=("hw:cpu_policy=dedicated",),
    ),
    "a balloon that breathes": OperatorStory(
        ReportedVm(
            {"pf_taken": 8000, "pf_fixed": 7900, "remote_tlb_flush": 300},
            {"pages_4k": 30_000},
            facts=PROXMOX_LINUX,
            vcpus=4,
        ),
        *("erp-db", "proxmox", {"memory-refaults"}),
        words=("the balloon's target", "Proxmox VE: hugepages: 2"),
    ),
    "NUMA balancing": OperatorStory(
        ReportedVm(
            {"pf_taken": 30_000, "pf_fixed": 9000, "pf_spurious": 400, "remote_tlb_flush": 400}, facts=NOVA, vcpus=8
        ),
        *("instance-000003e8", "openstack", {"pf-retries"}),
        words=("kernel.numa_balancing", "hw:numa_nodes=1"),
    ),
    "dirty log left on by a failed migration": OperatorStory(
        ReportedVm({"pf_taken": 9000, "pf_fixed": 8900, "pf_fast": 8800}, facts=KUBEVIRT, module="kvm_amd"),
        *("prod_fedora-db", "kubevirt", {"pf-write-protect"}),
        words=("a failed migration", "virtctl migrate-cancel"),
        unsaid=("calc-dirty-rate",),
    ),
    "AVIC off by default before 6.18": OperatorStory(
        ReportedVm(
            {"irq_injections": 9000, "exits": 40_000},
            apicv=frozenset({"disabled"}),
            module="kvm_amd",
            parameters={"avic": "N"},
            cpu_flags=frozenset({"avic"}),
            facts=PROXMOX_LINUX,
        ),
        *("erp-db", "proxmox", {"apicv-off"}),
        words=("kvm_amd.avic=N", "off by default up to Linux 6.17"),
    ),
    "IPIs on a CPU with erratum 1235": OperatorStory(
        ReportedVm(
            {"exits": 40_000, "exits.exit_avic_incomplete_ipi_ns": 300 * MS, "exits.exit_msr_ns": 0},
            active=True,
            module="kvm_amd",
            parameters={"avic": "Y", "enable_ipiv": "N"},
            facts=PROXMOX_LINUX,
            vcpus=4,
        ),
        *("erp-db", "proxmox", {"exits-costly"}),
        words=("IPIs",),
    ),
    "VBS on AMD": OperatorStory(
        ReportedVm(
            {"exits": 90_000, "nested_run": 18_000, "irq_injections": 2000, "irq_window_exits": 400},
            facts=PROXMOX_WINDOWS,
            module="kvm_amd",
            parameters={"nested": "1"},
            vcpus=4,
        ),
        *("erp-db", "proxmox", {"nested-cost"}),
        words=("flags=-nested-virt", "VBS", "hv-emsr-bitmap=on", "kvm_amd.nested=1"),
        unsaid=("VMX.", "hv-evmcs"),
        causes={"svm", "windows-hypervisor", "hyperv-nested"},
    ),
    "VBS on Intel, with faults that its hypervisor handles": OperatorStory(
        ReportedVm(
            {"exits": 90_000, "nested_run": 18_000, "pf_taken": 9000, "pf_fixed": 100}, facts=PROXMOX_WINDOWS, vcpus=4
        ),
        *("erp-db", "proxmox", {"nested-cost"}),
        words=("do not expose VMX", "no hv-evmcs"),
        unsaid=("numa_balancing", "do not expose SVM"),
        causes={"vmx", "windows-hypervisor", "hyperv-nested"},
    ),
    "minikube in an instance, on Intel": OperatorStory(
        ReportedVm({"exits": 60_000, "nested_run": 9000}, facts=NOVA, vcpus=8),
        *("instance-000003e8", "openstack", {"nested-cost"}),
        words=("-cpu …,vmx=on", "most likely not Windows", "cpu_model_extra_flags = -vmx"),
        unsaid=("hv-evmcs",),
        causes={"vmx", "guest-hypervisor"},
    ),
    "WSL2 in a domain of virt-manager": OperatorStory(
        ReportedVm(
            {"exits": 60_000, "nested_run": 9000},
            facts=LIBVIRT,
            xml=WINDOWS_XML,
            module="kvm_amd",
            parameters={"nested": "1"},
        ),
        *("win10-ws", "libvirt", {"nested-cost"}),
        words=("libosinfo id http://microsoft.com/win/11", "The guest is Windows:", "<emsr_bitmap state='on'/>"),
        causes={"svm", "windows-hypervisor", "hyperv-nested"},
    ),
    "KubeVirt on AMD, where evmcs is for Intel": OperatorStory(
        ReportedVm(
            {"exits": 60_000, "nested_run": 9000}, facts=KUBEVIRT_WINDOWS, module="kvm_amd", parameters={"nested": "1"}
        ),
        *("prod_win-ci", "kubevirt", {"nested-cost"}),
        words=("[{name: svm, policy: disable}]", "KubeVirt's enlightenment for nesting (evmcs) is only for Intel"),
        causes={"svm", "windows-hypervisor", "hyperv-nested"},
    ),
    "cpu-pm=on, and 100 % of the host's CPUs": OperatorStory(
        ReportedVm(
            {**QUIET, "exits": 300, "irq_exits": 280, "sched.run_ns": 1000 * MS},
            {"settings.hlt_exits_disabled": 1},
            facts=NEVER_IDLE,
            vcpus=4,
        ),
        *("erp-db", "proxmox", {"hlt-exits-disabled"}),
        words=("no -overcommit cpu-pm=on in args",),
    ),
    "halt polling burns": OperatorStory(
        ReportedVm(
            {"halt_poll_fail_ns": 120 * MS, "halt_poll_success_ns": 30 * MS, "halt_attempted_poll": 2000},
            facts=OVIRT,
            halt_poll_ns=200_000,
        ),
        *("hr-win2019", "ovirt", {"poll-waste"}),
        words=("/sys/module/kvm/parameters/halt_poll_ns", "libvirt has no element for it"),
    ),
    "a pod's CPU limit": OperatorStory(
        ReportedVm(
            {
                "sched.run_delay_ns": 400 * MS,
                "sched.run_ns": 500 * MS,
                "cgroup.nr_periods": 10,
                "cgroup.nr_throttled": 9,
            },
            {"cgroup.quota_set": 1, "cgroup.quota_ns": 200_000_000, "cgroup.period_ns": 100_000_000},
            facts=HARVESTER,
        ),
        *("default_suse", "kubevirt", {"cpu-throttled"}),
        words=("resources.limits.cpu",),
    ),
    "a sandbox's CPU limit": OperatorStory(
        ReportedVm(
            {
                "sched.run_delay_ns": 400 * MS,
                "sched.run_ns": 500 * MS,
                "cgroup.nr_periods": 10,
                "cgroup.nr_throttled": 9,
            },
            {"cgroup.quota_set": 1, "cgroup.quota_ns": 50_000_000, "cgroup.period_ns": 100_000_000},
            facts=KATA,
            vcpus=1,
        ),
        *(f"sandbox-{CONTAINER}", "kata", {"cpu-throttled"}),
        words=("resources.limits.cpu",),
    ),
    "vhost worker on the CPU of a vCPU": OperatorStory(
        ReportedVm(
            {
                **{**THREADS, **DELAYS, **NO_LIMIT},
                **{"sched.run_delay_ns": 30 * MS, "sched.run_ns": 600 * MS},
                **{"sched.vhost_run_ns": 400 * MS, "sched.vmm_run_ns": 400 * MS, "sched.vhost_run_delay_ns": 350 * MS},
            },
            facts=NOVA,
        ),
        *("instance-000003e8", "openstack", {"cpu-wait"}),
        words=("vhost workers", "hw:emulator_threads_policy=isolate"),
    ),
    "emulator thread starved": OperatorStory(
        ReportedVm(
            {
                **{**THREADS, **DELAYS, **NO_LIMIT},
                **{"sched.run_delay_ns": 10 * MS, "sched.run_ns": 300 * MS},
                **{"sched.main_run_ns": 200 * MS, "sched.vmm_run_ns": 200 * MS, "sched.main_run_delay_ns": 600 * MS},
            },
            facts=KUBEVIRT,
        ),
        *("prod_fedora-db", "kubevirt", {"cpu-wait"}),
        words=("main loop", "isolateEmulatorThread: true", "main ready 75 %"),
    ),
    "steal time": OperatorStory(
        ReportedVm(
            {**NO_LIMIT, "sched.run_delay_ns": 500 * MS, "sched.run_ns": 450 * MS, "preemption_reported": 330},
            facts=CLOUDSTACK,
        ),
        *("i-2-1043-VM", "cloudstack", {"cpu-wait"}),
        words=("steal time", "CPU speed and number of the service offering"),
    ),
    "WBINVD of a graphics driver": OperatorStory(
        ReportedVm({"exits.exit_wbinvd_ns": 90 * MS}, facts=LIBVIRT, vcpus=8),
        *("win10-ws", "libvirt", {"wbinvd-exits"}),
    ),
    "a JIT that serializes by CPUID": OperatorStory(
        ReportedVm({"exits.exit_cpuid_ns": 300 * MS, "exits": 182_000}, facts=CLOUD_HYPERVISOR),
        *("build", None, {"cpuid-exits"}),
        words=("SERIALIZE",),
    ),
    "kvmclock off, timer by MSR": OperatorStory(
        ReportedVm(
            {
                **{"exits.exit_msr_write_ns": 250 * MS, "exits.exit_msr_read_ns": 0, "exits": 70_000},
                **{"accesses.msr_tsc_deadline": 60_000, "accesses.msr_other": 0, "accesses.msr_other_number": 0},
            },
            facts=INCUS,
        ),
        *("web01", "incus", {"exits-costly"}),
        words=("MSR 0x6e0",),
        causes={"MSR tsc_deadline"},
    ),
    "SynIC on AMD": OperatorStory(
        ReportedVm(
            {"irq_injections": 6000, "exits": 30_000},
            apicv=frozenset({"hyperv"}),
            module="kvm_amd",
            parameters={"avic": "Y"},
            facts=PROXMOX_WINDOWS,
            vcpus=4,
        ),
        *("erp-db", "proxmox", {"apicv-inhibited"}),
        words=("hv-avic=on", "qm set VMID"),
        causes={"hyperv"},
    ),
    "Nova's PIT on AMD": OperatorStory(
        ReportedVm(
            {"irq_injections": 6000, "exits": 30_000},
            apicv=frozenset({"pit_reinj"}),
            module="kvm_amd",
            parameters={"avic": "Y"},
            facts=NOVA,
            vcpus=8,
        ),
        *("instance-000003e8", "openstack", {"apicv-inhibited"}),
        words=("hw:viommu_model=intel",),
        causes={"pit_reinj"},
    ),
    "kicks of VirtualBox": OperatorStory(
        ReportedVm({"signal_exits": 4000, "fpu_reload": 4000, "exits": 9000}, facts=VIRTUALBOX),
        *("jenkins-agent", None, {"vmm-kicks"}),
    ),
    "Chrome OS without huge pages": OperatorStory(
        ReportedVm({}, {"pages_4k": 900_000, "pages_2m": 10}, facts=CROSVM, vcpus=4),
        *("termina", None, {"small-pages"}),
        words=("crosvm: --hugepages",),
    ),
    "a busy sandbox of gVisor": OperatorStory(
        ReportedVm({"exits": 60_000, "pf_taken": 20_000, "pf_fixed": 19_900, "remote_tlb_flush": 2}, facts=GVISOR),
        *("f" * 12, None),
    ),
}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_the_right_vm_has_the_right_finding_in_its_managers_words_and_no_other(
    doctor: Doctor, story: OperatorStory
) -> None:
    told = doctor(story.vm)
    process = told.view.scene.identities[0].process
    assert process is not None
    assert (process.name, process.managed_by) == (story.name, story.manager)
    assert told.rules == set(story.rules)
    assert [word for word in story.words if word not in told.text] == []
    assert [word for word in story.unsaid if word in told.text] == []
    if story.causes is not None:
        assert told.causes(next(iter(story.rules))).keys() == story.causes
