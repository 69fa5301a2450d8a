"""Choosing a source, and who the VMs of a sample are."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import open_files

from kvmscope import publish
from kvmscope.collect import SOURCES, Host, open_host, open_recording
from kvmscope.errors import UsageError
from kvmscope.lab import process
from kvmscope.lab.spec import LabSpec
from kvmscope.publish import StatSet
from kvmscope.sample import NOT_KNOWN, Sample, Vcpus, Vms
from kvmscope.schema import Descriptor, Kind, Schema, Scope

NO_SUCH_PID = 2**22 + 1


class Fixed:
    """A source that always gives the same VMs."""

    name = "fixed"
    schemas: tuple[Schema, ...] = ()

    def __init__(self, pids: Sequence[int], labels: Sequence[str] = ()) -> None:
        number = len(pids)
        ids = np.arange(1, number + 1).astype(np.uint64)
        vms = Vms(ids, np.array(pids, dtype=np.int64), np.full(number, NOT_KNOWN), tuple(labels) or ("",) * number)
        none = np.zeros(0, dtype=np.int64)
        self.sample = Sample(1, 2, self.name, False, vms, Vcpus(none, none, none), ())
        self.closed = 0

    def read(self) -> Sample:
        return self.sample

    def close(self) -> None:
        self.closed += 1


def names(pids: Sequence[int], labels: Sequence[str] = ()) -> list[str]:
    source = Fixed(pids, labels)
    with Host(source, {}) as host:
        return [identity.name for identity in host.identify(host.read())]


# -- sources ---------------------------------------------------------------------------------------------------------


def test_a_source_that_there_is_not_is_a_usage_error_that_lists_those_that_there_are() -> None:
    with pytest.raises(UsageError) as caught:
        open_host("bfp")
    assert "'bfp'" in str(caught.value)
    assert all(name in str(caught.value) for name in ("auto", *SOURCES))


def test_a_group_that_there_is_not_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no-such-group"):
        open_host(groups=["no-such-group"])


def test_a_host_closes_its_source_when_it_is_left() -> None:
    source = Fixed([])
    with Host(source, {}) as host:
        assert host.source == "fixed"
        assert host.schemas == ()
        assert source.closed == 0
    assert source.closed == 1


def test_a_host_closes_its_source_also_after_an_error() -> None:
    source = Fixed([])
    with pytest.raises(ZeroDivisionError), Host(source, {}):
        _ = 1 / 0
    assert source.closed == 1


@pytest.mark.needs("kvm", "bpf")
def test_the_source_that_is_named_is_the_one_that_reads() -> None:
    with open_host("bpf") as host:
        assert host.source == host.read().source == "bpf"
        assert host.why_not == {}
        assert {schema.provider for schema in host.schemas} >= {"kvm"}


@pytest.mark.needs("kvm", "bpf")
def test_auto_takes_the_best_that_works_and_says_why_not_better_ones() -> None:
    with open_host() as host:
        best = list(SOURCES)
        assert host.source in best[:2], "root can always load the iterator"
        assert list(host.why_not) == best[: best.index(host.source)]
        assert all(error.reason for error in host.why_not.values())


OPEN = """
import json
from kvmscope import SourceError, open_host
try:
    with open_host() as host:
        print(json.dumps({"source": host.source}))
except SourceError as error:
    print(json.dumps({"slug": error.slug, "reason": error.reason, "remedy": error.remedy}))
