"""The one committed BPF object on stock kernels: it loads, and what it reads is what the kernel's own files say.

``inside/numbers.py`` runs in each kernel and prints what it read; one boot a kernel gives all answers.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from kvmscope.codec.statsfile import StatsFile, parse, violations
from kvmscope.sample import NOT_KNOWN

_VM_DESCRIPTORS = {"6.1": 15, "6.12": 15, "7.3": 16, "6.1-arm64": 2}  # 7.2 added mmu_shadow_pages

Answers = dict[str, Any]


@pytest.fixture
def answers(kernel: str, inside: Callable[..., Any]) -> Answers:
    found: Answers = inside(kernel, "numbers")
    return found


def files_of(answers: Answers) -> Iterator[tuple[str, int, int | None, StatsFile]]:
    for group in answers["groups"]:
        for vm, vcpu, text in group["files"]:
            yield group["name"], vm, vcpu, parse(base64.b64decode(text))


def as_words(file: StatsFile) -> dict[str, list[int]]:
    names = (descriptor.name for descriptor in file.description.descriptors)
    return {name: np.atleast_1d(np.array(file[name], dtype=np.uint64)).tolist() for name in names}


def test_the_kernels_stats_files_keep_the_rules_of_their_format(answers: Answers) -> None:
    for group, vm, vcpu, file in files_of(answers):
        assert violations(file.description) == [], (group, vm, vcpu)


def test_each_kernel_has_as_many_statistics_as_are_known_of_it(answers: Answers, kernel: str) -> None:
    vcpu_descriptors = 18 if kernel.endswith("arm64") else 45
    for _, _, vcpu, file in files_of(answers):
        expected = _VM_DESCRIPTORS[kernel] if vcpu is None else vcpu_descriptors
        assert len(file.description.descriptors) == expected
    counts = {(provider, scope): count for provider, scope, count in answers["schemas"]}
    assert counts["kvm", "vm"] == _VM_DESCRIPTORS[kernel]
    assert counts["kvm", "vcpu"] == vcpu_descriptors


def test_provider_apicv_is_there_where_the_architecture_has_it(answers: Answers, kernel: str) -> None:
    scopes = {scope for provider, scope, _ in answers["schemas"] if provider == "apicv"}
    assert scopes == (set() if kernel.endswith("arm64") else {"vm", "vcpu"})


def test_every_stat_of_every_vm_and_vcpu_is_that_of_its_stats_fd(answers: Answers) -> None:
    compared = 0
    for group in answers["groups"]:
        for vm, vcpu, text in group["files"]:
            read = group["vms"][vm]
            if vcpu is not None:
                (read,) = [each for each in read["vcpus"] if each["id"] == vcpu]
            assert read["stats"] == as_words(parse(base64.b64decode(text))), (group["name"], vm, vcpu)
            compared += 1
    assert compared > 5


def test_guests_move_the_stats_by_what_they_did(answers: Answers, kernel: str) -> None:
    """One stat a workload, and how much it exceeds the guest's own count."""
    moved = {"pio": ("io_exits", 1), "mmio": ("mmio_exits", 0)}  # with pio, the guest's last word is one more
    if kernel.endswith("arm64"):
        moved = {"mmio": ("mmio_exit_user", 0)}
    seen = set()
    for group in answers["groups"]:
        if group["name"] not in moved:
            continue
        stat, more = moved[group["name"]]
        for vm, did in zip(group["vms"], group["did"], strict=True):
            counts = {str(vcpu["id"]): vcpu["stats"][stat] for vcpu in vm["vcpus"]}
            assert counts == {vcpu: [times + more] for vcpu, times in did.items()}
            seen.add(group["name"])
    assert seen == moved.keys()


def test_vms_of_a_process_come_in_order_of_creation_with_the_pid_of_their_vmm(answers: Answers) -> None:
    for group in answers["groups"]:
        assert [vm["pid"] for vm in group["vms"]] == group["pids"]
        started_ns, ended_ns = group["made ns"]
        for pid in group["pids"]:
            created = [vm["created_ns"] for vm in group["vms"] if vm["pid"] == pid]
            assert created == sorted(created)
            # An inode's time is that of the last tick.
            assert started_ns - 10**7 <= created[0] <= created[-1] <= ended_ns


def test_ids_tell_vms_apart_and_stay(answers: Answers) -> None:
    ids = [vm["id"] for group in answers["groups"] for vm in group["vms"]]
    assert len(set(ids)) == len(ids)
    for group in answers["groups"]:
        assert group["ids again"] == [vm["id"] for vm in group["vms"]]


def test_vcpus_come_in_order_of_creation_with_the_ids_that_the_vmm_gave(answers: Answers, kernel: str) -> None:
    first = answers["groups"][0]
    expected = [[0, 1], [5], [2, 0, 1]] if kernel.endswith("arm64") else [[7, 0, 200]] * 3
    assert [[vcpu["id"] for vcpu in vm["vcpus"]] for vm in first["vms"]] == expected


def test_a_vcpu_has_the_thread_that_ran_it_and_none_if_it_never_ran(answers: Answers) -> None:
    for group in answers["groups"]:
        for vm, tids in zip(group["vms"], group["tids"], strict=True):
            found = {str(vcpu["id"]): vcpu["tid"] for vcpu in vm["vcpus"]}
            assert found == {vcpu: tids.get(vcpu, NOT_KNOWN) for vcpu in found}


def test_a_host_without_vms_has_none(answers: Answers) -> None:
    assert answers["vms of nobody"] == 0


def test_nothing_stays_loaded_after_close_and_detach(answers: Answers) -> None:
    assert answers["left loaded"] is False
    assert answers["attached"]["detached"] == [True, False]
    assert answers["attached"]["directory left"] is False


def test_what_root_attached_a_member_of_the_group_reads_without_privileges(answers: Answers) -> None:
    def without_ids(vms: list[Answers]) -> list[Answers]:
        return [{key: value for key, value in vm.items() if key != "id"} for vm in vms]

    attached = answers["attached"]
    assert attached["kept"] == [False, True]
    assert "error" not in attached["member"], attached["member"]
    assert len(attached["member"]) == 3
    assert without_ids(attached["member"]) == without_ids(attached["root"])


def test_what_root_attached_is_closed_to_others_and_to_all_when_detached(answers: Answers) -> None:
    attached = answers["attached"]
    assert attached["stranger"]["error"] == "PermissionNeeded"
    assert attached["before"]["error"] == attached["after"]["error"] == "Unavailable"
