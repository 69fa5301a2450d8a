"""Members of the group against the iterator, on a kernel that deschedules a reader in the middle of its run.

The attack that must find nothing is tried on a program that it must find something in, too. ``KVMSCOPE_ATTACKS`` says
how often each is tried.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kvmscope.lab import kernels
from kvmscope.lab.emulate import KernelFailed

HERE = Path(__file__).parent
BPF = HERE.parents[1] / "src" / "kvmscope" / "sources" / "bpf"
OBJECT = "/opt/kvmscope/kvmscope/sources/bpf/kvmscope.bpf.o"
ROUNDS = int(os.environ.get("KVMSCOPE_ATTACKS", "150"))
LONGEST_S = max(80, ROUNDS)

COPIES_FIRST = {
    "index = walk->slot * CHUNK + i;\n\n\treturn bpf_map_lookup_elem(&staged_vcpus, &index);": (
        "index = walk->slot * config.vcpu_room + walk->vcpu + i;\n\n\treturn bpf_map_lookup_elem(&vcpus, &index);"
    ),
    "return bpf_map_update_elem(&vcpus, &index, staged, BPF_ANY) != 0;": "return 0;",
}
"""What makes the program read vCPUs into the array that readers map, before it knows that they are alive."""


def run_inside(kernel: str, script: str, *arguments: str, replaced: bytes | None = None) -> Any:
    """What a script prints where kernel code is preemptible; ``replaced``: the iterator's object there.

    Without the TDP MMU, whose end waits until no BPF program runs any more: a VM's memory must be free before that.
    """
    put: dict[str, Path | bytes] = {"/root/tests/kernels/inside": HERE / "inside"}
    try:
        result = kernels.run(
            kernel,
            ["sh", "-c", f"cd /root && python3 -m tests.kernels.inside.{script} {' '.join(arguments)}"],
            put=put if replaced is None else {**put, OBJECT: replaced},
            kernel_parameters="preempt=full",
            module_parameters=["kvm.tdp_mmu=0"],
            timeout_s=LONGEST_S,
        )
    except KernelFailed as error:
        if "did not end within" not in str(error):
            raise
        # Processes that wait for each other in the lowest class can take any time where one CPU is emulated.
        pytest.skip(f"the emulated machine did not come to an end within {LONGEST_S} s")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def build_changed(changes: dict[str, str], scratch: Path) -> bytes:
    """The iterator's object with its source changed."""
    text = (BPF / "kvmscope.bpf.c").read_text(encoding="utf-8")
    for before, after in changes.items():
        assert text.count(before) == 1, f"the program has changed: {before}"
        text = text.replace(before, after)
    source, built = scratch / "changed.bpf.c", scratch / "changed.bpf.o"
    source.write_text(text, encoding="utf-8")
    command = ["clang-14", "-O2", "-g", "-target", "bpf", "-mcpu=v3", f"-I{BPF}"]
    headers = ["-idirafter", f"/usr/include/{platform.machine()}-linux-gnu"]
    subprocess.run([*command, *headers, "-c", str(source), "-o", str(built)], check=True)
    return built.read_bytes()


def test_a_member_who_churns_vms_finds_nothing_of_freed_memory(preemptible_kernel: str) -> None:
    answer = run_inside(preemptible_kernel, "hostile", str(ROUNDS))
    assert (answer["uid"], answer["capabilities"]) == (65534, 0)
    assert answer["found"] == {}
    if not answer["runs"]["that lost VMs"]:
        pytest.skip(f"only 0 of {ROUNDS} runs lost a VM, which shows nothing")


@pytest.mark.needs("clang")
def test_the_same_attack_finds_what_a_program_that_copies_before_it_checks_lets_out(
    preemptible_kernel: str, tmp_path: Path
) -> None:
    """It takes luck: the kernel must give a VM's memory to the attacker while the reader stands in the middle of it."""
    changed = build_changed(COPIES_FIRST, tmp_path)
    answer = run_inside(preemptible_kernel, "hostile", str(ROUNDS), replaced=changed)
    if not answer["found"]:
        lost = answer["runs"]["that lost VMs"]
        pytest.skip(f"the kernel gave none of a VM's memory to the attacker in {lost} runs that lost a VM")
    assert answer["found"].keys() <= {"sprayed words", "kernel pointers", "tids that are none"}


def test_members_starve_each_other_at_most_for_a_while_and_root_never(preemptible_kernel: str) -> None:
    answer = run_inside(preemptible_kernel, "starve")
    member, root = answer["member"], answer["root"]
    assert (root["refused"], root["given up"]) == (0, 0)
    assert member["longest_s"] < 20, "the wait has a bound, by the clock of an emulated machine"
    if member["refused"] <= member["runs"] // 4:
        pytest.skip(f"only {member['refused']} of {member['runs']} runs were refused, which shows little")