"""


@pytest.mark.needs("nobody")
def test_where_no_source_works_every_one_says_why() -> None:
    uid = str(1_000_000 + os.getpid())  # of its own: as nobody, it could read the VMs that others run as nobody
    command = ["setpriv", "--reuid", uid, "--regid", uid, "--clear-groups", sys.executable, "-c", OPEN]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
    told = json.loads(done.stdout)
    assert "source" not in told, "nobody may read anything of this host"
    assert told["slug"] == "unavailable"
    first, *by_source = told["reason"].splitlines()
    assert first == "no source works here:"
    assert [line.partition(":")[0].strip() for line in by_source] == list(SOURCES)
    assert "kvmscope attach" in told["remedy"]
    assert "root" in told["remedy"]


# -- the end of a host -----------------------------------------------------------------------------------------------


def test_every_use_after_close_is_one_usage_error() -> None:
    host = Host(Fixed([]), {})
    host.close()
    host.close()
    uses: list[Callable[[], object]] = [
        host.read,
        host.look,
        host.__enter__,
        lambda: host.schemas,
        lambda: next(host.watch(0.0)),
    ]
    for use in uses:
        with pytest.raises(UsageError, match="is closed"):
            use()


@pytest.mark.needs("kvm", "bpf")
@pytest.mark.parametrize("source", ["bpf", "statsfd", "published"])
def test_a_host_that_is_collected_unclosed_leaves_no_file_open_and_warns(source: str) -> None:
    with process.start(LabSpec(workload="bare", hold_stats_fds=True)) as guests:
        guests.wait_for_ready()
        host = open_host(source)
        host.close()  # what is loaded once for all hosts is loaded
        del host
        gc.collect()  # hosts and samples of other tests keep their mappings until they are collected
        before = open_files()
        host = open_host(source)
        host.read()
        with pytest.warns(ResourceWarning, match=f"reads by {source} was not closed"):
            del host
            gc.collect()
        assert open_files().items() <= before.items()


@pytest.mark.needs("kvm", "bpf")
@pytest.mark.parametrize("source", ["bpf", "statsfd", "published"])
def test_a_child_that_closes_a_host_does_not_disturb_its_parent(source: str) -> None:
    with process.start(LabSpec(workload="bare", hold_stats_fds=True)) as guests:
        guests.wait_for_ready()
        with open_host(source) as host:
            host.read()
            child = os.fork()
            if child == 0:
                refused = 1
                try:
                    host.read()
                except UsageError:
                    refused = 0
                host.close()
                os._exit(refused)
            assert os.waitpid(child, 0)[1] == 0, "the child is refused, and told why"
            host.read()


@pytest.mark.parametrize("source", [None, 7, b"bpf", ["bpf"], Path("bpf")])
def test_a_source_that_is_no_name_is_a_usage_error(source: Any) -> None:
    with pytest.raises(UsageError, match="source: expected the name of a source, found"):
        open_host(source)


@pytest.mark.parametrize("path", [None, "", b"/tmp", 7])
def test_a_recording_is_opened_by_a_path(path: Any) -> None:
    with pytest.raises(UsageError, match="path: expected the path of a recording"):
        open_recording(path)


def test_a_text_is_not_a_list_of_groups() -> None:
    with pytest.raises(UsageError, match="list of names"):
        open_host(groups="exits")


# -- identities ------------------------------------------------------------------------------------------------------


def test_what_the_source_calls_a_vm_goes_before_all() -> None:
    assert names([os.getpid()], ["web-1"]) == ["web-1"]


def test_a_vm_of_a_process_that_is_gone_goes_by_its_number() -> None:
    assert names([NO_SUCH_PID]) == [f"pid-{NO_SUCH_PID}"]


def test_a_vm_of_an_unknown_process_goes_by_its_id() -> None:
    assert names([NOT_KNOWN]) == ["vm-0000000000000001"]


def test_a_process_that_is_no_known_vmm_gives_its_command_and_number() -> None:
    (name,) = names([os.getpid()])
    assert name.endswith(f"-{os.getpid()}")
    assert len(name) > len(f"-{os.getpid()}")


def test_vms_of_one_name_are_numbered_and_others_are_not() -> None:
    assert names([NOT_KNOWN] * 4, ["a", "b", "a", "a"]) == ["a#1", "b", "a#2", "a#3"]


def test_no_two_vms_have_one_name_even_if_a_vm_is_called_like_a_numbered_one() -> None:
    found = names([NOT_KNOWN] * 3, ["a", "a", "a#1"])
    assert len(set(found)) == 3, found


def test_there_is_an_identity_a_vm_and_a_process_where_it_is_known() -> None:
    with Host(Fixed([os.getpid(), NO_SUCH_PID, NOT_KNOWN]), {}) as host:
        identities = host.identify(host.read())
    assert [identity.process is not None for identity in identities] == [True, False, False]


@pytest.mark.needs("kvm", "bpf")
def test_identities_are_made_again_only_when_a_vm_or_an_answer_has_changed() -> None:
    source = Fixed([os.getpid()])
    with Host(source, {}) as host:
        first = host.identify(host.read())
        assert host.identify(host.read()) is first
        source.sample = Fixed([os.getpid(), NO_SUCH_PID]).sample
        second = host.identify(host.read())
        assert [who.name for who in second] == [first[0].name, f"pid-{NO_SUCH_PID}"]
        assert host.identify(host.read()) is second


def test_what_the_kernel_calls_every_vm_is_the_last_name_to_take() -> None:
    me = os.getpid()
    own = names([me])
    assert names([me], [f"kvm-{me}"]) == own
    assert names([NOT_KNOWN], ["kvm-4532"]) == ["kvm-4532"]
    assert names([me], ["kvm-web"]) == ["kvm-web"]


def test_guests_of_the_lab_go_by_the_names_that_they_were_given() -> None:
    with process.start(LabSpec(workload="bare", vms=2, name="café")) as guests, open_host("bpf") as host:
        guests.wait_for_ready()
        sample = host.read()
        found = {int(pid): who for pid, who in zip(sample.vms.pid, host.identify(sample), strict=True)}
    assert [found[pid].name for pid in guests.pids] == ["café-0", "café-1"]
    assert all(found[pid].process is not None for pid in guests.pids)


@pytest.mark.whole_host
def test_what_is_published_goes_by_the_name_that_it_was_published_under() -> None:
    disk = StatSet("disk", Scope.VM, (Descriptor("requests", Kind.CUMULATIVE),))
    with publish.Vm("collected") as vm, open_host("published") as host:
        vm.publish(disk)
        sample = host.read()
        mine = [who.name for pid, who in zip(sample.vms.pid, host.identify(sample), strict=True) if pid == os.getpid()]
    assert mine == ["collected"]


@pytest.mark.parametrize("interval_s", [-1, float("nan"), float("inf"), 1e300, "1", None])
def test_an_interval_that_is_no_time_is_refused_at_once(interval_s: float) -> None:
    with Host(Fixed([1]), {}) as host, pytest.raises(UsageError, match="interval_s: expected a number of seconds"):
        host.watch(interval_s)
