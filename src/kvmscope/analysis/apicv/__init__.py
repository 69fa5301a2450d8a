"""The verdict on interrupt acceleration: whether it is active for a VM and vCPU; if not, the reason and its remedy.

``judge`` is about the present state, ``what_if`` about the state with acceleration enabled. Pure: a sample, facts of
the host and the VMs' configuration in, verdicts out.

Rules: "active" comes from KVM's state alone, never from the absence of events. Without that state the verdict is
"unknown", with the reasons to expect from the configuration. Every statement carries its evidence, and where two
sources of evidence disagree both are shown.
Source: arch/x86/kvm/x86.c (__kvm_vcpu_update_apicv, __kvm_set_or_clear_apicv_inhibit), svm/avic.c, vmx/main.c.
"""

from .expectations import Expectation, expect
from .values import (
    Branch,
    Certainty,
    Evidence,
    From,
    Limit,
    Reason,
    State,
    VcpuVerdict,
    Verdicts,
    VmVerdict,
    Witness,
)
from .verdict import judge
from .whatif import Outcome, Prediction, WhatIf, what_if

__all__ = [
    "Branch",
    "Certainty",
    "Evidence",
    "Expectation",
    "From",
    "Limit",
    "Outcome",
    "Prediction",
    "Reason",
    "State",
    "VcpuVerdict",
    "Verdicts",
    "VmVerdict",
    "WhatIf",
    "Witness",
    "expect",
    "judge",
    "what_if",
]
