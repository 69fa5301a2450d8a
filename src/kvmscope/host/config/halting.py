"""Whether HLT exits are disabled for a VM, from its VMM's command line.

Rule: None if the command line does not show it. KVM's own settings (provider ``settings``), if read, take precedence.
Source: QEMU 4.0 to 10: -overcommit cpu-pm=on, which enables KVM_CAP_X86_DISABLE_EXITS for MWAIT, HLT, PAUSE and CSTATE.
"""

from __future__ import annotations

from functools import lru_cache

from ..process import PROCESSES_KEPT, VmmProcess
from ..qemu_args import parse


def hlt_exits_disabled(process: VmmProcess | None) -> bool | None:
    """Whether HLT exits are disabled for this VM; None if unknown."""
    if process is None or process.vmm != "qemu" or not process.argv:
        return None
    return _of_qemu(process.argv)


@lru_cache(maxsize=PROCESSES_KEPT)
def _of_qemu(argv: tuple[str, ...]) -> bool | None:
    config = parse(argv)
    if config.overcommit is not None and (told := config.overcommit.flag("cpu-pm")) is not None:
        return told
    return None if config.config_files else False
