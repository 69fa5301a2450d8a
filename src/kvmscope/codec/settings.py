"""Provider ``settings``: the VMM's configuration of KVM for a VM's halts and memory, which changes what stats mean.

KVM keeps these settings and exports none of them. All are instant values, as the kernel holds them; the layout of the
words is in sources/bpf/snapshot.h. The kernel's BTF shows which of them it has.
Source: arch/x86/kvm/x86.c (KVM_CAP_X86_DISABLE_EXITS), virt/kvm/kvm_main.c (KVM_CAP_HALT_POLL,
kvm_vcpu_max_halt_poll_ns; struct kvm_memory_slot).
"""

from __future__ import annotations

from ..schema import Descriptor, Kind, Schema, Scope, Unit
from .snapshot import VM_SETTINGS_WORDS, Feature

PROVIDER = "settings"

# enum vm_settings, with the feature that each needs.
_STATS = (
    (Descriptor("hlt_exits_disabled", Kind.INSTANT, Unit.BOOLEAN, offset=0), Feature.HLT_EXITS),
    (Descriptor("halt_poll_cap_set", Kind.INSTANT, Unit.BOOLEAN, offset=8), Feature.HALT_POLL_CAP_SET),
    (
        Descriptor("halt_poll_cap_ns", Kind.INSTANT, Unit.SECONDS, exponent=-9, offset=16),
        Feature.HALT_POLL_CAP,
    ),
    (Descriptor("memory_pages", Kind.INSTANT, offset=24), Feature.DIRTY_LOG),
    (Descriptor("dirty_logged_pages", Kind.INSTANT, offset=32), Feature.DIRTY_LOG),
)


def vm_schema(features: Feature) -> Schema | None:
    """The stats on a kernel with these features; None if it has none of them."""
    found = tuple(descriptor for descriptor, need in _STATS if need in features)
    return Schema(PROVIDER, Scope.VM, found, 8 * VM_SETTINGS_WORDS) if found else None
