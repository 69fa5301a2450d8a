"""Python that pages show and no other test runs: each block, with the names in it that its page takes for granted."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pages import DOCS, code_blocks

from kvmscope.lab import process
from kvmscope.lab.process import Running
from kvmscope.lab.qemu import Qemu
from kvmscope.lab.spec import LabSpec

pytestmark = [pytest.mark.live, pytest.mark.needs("kvm", "bpf")]


@pytest.fixture(scope="module")
def guests() -> Iterator[Running]:
    with process.start(LabSpec(workload="halt", vms=1, vcpus=2, name="block")) as running:
        running.wait_for_ready()
        yield running


def run(page: str, word: str, path: str = "", **names: object) -> dict[str, Any]:
    """The one block with this word. ``path`` stands for the one that it names."""
    (text,) = (block.text for block in code_blocks(DOCS / page) if block.language == "python" and word in block.text)
    scope: dict[str, Any] = dict(names)
    exec(compile(text.replace("/run/vm/web-1.qmp", path), page, "exec"), scope)
    return scope


def test_the_verdicts_of_all_vms(guests: Running, capsys: pytest.CaptureFixture[str]) -> None:
    view = run("explanation/apicv.md", "apicv_view")["view"]
    assert guests.spec.vm_name(0) in {vm.name for vm in view.vms}
    assert guests.spec.vm_name(0) in capsys.readouterr().out


def test_stats_fds_that_a_vmm_passes(guests: Running) -> None:
    fds = list(guests.stats_fds().values())
    sender, sock = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with sender, sock:
        socket.send_fds(sender, [b"web-1"], fds)
        scope = run("explanation/sources.md", "StatsFdSource", sock=sock, vmm_pid=guests.pid)
    assert scope["text"] == b"web-1"
    assert (len(scope["sample"].vms), len(scope["sample"].vcpus)) == (1, 2)


@pytest.mark.needs("qmp")
def test_a_qmp_socket() -> None:
    with Qemu(name="web-1") as qemu:
        scope = run("explanation/sources.md", "QmpSource", path=str(qemu.wait_for_qmp()))
    assert len(scope["sample"].vms) == 1


def test_a_stats_file(guests: Running) -> None:
    (stats_fd,) = (fd for (_, vcpu), fd in guests.stats_fds().items() if vcpu == 0)
    scope = run("reference/format.md", "statsfile", os=os, stats_fd=stats_fd)
    assert scope["file"].description.id.endswith("/vcpu-0")


def test_a_lab_of_its_own() -> None:
    assert len(run("reference/lab.md", "LabSpec")["report"].vms[0].vcpus) == 2


def test_no_block_of_these_pages_is_left_out() -> None:
    pages = ("explanation/apicv.md", "explanation/sources.md", "reference/format.md", "reference/lab.md")
    blocks = [block for page in pages for block in code_blocks(Path(DOCS / page)) if block.language == "python"]
    assert len(blocks) == 5
