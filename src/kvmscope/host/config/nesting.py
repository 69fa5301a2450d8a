"""Whether a guest is shown VMX or SVM, from its configuration of either and the vendor of the host's CPU.

A guest gets the one that the host's CPU has. QEMU drops the flag of the other, with a warning at most.
Source: QEMU target/i386/cpu.c (x86_cpu_filter_features: what KVM does not support is filtered out).
"""

from __future__ import annotations

from collections.abc import Callable

from ..apicv import Hardware
from .settings import Setting

FLAGS = {Hardware.INTEL: "vmx", Hardware.AMD: "svm"}


def given_nesting(hardware: Hardware | None, said: Callable[[str], Setting[bool] | None]) -> Setting[bool] | None:
    """The setting from ``said("vmx")`` and ``said("svm")``; None if the configuration leaves it to the CPU model.

    On a host of unknown vendor the setting is uncertain: a flag that is on counts, one that is off does not decide
    about the other.
    """
    if hardware in FLAGS:
        return said(FLAGS[hardware])
    found = [setting for flag in FLAGS.values() if (setting := said(flag)) is not None]
    for setting in found:
        if setting.value:
            return Setting(True, f"{setting.evidence}, if the host's CPU has it", is_sure=False)
    if len(found) == len(FLAGS):
        return Setting(False, " and ".join(setting.evidence for setting in found))
    return None
