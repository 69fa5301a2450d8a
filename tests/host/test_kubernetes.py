"""Names of pods by their uid, as kubelet's directories have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvmscope.host.kubernetes import with_pod_name
from kvmscope.host.process import VmmProcess

UID = "0e44be5a-ff12-52fb-9413-07b52f3593c3"


def process(**known_as: str) -> VmmProcess:
    words = tuple((word.replace("__", "."), value) for word, value in known_as.items())
    return VmmProcess(5, "qemu", "shop_db", None, "kubevirt", "qemu-kvm", (), 1, words)


@pytest.fixture
def root(tmp_path: Path) -> str:
    for name in (f"shop_virt-launcher-db-x7k2p_{UID}", "kube-system_dns_11111111-2222-3333-4444-555555555555", "odd"):
        (tmp_path / "var/log/pods" / name).mkdir(parents=True)
    return str(tmp_path)


def test_a_process_in_a_pod_has_the_pods_name_and_namespace(root: str) -> None:
    found = with_pod_name(process(kubevirt__vm="db", kubernetes__pod_uid=UID), root=root)
    assert dict(found.known_as) == {
        "kubevirt.vm": "db",
        "kubernetes.pod_uid": UID,
        "kubernetes.namespace": "shop",
        "kubernetes.pod": "virt-launcher-db-x7k2p",
    }


def test_a_pod_that_kubelet_has_no_logs_of_keeps_its_uid_alone(root: str) -> None:
    other = process(kubernetes__pod_uid="99999999-ff12-52fb-9413-07b52f3593c3")
    assert with_pod_name(other, root=root) == other


def test_without_a_pod_or_without_logs_nothing_is_added(root: str, tmp_path: Path) -> None:
    assert with_pod_name(process(), root=root) == process()
    inside = process(kubernetes__pod_uid=UID)
    assert with_pod_name(inside, root=str(tmp_path / "nowhere")) == inside
