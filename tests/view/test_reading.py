"""Raw values: which, in what form, and that they are the words themselves."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from kvmscope.errors import UsageError
from kvmscope.sample import Gap
from kvmscope.scene import Scene
from kvmscope.schema import Scope
from kvmscope.view.jsonout import to_value
from kvmscope.view.reading import StatQuery, reading_lines, reading_view, stat_query


@pytest.fixture
def scene(crafted: Any) -> Scene:
    return Scene(crafted.after, crafted.identities, crafted.machine, {})


def answer_of(scene: Scene, query: StatQuery) -> Any:
    return to_value(reading_view(scene, query))


def test_all_values_are_as_expected(scene: Scene, expect: Any) -> None:
    expect("read.txt", "\n".join(reading_lines(scene, stat_query(scene, None, (), None))))


def test_the_json_is_as_expected(scene: Scene, expect: Any) -> None:
    query = stat_query(scene, "web-1", (), None)
    expect("read-web-1.json", json.dumps(answer_of(scene, query), indent=2, allow_nan=False))


def test_values_are_the_words_of_the_sample(scene: Scene) -> None:
    vms = answer_of(scene, stat_query(scene, None, (), None))["vms"]
    web = vms[0]
    assert web["stats"]["mmu_unsync"] == 2**64 - 2
    assert web["vcpus"][0]["stats"]["exits"] == 41_000
    assert web["vcpus"][0]["stats"]["blocking"] is True
    assert web["vcpus"][0]["stats"]["halt_wait_hist"] == [0] * 20 + [1503, 907, 0, 0, 92] + [0] * 7
    assert [vcpu["tid"] for vcpu in web["vcpus"]] == [4243, 4244]


def test_what_could_not_be_read_is_absent_and_a_gap(scene: Scene) -> None:
    answer = answer_of(scene, stat_query(scene, "half", (), None))
    assert answer["vms"][0]["vcpus"][1] == {"id": 1, "tid": None, "stats": {}}
    assert answer["gaps"][0]["reason"] == "its stats fd is not open"


def test_the_same_name_of_two_providers_is_told_apart(crafted: Any) -> None:
    block = next(block for block in crafted.after.blocks if block.schema.provider == "disk")
    assert block.schema.scope is Scope.VM
    scene = Scene(crafted.after, crafted.identities, crafted.machine, {})
    only = answer_of(scene, stat_query(scene, "web-1", ("exits",), "disk"))
    assert only["vms"][0]["stats"] == {"exits": 42}
    assert only["vms"][0]["vcpus"][0]["stats"] == {}


def test_a_vcpu_alone_and_stats_by_pattern(scene: Scene) -> None:
    lines = reading_lines(scene, stat_query(scene, "web-1/0", ("exits", "halt_poll_*"), None))
    assert [line.split()[:3] for line in lines] == [
        ["web-1/0", "exits", "41000"],
        ["web-1/0", "halt_poll_success_ns", "150000000"],
        ["web-1/0", "halt_poll_fail_ns", "50000000"],
    ]


def test_a_first_word_that_is_no_vm_may_be_a_stat(scene: Scene) -> None:
    lines = reading_lines(scene, stat_query(scene, "exits", ("blocking",), "kvm"))
    assert {line.split()[1] for line in lines} == {"exits", "blocking"}
    assert len({line.split()[0] for line in lines}) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["wep-1"], "there is no VM 'wep-1'; did you mean web-1?"),
        (["web-1", "exit"], "there is no stat 'exit' here; did you mean exits"),
        (["web-1/7"], "web-1 has no vCPU '7'; it has 0, 1"),
        (["web-1/x"], "web-1 has no vCPU 'x'; it has 0, 1"),
        (["web-1", "zz*"], "there is no stat 'zz*' here"),
        (["--provider", "nope"], "there is no provider 'nope' here; there are disk, kvm"),
        (
            ["web-1/0", "mmu_unsync"],
            "mmu_unsync: a statistic of VMs, not of vCPUs; try: kvmscope read web-1 mmu_unsync",
        ),
        (["web-1/0", "exits", "remote_*"], "remote_tlb_flush: a statistic of VMs, not of vCPUs"),
        (["db\x1b[31m-2", "read_size"], r"db\x1b[31m-2 has no statistic read_size; VMs that have it: web-1"),
        (["\x1b[31m"], r"there is no VM '\x1b[31m'"),
    ],
)
def test_a_wrong_word_is_told_with_what_is_near(
    kvmscope: Any, crafted: Any, arguments: list[str], message: str
) -> None:
    result = kvmscope.run("read", *arguments, on=[crafted.after])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in result.stderr


def test_a_stat_of_vms_of_which_nothing_could_be_read_is_told_with_the_reason(scene: Scene) -> None:
    nothing = replace(scene, sample=replace(scene.sample, blocks=(), gaps=(Gap("its VMM holds no stats fd open"),)))
    with pytest.raises(UsageError, match="no stat of a VM could be read: its VMM holds no stats fd open"):
        stat_query(nothing, "exits", (), None)


def test_gaps_and_emptiness_go_to_stderr(kvmscope: Any, crafted: Any) -> None:
    result = kvmscope.run("read", "exits", on=[crafted.after])
    assert "missing data: its stats fd is not open" in result.stderr
    empty = kvmscope.run("read", on=[crafted.make_sample([])])
    assert (empty.exit_code, empty.stdout) == (0, "")
    assert "kvmscope demo" in empty.stderr
    assert json.loads(kvmscope.run("read", "--json", on=[crafted.make_sample([])]).stdout)["vms"] == []
