"""Which capabilities suffice where KVM is modules, whose types libbpf finds for itself only with CAP_SYS_ADMIN."""

from __future__ import annotations

import json
from pathlib import Path

from kvmscope.lab import kernels

SCRIPT = Path(__file__).parent / "inside" / "capabilities.py"


def test_bpf_and_perfmon_suffice_for_all_but_hooks_in_modules(any_kernel: str) -> None:
    result = kernels.run(any_kernel, ["python3", "/capabilities.py"], put={"/capabilities.py": SCRIPT}, timeout_s=300)
    assert result.exit_code == 0, result.stderr
    print(result.stdout)
    answer = json.loads(result.stdout)
    for group, (kind, reason, _) in answer["none"].items():
        assert (kind, "CAP_BPF and CAP_PERFMON" in reason) == ("PermissionNeeded", True), group
    some, all_of_them = answer["bpf and perfmon"], answer["sys_admin too"]
    for group in ("", "apic", "mmu_lock"):
        assert some[group] == all_of_them[group], group
        assert some[group][:2] == [2, 4]
    for group in ("apicv", "exits", "userspace", "accesses", "wakeups", "dirty"):
        assert "CAP_SYS_ADMIN" in json.dumps(some[group]), group
        assert group in all_of_them[group][2]
