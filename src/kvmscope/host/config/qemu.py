"""QEMU's command line as an ``InterruptConfig``.

Rule: a ``-readconfig`` file may hold any option, so an option that is not given after it on the command line is
unknown, even if it is given before. Such a file has no group for ``-cpu``, so that option is decisive.

Source: QEMU 7.2 to 10: system/vl.c (groups of options that -readconfig knows), accel/kvm/kvm-all.c (kernel_irqchip and
its defaults), hw/i386/{microvm,pc_q35,pc}.c, hw/i386/kvm/i8254.c (kvm-pit.lost_tick_policy), target/i386/kvm/kvm.c and
docs/system/i386/hyperv.rst (hv-*; hv-passthrough enables all that KVM has, whatever else is given),
target/i386/kvm/kvm-cpu.c (svm is off for all models but host and max), include/hw/i386/topology.h (APIC ids).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..apicv import Hardware
from ..qemu_args import Cpu, Properties, QemuConfig, Smp, parse, split_options
from .nesting import given_nesting
from .settings import Confidential, InterruptConfig, Irqchip, Pit, Setting, highest_apic_id

_SYSTEM = re.compile(r"(?:^|-)system-([a-z0-9_]+)")
_OTHER_MACHINE = re.compile(
    r"(?:virt|sbsa-ref|raspi\w*|s390-ccw-virtio|pseries|powernv\w*|malta|loongson3-virt)(?:-[\w.]+)?"
)
"""Machine types of architectures other than x86 on which QEMU uses KVM."""
_PASSES_ON_HOST = ("host", "max")
HV_PASSTHROUGH = "hv-passthrough"

_CONFIDENTIAL = {
    "sev-guest": Confidential.SEV,
    "sev-snp-guest": Confidential.SEV_SNP,
    "tdx-guest": Confidential.TDX,
}


def of_qemu(argv: Sequence[str], *, managed_by: str | None = None, hardware: Hardware | None = None) -> InterruptConfig:
    """The settings in ``argv``, whose first element is the program. ``hardware``: below KVM, None if unknown."""
    if not is_x86(argv):
        return InterruptConfig.unknown("qemu", "its guest is not an x86 guest", managed_by=managed_by)
    return _QemuReader(argv, managed_by, hardware).read()


def enlightenment(cpu: Cpu | None, name: str) -> Setting[bool] | None:
    """One of Hyper-V's interfaces, such as ``hv-synic``, from ``-cpu``; None if ``-cpu`` does not mention it."""
    if cpu is None:
        return None
    if cpu.flag(HV_PASSTHROUGH):  # all that KVM has, whatever single options say
        return Setting(True, f"-cpu …,{HV_PASSTHROUGH}=on")
    given = cpu.flag(name)
    return None if given is None else Setting(given, f"-cpu …,{name}={_onoff(given)}")


def is_x86(argv: Sequence[str]) -> bool:
    """Whether a QEMU with this command line runs an x86 guest.

    Its program may have any name. A name with an architecture is of the guest's; otherwise the machine type decides,
    which all architectures but x86 require.
    """
    named = _SYSTEM.search(argv[0].rpartition("/")[2]) if argv else None
    if named is not None:
        return named[1].startswith(("x86", "i386"))
    machine = parse(argv).machine
    return machine is None or machine.head is None or not _OTHER_MACHINE.fullmatch(machine.head)


