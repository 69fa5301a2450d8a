"""What there is: stats with their descriptors, VMs with their ids."""

from __future__ import annotations

import json
from typing import Any

from kvmscope.scene import Scene
from kvmscope.view.listing import stat_list_lines, vm_list_lines, vm_list_view


def test_stats_are_as_expected(crafted: Any, expect: Any) -> None:
    schemas = [block.schema for block in crafted.after.blocks]
    expect("list.txt", "\n".join(stat_list_lines(schemas, is_simulated=False)))


def test_vms_are_as_expected(crafted: Any, expect: Any) -> None:
    expect(
        "list-vms.txt",
        "\n".join(vm_list_lines(vm_list_view(Scene(crafted.after, crafted.identities, crafted.machine, {})))),
    )


def test_json_has_every_descriptor(kvmscope: Any, crafted: Any) -> None:
    stats = json.loads(kvmscope.run("list", "--json", on=[crafted.after]).stdout)["stats"]
    by_name = {(stat["provider"], stat["name"]): stat for stat in stats}
    assert by_name["disk", "read_size"] == {
        "provider": "disk",
        "scope": "vm",
        "name": "read_size",
        "kind": "linear_histogram",
        "unit": "bytes",
        "base": 10,
        "exponent": 0,
        "size": 4,
        "bucket_size": 4096,
        "tier": None,
        "meaning": None,
    }
    assert by_name["kvm", "halt_poll_fail_ns"]["exponent"] == -9
    assert by_name["kvm", "halt_poll_fail_ns"]["tier"] == "abi-like"


def test_json_has_every_vm(kvmscope: Any, crafted: Any) -> None:
    vms = json.loads(kvmscope.run("list", "--vms", "--json", on=[crafted.after]).stdout)["vms"]
    assert [vm["name"] for vm in vms] == list(crafted.after.vms.label)
    assert [vcpu["id"] for vcpu in vms[0]["vcpus"]] == [0, 1]


def test_no_vm_says_what_to_try(kvmscope: Any, crafted: Any) -> None:
    assert "kvmscope demo" in kvmscope.run("list", "--vms", on=[crafted.make_sample([])]).stdout
