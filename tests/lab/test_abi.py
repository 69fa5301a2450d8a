"""The lab's numbers and structures are those of the kernel's headers, as a C compiler sees them."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvmscope.lab import abi

STRUCTS: dict[type[ctypes.Structure], str] = {
    abi.MemoryRegion: "kvm_userspace_memory_region",
    abi.DirtyLog: "kvm_dirty_log",
    abi.ClearDirtyLog: "kvm_clear_dirty_log",
    abi.IrqLevel: "kvm_irq_level",
    abi.Msi: "kvm_msi",
    abi.EnableCap: "kvm_enable_cap",
    abi.MpState: "kvm_mp_state",
    abi.PitConfig: "kvm_pit_config",
    abi.ReinjectControl: "kvm_reinject_control",
    abi.PitChannel: "kvm_pit_channel_state",
    abi.PitState: "kvm_pit_state2",
    abi.PicState: "kvm_pic_state",
    abi.IoapicState: "kvm_ioapic_state",
    abi.IrqchipState: "kvm_irqchip",
    abi.Regs: "kvm_regs",
    abi.Segment: "kvm_segment",
    abi.Dtable: "kvm_dtable",
    abi.Sregs: "kvm_sregs",
    abi.CpuidEntry: "kvm_cpuid_entry2",
}
INNER_FIELDS_OF_RUN = """
io.direction io.size io.port io.count io.data_offset mmio.phys_addr mmio.data mmio.len mmio.is_write
internal.suberror internal.ndata internal.data fail_entry.hardware_entry_failure_reason
""".split()


def constants() -> dict[str, int]:
    return {name: value for name, value in vars(abi).items() if name.startswith("KVM_") and isinstance(value, int)}


def offset_of(kind: Any, path: str) -> int:
    offset = 0
    for name in path.split("."):
        offset += getattr(kind, name).offset
        kind = {field[0]: field[1] for field in kind._fields_}[name]
    return offset


def assertions() -> Iterator[str]:
    for name, value in constants().items():
        yield f"{name} == {value}u"
    for kind, name in STRUCTS.items():
        yield f"sizeof(struct {name}) == {ctypes.sizeof(kind)}"
        for field in kind._fields_:
            yield f"offsetof(struct {name}, {field[0]}) == {getattr(kind, field[0]).offset}"
    yield f"offsetof(struct kvm_cpuid2, entries) == {abi.Cpuid.entries.offset}"
    for field in abi.RunState._fields_:
        if field[0] != "exit":
            yield f"offsetof(struct kvm_run, {field[0]}) == {getattr(abi.RunState, field[0]).offset}"
    for path in INNER_FIELDS_OF_RUN:
        ours = "exit." + path.removeprefix("fail_entry.")
        yield f"offsetof(struct kvm_run, {path}) == {offset_of(abi.RunState, ours)}"


def compile_assertions(claims: list[str], directory: Path) -> str:
    source = directory / "claims.c"
    lines = [f'_Static_assert({claim}, "{claim}");' for claim in claims]
    source.write_text("\n".join(["#include <stddef.h>", "#include <linux/kvm.h>", *lines, ""]))
    result = subprocess.run(["gcc", "-fsyntax-only", source], capture_output=True, text=True, check=False)
    return result.stderr


@pytest.mark.needs("gcc")
def test_every_number_and_field_is_that_of_the_headers(tmp_path: Path) -> None:
    claims = list(assertions())
    assert len(claims) > 200
    assert compile_assertions(claims, tmp_path) == ""


@pytest.mark.needs("gcc")
def test_a_wrong_number_would_be_found(tmp_path: Path) -> None:
    assert "KVM_EXIT_IO == 3" in compile_assertions(["KVM_EXIT_IO == 3"], tmp_path)


def test_names_of_exits_and_ioctls_cover_what_is_declared() -> None:
    assert abi.EXIT_NAMES[abi.KVM_EXIT_HLT] == "hlt"
    assert abi.IOCTL_NAMES[abi.KVM_CREATE_VM] == "KVM_CREATE_VM"
    assert 0 not in abi.IOCTL_NAMES