class _QemuReader:
    """One command line; each method is one setting."""

    def __init__(self, argv: Sequence[str], managed_by: str | None, hardware: Hardware | None) -> None:
        self._config: QemuConfig = parse(argv)
        self._names = [option.name for option in split_options(argv)]
        self._managed_by = managed_by
        self._hardware = hardware
        self._machine = self._config.machine or Properties(None)

    def read(self) -> InterruptConfig:
        irqchip = self._irqchip()
        return InterruptConfig(
            vmm="qemu",
            managed_by=self._managed_by,
            irqchip=irqchip,
            pit=self._pit(irqchip),
            synic=self._synic(),
            avic_hint=self._avic_hint(),
            confidential=self._confidential(),
            nested=self._nested(),
            cpus=self._cpus(),
            highest_apic_id=self._highest_apic_id(),
        )

    def _irqchip(self) -> Setting[Irqchip]:
        if hidden := self._hidden("machine", "M", "accel", "no-kvm-irqchip"):
            return Setting.unknown(hidden)
        given = self._config.kernel_irqchip
        if given is not None:
            evidence = f"kernel_irqchip={given}"
            chosen = {"on": Irqchip.KERNEL, "split": Irqchip.SPLIT, "off": Irqchip.OFF}.get(given)
            return Setting.unknown(f"{evidence} is not a known value") if chosen is None else Setting(chosen, evidence)
        machine = self._machine.head or ""
        if self._confidential().value is Confidential.TDX:
            return Setting(Irqchip.SPLIT, "a TDX guest has kernel_irqchip=split")
        if machine == "microvm" or re.fullmatch(r"(pc-)?q35-4\.0", machine):
            return Setting(Irqchip.SPLIT, f"machine type {machine}: kernel_irqchip=split by default")
        return Setting(Irqchip.KERNEL, "kernel_irqchip=on by default")

    def _pit(self, irqchip: Setting[Irqchip]) -> Setting[Pit]:
        if irqchip.value is None:
            return Setting.unknown(irqchip.evidence)
        if irqchip.value is not Irqchip.KERNEL:
            return Setting(Pit.ABSENT, f"{irqchip.evidence}, so no PIT in the kernel")
        if self._machine.flag("pit") is False:
            return Setting(Pit.ABSENT, "-machine pit=off")
        if hidden := self._hidden("global", "no-kvm-pit-reinjection"):
            return Setting.unknown(hidden)
        policy = self._config.global_value("kvm-pit", "lost_tick_policy")
        if policy is None:
            return Setting(Pit.REINJECT, "kvm-pit.lost_tick_policy=delay by default")
        evidence = f"-global kvm-pit.lost_tick_policy={policy}"
        chosen = {"delay": Pit.REINJECT, "discard": Pit.DISCARD}.get(policy)
        return Setting.unknown(f"{evidence} is not a known value") if chosen is None else Setting(chosen, evidence)

    def _synic(self) -> Setting[bool]:
        if hidden := self._hidden_cpu():
            return Setting.unknown(hidden)
        absent = Setting(False, "no hv-synic, and QEMU enables no Hyper-V enlightenment by default")
        return enlightenment(self._config.cpu, "hv-synic") or absent

    def _avic_hint(self) -> Setting[bool]:
        if hidden := self._hidden_cpu():
            return Setting.unknown(hidden)
        cpu = self._config.cpu
        if cpu and cpu.flag(HV_PASSTHROUGH):
            return Setting(True, f"-cpu …,{HV_PASSTHROUGH}=on, and KVM has the advice since Linux 5.15", is_sure=False)
        for name in ("hv-avic", "hv-apicv"):
            given = cpu.flag(name) if cpu else None
            if given is not None:
                return Setting(given, f"-cpu …,{name}={_onoff(given)}")
        return Setting(False, "no hv-avic")

    def _confidential(self) -> Setting[Confidential]:
        if hidden := self._hidden("machine", "M", "object"):
            return Setting.unknown(hidden)
        wanted = self._machine.text("confidential-guest-support") or self._machine.text("memory-encryption")
        for thing in self._config.objects_of(*_CONFIDENTIAL):
            if wanted is not None and thing.text("id") == wanted:
                return Setting(_CONFIDENTIAL[thing.head or ""], f"-object {thing.head},id={wanted}")
        if wanted is not None:
            return Setting.unknown(f"-machine names {wanted}, and no object of that id is known here")
        return Setting(Confidential.NONE, "no confidential-guest-support")

    def _nested(self) -> Setting[bool]:
        if hidden := self._hidden_cpu():
            return Setting.unknown(hidden)
        cpu = self._config.cpu
        if (given := given_nesting(self._hardware, self._said_of_flag)) is not None:
            return given
        if cpu and cpu.model in _PASSES_ON_HOST:
            return Setting.unknown(f"-cpu {cpu.model} passes on what KVM on the host allows (its parameter nested)")
        return Setting(False, f"-cpu {cpu.model if cpu else 'not given'}: without svm or vmx by default")

    def _said_of_flag(self, name: str) -> Setting[bool] | None:
        given = self._config.cpu.flag(name) if self._config.cpu else None
        return None if given is None else Setting(given, f"-cpu …,{name}={_onoff(given)}")

    def _cpus(self) -> Setting[int]:
        if hidden := self._hidden("smp"):
            return Setting.unknown(hidden)
        smp = self._config.smp
        return Setting(smp.most_cpus, _smp_text(self._config)) if smp else Setting(1, "no -smp")

    def _highest_apic_id(self) -> Setting[int]:
        cpus = self._cpus()
        if cpus.value is None:
            return Setting.unknown(cpus.evidence)
        levels = _levels(self._config.smp or Smp())
        if levels is None:
            return Setting.unknown(f"{cpus.evidence}: how QEMU fills up that topology depends on the machine type")
        return Setting(highest_apic_id(cpus.value, levels), cpus.evidence)

    def _hidden_cpu(self) -> str | None:
        return None if self._config.cpu else self._hidden("cpu")

    def _hidden(self, *options: str) -> str | None:
        """Why these options may not be decisive; None if they are."""
        if not self._config.config_files:
            return None
        last = max((place for place, name in enumerate(self._names) if name in options), default=-1)
        file_at = max(place for place, name in enumerate(self._names) if name == "readconfig")
        return None if last > file_at else f"-readconfig {self._config.config_files[-1]} may say it, and is not read"


def _levels(smp: Smp) -> tuple[int, ...] | None:
    """Threads, cores, modules, dies; None if the machine type decides which of them QEMU fills up."""
    modules, dies = smp.modules or 1, smp.dies or 1
    if not any((smp.sockets, smp.cores, smp.threads, smp.dies, smp.modules)):
        return ()  # all sockets before QEMU 6.2, all cores since; the ids are the same
    rest = smp.most_cpus // (modules * dies * (smp.sockets or 1))
    if smp.cores and smp.threads:
        return (smp.threads, smp.cores, modules, dies)
    if smp.cores:
        return (max(rest // smp.cores, 1) if smp.sockets else 1, smp.cores, modules, dies)
    if smp.sockets:
        threads = smp.threads or 1
        return (threads, max(rest // threads, 1), modules, dies)
    return None


def _smp_text(config: QemuConfig) -> str:
    return f"-smp {' '.join(config.values('smp'))}"


def _onoff(value: bool) -> str:
    return "on" if value else "off"
