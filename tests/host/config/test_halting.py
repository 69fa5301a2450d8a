"""Whether HLT exits are off, by command lines."""

from __future__ import annotations

import pytest

from kvmscope.host.config.halting import hlt_exits_disabled
from kvmscope.host.process import VmmProcess


def process(*argv: str, vmm: str = "qemu") -> VmmProcess:
    return VmmProcess(5, vmm, "web", None, None, "qemu-system-x86_64", ("qemu-system-x86_64", *argv), 1)


@pytest.mark.parametrize(
    ("argv", "answer"),
    [
        (("-overcommit", "cpu-pm=on"), True),
        (("-overcommit", "mem-lock=off,cpu-pm=on"), True),
        (("-overcommit", "cpu-pm=on", "-overcommit", "cpu-pm=off"), False),
        (("-overcommit", "mem-lock=on"), False),
        ((), False),
        (("-readconfig", "vm.cfg"), None),
        (("-readconfig", "vm.cfg", "-overcommit", "cpu-pm=on"), True),
    ],
)
def test_qemu_says_it_on_its_command_line(argv: tuple[str, ...], answer: bool | None) -> None:
    assert hlt_exits_disabled(process(*argv)) is answer


def test_of_other_vmms_and_unseen_processes_it_is_not_known() -> None:
    assert hlt_exits_disabled(process(vmm="crosvm")) is None
    assert hlt_exits_disabled(None) is None
