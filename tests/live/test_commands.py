"""The commands on real guests, as processes of their own, the way a person runs them."""

from __future__ import annotations

import grp
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kvmscope.lab import process, simulate
from kvmscope.lab.process import Running
from kvmscope.lab.spec import LabSpec
from kvmscope.sources.bpf.place import ROOT

pytestmark = [pytest.mark.live, pytest.mark.needs("kvm", "bpf")]

KVMSCOPE = (sys.executable, "-m", "kvmscope")
NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
LIBRARY = Path(__file__).parents[2] / "docs" / "reference" / "library.md"


def run(*arguments: str, before: tuple[str, ...] = (), code: int = 0) -> str:
    done = subprocess.run(
        [*before, *KVMSCOPE, *arguments], capture_output=True, text=True, check=False, timeout=120, cwd="/"
    )
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def answer(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json"))


@pytest.fixture(scope="module")
def guests() -> Iterator[Running]:
    """Two VMs of two vCPUs that halt and wake without end."""
    with process.start(LabSpec(workload="halt", vms=2, vcpus=2, name=f"cmd{os.getpid()}")) as running:
        running.wait_for_ready()
        running.go()
        yield running


def name_of(guests: Running, index: int = 0) -> str:
    return guests.spec.vm_name(index)


def find(vms: list[dict[str, Any]], name: str) -> dict[str, Any]:
    (vm,) = (vm for vm in vms if vm["name"] == name)
    return vm


def halts_of(guests: Running) -> list[int]:
    """How often the vCPUs of each VM have halted, by the guests' own count; KVM's has one more of a vCPU in a halt."""
    return [sum(vcpu.did for vcpu in vm.vcpus) for vm in guests.report().vms]


def test_status_has_rates_of_every_guest(guests: Running) -> None:
    before = halts_of(guests)
    status = answer("status", "--interval", "500ms")
    after = halts_of(guests)
    for index, pid in enumerate(guests.pids):
        vm = find(status["vms"], name_of(guests, index))
        assert (vm["pid"], vm["vmm"], vm["partial"]) == (pid, "kvmscope-lab", [])
        halts = round(vm["metrics"]["halts_per_s"] * status["interval_s"])
        assert 0 < halts <= after[index] - before[index] + guests.spec.vcpus
        # Each halt is an exit, but a running vCPU's counters are copied moments apart; where it stands still they are
        # compared (test_read_gives_what_the_guest_did).
        assert vm["metrics"]["exits_per_s"] > 0
        per_vcpu = [vcpu["metrics"]["halts_per_s"] for vcpu in vm["vcpus"]]
        assert vm["metrics"]["halts_per_s"] == pytest.approx(sum(per_vcpu))
    assert 0.5 <= status["interval_s"] < 5


def test_the_screen_has_the_guests_in_it(guests: Running) -> None:
    assert name_of(guests) in run("status", "--interval", "200ms", "--all")


def test_a_guest_is_found_by_name_and_pid(guests: Running) -> None:
    by_name = answer("read", name_of(guests, 1), "halt_exits")["vms"]
    by_pid = answer("read", str(guests.pids[1]), "halt_exits")["vms"]
    assert [vm["name"] for vm in by_name] == [vm["name"] for vm in by_pid] == [name_of(guests, 1)]


def test_read_gives_what_the_guest_did() -> None:
    """The lab's own count of halts: each HLT is one halt_exits, on every KVM."""
    with process.start(LabSpec(workload="halt", count=200, name=f"count{os.getpid()}")) as running:
        running.wait_for_ready()
        running.go()
        report = running.wait_for_done(60)
        read = answer("read", f"{running.spec.vm_name(0)}/0", "halt_exits", "exits", "guest_mode")
    stats = read["vms"][0]["vcpus"][0]["stats"]
    assert stats["halt_exits"] == report.vms[0].vcpus[0].did == 200
    assert stats["exits"] >= 200
    assert stats["guest_mode"] is False


def test_a_window_of_a_histogram_counts_its_halts(guests: Running) -> None:
    vm = name_of(guests)
    before, after = (answer("hist", vm, "halt_wait_hist")["count"] for _ in range(2))
    window = answer("hist", f"{vm}/0", "halt_wait_hist", "--interval", "500ms")
    assert 0 < before <= after
    assert window["count"] > 0
    assert window["count"] == sum(bucket["count"] for bucket in window["buckets"])
    assert [quantile["q"] for quantile in window["quantiles"]] == [0.5, 0.9, 0.99, 0.999]


def test_list_has_the_kernels_stats_and_the_guests(guests: Running) -> None:
    stats = answer("list")["stats"]
    assert {("kvm", "vcpu", "exits"), ("kvm", "vm", "remote_tlb_flush")} <= {
        (stat["provider"], stat["scope"], stat["name"]) for stat in stats
    }
    assert len(find(answer("list", "--vms")["vms"], name_of(guests))["vcpus"]) == 2


def test_check_says_that_bpf_works(guests: Running) -> None:
    sources = {source["name"]: source for source in answer("check")["sources"]}
    assert sources["bpf"]["works"] is True
    assert sources["bpf"]["vms"] >= 2
    assert "kvmscope reads this host by" in run("check")


def test_two_demos_at_once_each_show_their_own_guest() -> None:
    demos = [start_demo() for _ in range(2)]
    ended = [(demo.communicate(timeout=120), demo.returncode) for demo in demos]
    for (stdout, stderr), code in ended:
        assert code == 0, stderr
        assert "p99 " in stdout


def start_demo() -> subprocess.Popen[str]:
    """In a session of its own, by which its guests can be found however it ends."""
    return subprocess.Popen(
        [*KVMSCOPE, "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def guests_of(demo: subprocess.Popen[str]) -> list[int]:
    """Live processes of its session, but for itself, from /proc/PID/stat: to read a command line may take for ever."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session, *_ = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(session) == demo.pid and state not in "ZX" and path.parent.name != str(demo.pid):
            found.append(int(path.parent.name))
    return found


def test_the_demo_shows_its_guests_and_leaves_none() -> None:
    demo = start_demo()
    stdout, stderr = demo.communicate(timeout=120)
    assert demo.returncode == 0, stderr
    assert "starting 5 guests" in stderr
    for workload in ("pio", "fault", "halt", "spin", "idle"):
        assert f"demo-{workload}-0" in stdout
    assert "p99 " in stdout
    assert "kvmscope status --watch" in stdout
    assert guests_of(demo) == []


def test_ctrl_c_ends_the_demo_and_its_guests() -> None:
    demo = start_demo()
    deadline = time.monotonic() + 60
    while len(guests_of(demo)) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    demo.send_signal(signal.SIGINT)
    stdout, _ = demo.communicate(timeout=60)
    assert (demo.returncode, stdout) == (130, "")
    assert guests_of(demo) == []


_WITHOUT_KVM = """
mkdir -p "$1/shm" && mknod -m 666 "$1/null" c 1 3 && mknod -m 666 "$1/urandom" c 1 9 && mount --bind "$1" /dev || exit 9
shift
exec "$@"
"""


@pytest.mark.needs("root")
def test_without_kvm_the_demo_is_simulated_and_says_so(tmp_path: Path) -> None:
    """In a mount namespace of its own, whose /dev has no kvm. Another simulated host has VMs of the same names."""
    without_kvm = ["unshare", "--mount", "sh", "-c", _WITHOUT_KVM, "sh", str(tmp_path)]
    with simulate.start():
        done = subprocess.run(
            [*without_kvm, *KVMSCOPE, "demo"], capture_output=True, text=True, check=False, timeout=120
        )
    if done.returncode == 9:
        pytest.skip(f"this user may not make a /dev of its own: {done.stderr}")
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^web-1\S* +python", done.stdout, re.MULTILINE)) == 1
    assert "no guests can run here" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.count("SIMULATED") == 2
    assert "kvmscope lab simulate" in done.stdout


@pytest.fixture
def nobody() -> tuple[str, ...]:
    """What runs a command as a user who is in no group."""
    if ROOT.exists():
        pytest.skip(f"something is attached at {ROOT}, which this test would replace")
    return NOBODY


@pytest.mark.needs("nobody")
def test_a_group_reads_what_root_attached_and_others_do_not(guests: Running, nobody: tuple[str, ...]) -> None:
    members = ("setpriv", "--reuid", "65534", "--regid", "65534", "--groups", "12345")
    try:
        assert "state    attached" in run("attach", "--group", str(grp.getgrgid(65534).gr_gid))
        status = json.loads(run("status", "--interval", "200ms", "--json", before=nobody))
        assert status["source"]["name"] == "pinned"
        assert find(status["vms"], name_of(guests))["metrics"]["halts_per_s"] > 0
        assert name_of(guests) in run("read", "halt_exits", before=nobody)

        assert "readers  root alone" in run("attach", "--group", "0")
        for other in (nobody, members):
            assert "this user may not read" in run("status", "--source", "pinned", before=other, code=3)
            assert "pinned: this user may not read" in run("status", before=other, code=3)
    finally:
        detached = run("detach")
    assert detached == "detached\n"
    assert run("detach") == "nothing was attached\n"
    assert not ROOT.exists()


@pytest.mark.needs("nobody")
def test_attaching_needs_root(nobody: tuple[str, ...]) -> None:
    assert "need root" in run("attach", before=nobody, code=3)
    assert "need root" in run("detach", before=nobody, code=3)


def test_what_the_library_page_shows_runs(guests: Running) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", LIBRARY.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 4
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert name_of(guests) in done.stdout
