"""The schemas of a fleet: which hosts have which, and how they differ."""

from __future__ import annotations

from numpy_fleet import NumpyFleet

from kvmscope.view.fleet.schemas import fleet_schemas_view


def test_every_schema_counts_its_hosts_and_says_in_what_it_differs(numpy_fleet: NumpyFleet) -> None:
    view = fleet_schemas_view(numpy_fleet)
    of_vcpus = [each for each in view.schemas if (each.provider, each.scope) == ("kvm", "vcpu")]
    assert sum(each.hosts for each in of_vcpus) == 24
    assert [each.is_most_frequent for each in of_vcpus] == [True] + [False] * (len(of_vcpus) - 1)
    assert of_vcpus[0].hosts == max(each.hosts for each in of_vcpus)
    old = next(each for each in of_vcpus if "5.15.16 x86_64" in each.kernels)
    assert "pf_taken" in old.missing
    assert not old.added
    arm = next(each for each in of_vcpus if "6.12.9 aarch64" in each.kernels)
    assert "wfi_exit_stat" in arm.added
    assert "halt_exits" in arm.missing


def test_a_schema_that_all_hosts_share_has_no_difference(numpy_fleet: NumpyFleet) -> None:
    shared = [each for each in fleet_schemas_view(numpy_fleet).schemas if each.provider == "settings"]
    assert [(each.hosts, each.missing, each.added, each.changed) for each in shared] == [(22, (), (), ())]
