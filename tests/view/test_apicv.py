"""The verdict as a person and as a program gets it, on a simulated host with a VM in every state."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kvmscope.analysis.apicv import Branch
from kvmscope.catalog.inhibits import load_inhibits
from kvmscope.host.apicv import host_apicv
from kvmscope.host.machine import read_machine
from kvmscope.host.process import VmmProcess
from kvmscope.lab.simulate import SimulatedHost
from kvmscope.lab.simulated_apicv import SCENARIOS
from kvmscope.linux.facts import Fact, KernelModule
from kvmscope.sample import Sample
from kvmscope.scene import Scene, VmIdentity
from kvmscope.sources.published import PublishedSource
from kvmscope.view.apicv import ApicvView, apicv_view
from kvmscope.view.apicv_text import apicv_nodes
from kvmscope.view.jsonout import to_value
from kvmscope.view.tree import indented

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def samples(own_proc: Path) -> Iterator[list[Sample]]:
    with SimulatedHost(vms=len(SCENARIOS), vcpus=2, seed=1) as host:
        taken = []
        for elapsed_s in (1.0, 1.5, 2.0):
            host.advance(elapsed_s)
            with PublishedSource(proc=own_proc, walk_share=float("inf"), simulated=True) as source:
                taken.append(source.read())
        yield taken


def scene(sample: Sample, process: VmmProcess | None = None) -> Scene:
    return Scene(sample, tuple(VmIdentity(label, process) for label in sample.vms.label), read_machine(), {})


def vm(answer: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(vm for vm in answer["vms"] if vm["name"] == name)
    return found


def answer_of(view: ApicvView) -> Any:
    return to_value(view)


def lines_of(view: ApicvView, *, each_vm: bool = True) -> list[str]:
    return list(indented(apicv_nodes(view, each_vm=each_vm)))


def test_every_branch_of_the_tree_can_be_tried_on_a_simulated_host(samples: list[Sample]) -> None:
    answer = answer_of(apicv_view(scene(samples[0])))
    assert answer["simulated"] is True
    branches = {vm["apicv"]["branch"] for vm in answer["vms"]}
    assert branches >= {branch.value for branch in Branch} - {"off", "inhibited", "pending"}


def test_a_screen_says_first_that_it_is_simulated(samples: list[Sample]) -> None:
    lines = lines_of(apicv_view(scene(samples[0])))
    assert lines[0].startswith("SIMULATED")
    assert "each simulated VM pretends" in lines[1]


def test_a_vm_that_is_inhibited_has_reason_cause_remedy_and_evidence(samples: list[Sample], kvmscope: Any) -> None:
    result = kvmscope.run("apicv", "db-2", on=samples)
    assert result.exit_code == 0
    text = result.stdout
    assert "db-2: inhibited by pit_reinj" in text
    assert "cause: the in-kernel PIT reinjects ticks" in text
    assert "In the VMM: KVM_REINJECT_CONTROL" in text
    assert "apicv_inhibit_pit_reinj is set" in text
    assert "web-1" not in text


def test_the_cause_is_the_option_of_the_vmm(samples: list[Sample]) -> None:
    argv = ("qemu-system-x86_64", "-machine", "q35", "-global", "kvm-pit.lost_tick_policy=delay")
    qemu = VmmProcess(5, "qemu", "db-2", None, "libvirt", "qemu-system-x86_64", argv, 1)
    reason = vm(answer_of(apicv_view(scene(samples[0], qemu))), "db-2")["apicv"]["reasons"][0]
    assert reason["cause"] == "-global kvm-pit.lost_tick_policy=delay"
    assert "tickpolicy='discard'" in reason["remedy"]


def test_what_if_is_asked_for(samples: list[Sample], kvmscope: Any) -> None:
    without = json.loads(kvmscope.run("apicv", "--json", on=samples).stdout)
    assert not any("what_if" in vm for vm in without["vms"])
    answer = json.loads(kvmscope.run("apicv", "--json", "--what-if", on=samples).stdout)
    found = vm(answer, "idle-3")["what_if"]
    assert (found["outcome"], found["is_off_now"], found["host"]) == ("inhibited", True, "off-by-parameter")
    assert found["first"][0].startswith("pit_reinj: ")
    assert "with APICv/AVIC switched on: inhibited" in kvmscope.run("apicv", "--what-if", on=samples).stdout


def test_a_window_adds_shares_and_beginnings(samples: list[Sample], kvmscope: Any) -> None:
    answer = json.loads(kvmscope.run("apicv", "db-2", "--json", "--interval", "1ms", on=samples).stdout)
    reason = answer["vms"][0]["apicv"]["reasons"][0]
    assert answer["interval_s"] > 0
    assert reason["share"] == 1.0
    assert reason["since_s"] > 1.0 and reason["since_is_at_least"]
    once = json.loads(kvmscope.run("apicv", "db-2", "--json", on=samples).stdout)
    assert (once["interval_s"], once["vms"][0]["apicv"]["reasons"][0]["share"]) == (None, None)


def test_unknown_is_null_and_not_false(samples: list[Sample], kvmscope: Any) -> None:
    answer = json.loads(kvmscope.run("apicv", "web-10", "--json", on=samples).stdout)["vms"][0]
    assert answer["apicv"]["state"] == "unknown"
    assert answer["apicv"]["verified"] is False
    assert answer["apicv"]["would_tell"]
    assert [vcpu["apicv_active"] for vcpu in answer["vcpus"]] == [None, None]


def test_without_a_local_apic_there_is_no_flag(samples: list[Sample], kvmscope: Any) -> None:
    answer = json.loads(kvmscope.run("apicv", "spin-9", "--json", on=samples).stdout)["vms"][0]
    assert [vcpu["apicv_active"] for vcpu in answer["vcpus"]] == [None, None]
    assert answer["apicv"]["branch"] == "no-in-kernel-apic"


def test_one_vcpu_can_be_asked_for(samples: list[Sample], kvmscope: Any) -> None:
    answer = json.loads(kvmscope.run("apicv", "web-1/1", "--json", on=samples).stdout)
    assert [vcpu["id"] for vcpu in answer["vms"][0]["vcpus"]] == [1]
    assert "vCPU 1: active" in kvmscope.run("apicv", "web-1/1", on=samples).stdout


def test_a_vm_that_is_not_there_is_a_usage_error(samples: list[Sample], kvmscope: Any) -> None:
    result = kvmscope.run("apicv", "web-2", on=samples)
    assert result.exit_code == 2
    assert "did you mean" in result.stderr


def test_a_command_line_cannot_write_to_the_terminal(samples: list[Sample]) -> None:
    argv = ("qemu-system-x86_64", "-global", "kvm-pit.lost_tick_policy=delay", "-machine", "\x1b[31mq35")
    qemu = VmmProcess(5, "qemu", "x", None, None, "qemu", argv, 1)
    lines = lines_of(apicv_view(scene(samples[0], qemu), with_what_if=True))
    assert not any("\x1b" in line for line in lines)


def test_status_shows_the_verdict_in_a_column_and_in_json(samples: list[Sample], kvmscope: Any) -> None:
    text = kvmscope.run("status", "--interval", "1ms", on=samples).stdout
    rows = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert "APICv" in text
    assert "no: pit_reinj" in rows["db-2"]
    assert " none " in rows["router-8"]
    assert " yes " in rows["web-1"]
    answer = json.loads(kvmscope.run("status", "--json", "--interval", "1ms", on=samples).stdout)
    inhibited = vm(answer, "db-2")
    assert inhibited["apicv"]["state"] == "inhibited"
    assert set(inhibited["apicv"]["reasons"][0]) == {"name", "cause", "remedy"}
    assert [vcpu["apicv_active"] for vcpu in inhibited["vcpus"]] == [False, False]
    assert vm(answer, "web-10")["apicv"] == {"state": "unknown", "is_partial": False, "reasons": []}


def test_no_word_of_bits_is_shown_anywhere(samples: list[Sample], kvmscope: Any) -> None:
    for arguments in (("apicv", "--what-if"), ("apicv", "--json"), ("status", "--json")):
        assert "0x" not in kvmscope.run(*arguments, "--interval", "1ms", on=samples).stdout.replace("0x40000004", "")


def test_every_reason_and_branch_stands_in_the_docs() -> None:
    page = (DOCS / "explanation/apicv.md").read_text(encoding="utf-8")
    assert [name for name in load_inhibits() if f"| `{name}` |" not in page] == []
    assert [branch.value for branch in Branch if f"| `{branch.value}` |" not in page] == []


def test_the_screen_of_this_host_begins_with_what_it_has(samples: list[Sample]) -> None:
    found = scene(replace(samples[0], simulated=False))
    view = apicv_view(found)
    assert view.host.module == host_apicv(found.machine).module
    assert view.host.supported.evidence
    assert lines_of(view)[0] == f"host {found.machine.hostname.value}: {view.host.module or 'unknown KVM module'}"


def on(module: str, crafted: Any) -> Scene:
    """The crafted VMs on a host with this KVM module."""
    machine = replace(crafted.machine, kvm_vendor=Fact(KernelModule(module, False, {})))
    return Scene(crafted.after, crafted.identities, machine, {})


def test_a_fact_of_the_host_is_shown_once_for_all_vms(crafted: Any) -> None:
    lines = lines_of(apicv_view(on("kvm_pvm", crafted)), each_vm=False)
    assert lines[0] == "host host-7: kvm_pvm"
    assert "not supported here: 4 VMs" in lines
    assert sum("kvm_pvm" in line for line in lines[1:]) == 1
    assert len([line for line in lines if not line.startswith("missing data")]) == 4


def test_what_if_on_a_kvm_that_cannot_have_it_says_so_once(crafted: Any) -> None:
    lines = lines_of(apicv_view(on("kvm_pvm", crafted), with_what_if=True), each_vm=False)
    assert [line.strip() for line in lines if "switched on" in line] == [
        "APICv/AVIC cannot be switched on: this host's CPU or KVM lacks it"
    ]
    assert sum("kvm_pvm" in line for line in lines[1:]) == 1
    assert not any(line.strip().endswith(": unknown") for line in lines)


def test_vms_with_the_same_verdict_are_shown_together_and_each_on_request(crafted: Any) -> None:
    view = apicv_view(on("kvm_intel", crafted))
    together = lines_of(view, each_vm=False)
    assert "unknown: 4 VMs" in together
    assert sum(line.strip().startswith("to find out:") for line in together) == 1
    each = lines_of(view, each_vm=True)
    assert [line for line in each if line.endswith(": unknown") and not line.startswith(" ")] == [
        "web-1: unknown",
        r"db\x1b[31m-2: unknown",
        "half: unknown",
        "数据库-with-a-name-that-goes-on-and-on: unknown",
    ]


def test_every_vm_is_in_one_group_and_what_needs_attention_comes_first(samples: list[Sample]) -> None:
    view = apicv_view(scene(samples[0]), with_what_if=True)
    doubled = replace(view, vms=(*view.vms, *view.vms))
    tops = [node.text for node in apicv_nodes(doubled) if node.below or "VMs" in node.text]
    counts = [int(found[1]) for text in tops if (found := re.search(r": (\d+) VMs", text))]
    assert sum(counts) == len(doubled.vms)
    states = [index for index, text in enumerate(tops) if text.startswith(("inhibited", "off", "no local"))]
    assert max(states) < min(index for index, text in enumerate(tops) if text.startswith("active"))
