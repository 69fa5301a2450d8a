"""docs/reference/vmm-notes.md: its table is what kvmscope reads from a plain command line of each VMM."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kvmscope.catalog.settings import PARTIES, load_managers
from kvmscope.host.config import Irqchip, Pit, of_process
from kvmscope.host.config.others import OTHER_VMMS
from kvmscope.host.process import VmmProcess
from kvmscope.store.snapshot_commands import CommandRedaction
from kvmscope.store.snapshot_names import Pseudonyms

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "vmm-notes.md"
ROWS = re.findall(r"^\| `([a-z-]+)` \| (\w+) \| (\w+) \| (\w+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
COMMANDS = {
    "qemu": ("qemu-system-x86_64", "-machine", "q35", "-accel", "kvm", "-cpu", "host"),
    "cloud-hypervisor": ("cloud-hypervisor", "--kernel", "vmlinux"),
    "crosvm": ("crosvm", "run", "vmlinux"),
    "firecracker": ("firecracker", "--api-sock", "/run/fc.sock"),
    "kvmtool": ("lkvm", "run"),
    "libkrun": ("krunvm", "start", "web"),
    "stratovirt": ("stratovirt", "-machine", "microvm", "-kernel", "vmlinux"),
    "dragonball": ("containerd-shim-kata-v2", "-id", "0123456789abcdef"),
    "gvisor": ("runsc-sandbox", "--root=/run/runsc", "boot", "web"),
    "openvmm": ("openvmm", "--kernel", "vmlinux"),
    "alioth": ("alioth", "run", "--kernel", "vmlinux"),
    "virtualbox": ("VBoxHeadless", "--comment", "web"),
}


def test_every_vmm_of_the_table_is_tried() -> None:
    assert [vmm for vmm, *_ in ROWS] == list(COMMANDS)
    assert set(COMMANDS) == {"qemu", *OTHER_VMMS}


@pytest.mark.parametrize(("vmm", "irqchip", "pit", "synic"), ROWS)
def test_the_table_says_what_a_plain_command_line_sets_up(vmm: str, irqchip: str, pit: str, synic: str) -> None:
    argv = COMMANDS[vmm]
    config = of_process(VmmProcess(1, vmm, "web", None, None, argv[0], argv, 0))
    assert config.irqchip.value is Irqchip(irqchip)
    assert config.pit.value is Pit(pit)
    assert config.synic.value is {"no": False, "yes": True, "unknown": None}[synic]


@pytest.mark.parametrize("argv", COMMANDS.values(), ids=COMMANDS)
def test_an_anonymised_snapshot_keeps_the_name_of_the_program(argv: tuple[str, ...]) -> None:
    redacted = CommandRedaction(Pseudonyms()).argv(argv)
    assert redacted[0] == argv[0], f"{argv[0]} is not in _PROGRAM_WORDS of store/snapshot_commands.py"


def test_every_party_that_settings_are_written_for_has_a_section() -> None:
    headings = re.findall(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    named = {name for heading in headings for name in heading.split(", ")}
    without = {"any", "opennebula", *load_managers()}
    assert {title for party, title in PARTIES.items() if party not in without} <= named
