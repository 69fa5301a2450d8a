"""Group ``apicv``: the hooks of this kernel to which its programs attach, and the stats that each provides.

Kernels differ in the names and inlining of functions, and some refuse fentry programs altogether. So each function is
looked up in BTF, and if it cannot be hooked, its stats are missing, with the reason, instead of zero. The programs are
in apicv_events.h.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...codec.apicv import Counted
from ...linux import btf


@dataclass(frozen=True, slots=True)
class Hook:
    """One program, and the function or tracepoint that it is attached to."""

    program: str
    point: str
    gives: Counted | None
    is_function: bool

    def __str__(self) -> str:
        return f"{'function' if self.is_function else 'tracepoint'} {self.point}"


@dataclass(frozen=True, slots=True)
class Hooks:
    """The hooks to try or attached, and the reason for each missing stat.

    ``foreign``: events that occur only on other hardware than this host's, so they do not count as missing.
    """

    chosen: tuple[Hook, ...]
    why_not: dict[Counted, str]
    foreign: frozenset[Counted] = frozenset()

    @property
    def counted(self) -> frozenset[Counted]:
        return frozenset(hook.gives for hook in self.chosen if hook.gives)

    @property
    def programs(self) -> dict[str, str | None]:
        """Program -> function to attach to, or None if the object already names its tracepoint."""
        return {hook.program: hook.point if hook.is_function else None for hook in self.chosen}

    def without_functions(self, reason: str) -> Hooks:
        """The hooks that remain on a kernel that refuses programs on functions."""
        lost = {hook.gives: reason for hook in self.chosen if hook.is_function and hook.gives}
        kept = tuple(hook for hook in self.chosen if not hook.is_function)
        return Hooks(kept, {**self.why_not, **lost}, self.foreign)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A stat (None: only cleanup) counted by programs on functions, of which at least one must exist."""

    what: Counted | None
    programs: tuple[tuple[str, str], ...]


_FUNCTIONS = (
    _Wanted(
        Counted.INHIBITED,
        (
            ("before_inhibit", "__kvm_set_or_clear_apicv_inhibit"),
            ("after_inhibit", "__kvm_set_or_clear_apicv_inhibit"),
            ("before_locked_inhibit", "kvm_set_or_clear_apicv_inhibit"),
            ("after_locked_inhibit", "kvm_set_or_clear_apicv_inhibit"),
        ),
    ),
    # kvm_vcpu_update_apicv() is the name up to 6.2, and since then an inlined caller of the other function.
    _Wanted(
        Counted.ACTIVE,
        (
            ("before_update", "__kvm_vcpu_update_apicv"),
            ("after_update", "__kvm_vcpu_update_apicv"),
            ("before_old_update", "kvm_vcpu_update_apicv"),
            ("after_old_update", "kvm_vcpu_update_apicv"),
        ),
    ),
    _Wanted(None, (("vm_ends", "kvm_arch_destroy_vm"), ("vcpu_ends", "kvm_arch_vcpu_destroy"))),
)
_DELIVER = {
    "kvm_amd": "svm_deliver_interrupt",
    "kvm_intel": "vmx_deliver_interrupt",
    "kvm_pvm": "pvm_deliver_interrupt",
}
_TRACEPOINTS = (("eoi", "kvm_eoi", Counted.EOI), ("software_ipi", "kvm_apic_ipi", Counted.SOFTWARE_IPI))
_INJECTION = ("inject", "kvm_inj_virq", Counted.INJECTED)
_REPORTS_INJECTION = ("kvm_amd", "kvm_intel")
_AVIC_TRACEPOINTS = (
    ("incomplete_ipi", "kvm_avic_incomplete_ipi", Counted.INCOMPLETE_IPI),
    ("unaccelerated", "kvm_avic_unaccelerated_access", Counted.UNACCELERATED),
    ("ga_log", "kvm_avic_ga_log", Counted.GA_LOG),
)
_OF_AVIC = frozenset(what for _, _, what in _AVIC_TRACEPOINTS)


def choose_hooks(running_kvm: str | None) -> Hooks:
    """The hooks to try on this kernel, whose VMs are run by the module ``running_kvm`` (None: not known)."""
    vendor = running_kvm if running_kvm in _DELIVER else None
    modules = tuple(filter(None, ("kvm", vendor)))
    chosen: list[Hook] = []
    why_not: dict[Counted, str] = {}
    wanted = list(_FUNCTIONS)
    if vendor is not None:
        wanted.append(_Wanted(Counted.DELIVERED, (("deliver", _DELIVER[vendor]),)))
    else:
        why_not[Counted.DELIVERED] = "kvmscope does not know the module that runs VMs here"
    there = btf.find_functions((name for want in wanted for _, name in want.programs), modules=modules)
    for want in wanted:
        hooks = [Hook(program, name, want.what, is_function=True) for program, name in want.programs if name in there]
        chosen += hooks
        if not hooks and want.what:
            names = dict.fromkeys(name for _, name in want.programs)
            why_not[want.what] = f"this kernel has no function {' or '.join(names)} to hook"
    tracepoints = list(_TRACEPOINTS)
    if vendor in _REPORTS_INJECTION:
        tracepoints.append(_INJECTION)
    else:
        why_not[Counted.INJECTED] = "what runs VMs here injects interrupts without saying so (kvm_inj_virq)"
    if vendor == "kvm_amd":
        tracepoints += _AVIC_TRACEPOINTS
    elif running_kvm is None:
        why_not |= dict.fromkeys(_OF_AVIC, "only AMD's AVIC has these, and which module runs VMs here is not known")
    chosen += [Hook(program, point, what, is_function=False) for program, point, what in tracepoints]
    return Hooks(tuple(chosen), why_not, _OF_AVIC if running_kvm not in ("kvm_amd", None) else frozenset())
