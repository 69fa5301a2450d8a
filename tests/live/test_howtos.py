"""Every command of the how-to pages and of some others runs as it is written, in the order of its page.

Guests of the lab and recordings have the names that pages use. What differs from a page: durations are short, times of
day are those of the recording, ``/var/lib/kvmscope`` and the port of the server are the test's own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from monitoring import free_port, wait_for
from page_shell import PageShell, shell
from pages import DOCS, PROJECT, code_blocks, name_of
from tmux import terminal

from kvmscope import open_recording
from kvmscope.lab import process
from kvmscope.lab.qemu import Qemu
from kvmscope.lab.spec import LabSpec

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.needs("kvm", "bpf", "root", "tmux")]

NS = 1_000_000_000
FOUND = 1
"""How commands end that compare, if they found something."""

PAGES = (*sorted((DOCS / "howto").glob("*.md")), DOCS / "reference/schemas.md", DOCS / "reference/serve.md")
needs_minutes = pytest.mark.skipif("KVMSCOPE_PAGES" not in os.environ, reason="takes minutes: make test-pages")
NOT_RUN = {
    "kubectl apply": "there is no cluster; tests/contrib/test_kubernetes.py has the manifest checked",
    "kubectl exec": "there is no cluster; tests/contrib/test_kubernetes.py runs the server with the pod's capabilities",
}
"""Beginnings of lines that cannot run here, and what holds them instead."""


@dataclass(frozen=True, slots=True)
class HostOfPages:
    """What stands for the host of the pages: recordings, and the time that one of them covers."""

    recording: Path
    fleet: Path
    began: datetime
    ended: datetime
    port: int

    def here(self, line: str) -> str:
        """A line of a page with what differs here."""
        start, end = (f"{time:%Y-%m-%dT%H:%M:%SZ}" for time in (self.began, self.ended))
        replacements = {
            r"^sudo ": "",
            r"(fleet diff) /var/lib/kvmscope": rf"\1 {self.fleet}",
            r"/var/lib/kvmscope": str(self.recording),
            r"--between 0\d:\d\d 0\d:\d\d": f"--between {start} {end}",
            r"--at 0\d:\d\d": f"--at {end}",
            r"--for \d+[smh]": "--for 1s",
            r"--interval \d+s": "--interval 300ms",
            r"^(kvmscope record (?!.*--for).*)$": r"\1 --for 1s",
            r"^(kvmscope record .*)$": r"\1 --interval 300ms",
            r"^(kvmscope (?:apicv|doctor|hist|status)(?!.*--(?:interval|from)).*)$": r"\1 --interval 300ms",
            r"^kvmscope serve$": f"kvmscope serve --web.listen-address=127.0.0.1:{self.port} &",
            r"127\.0\.0\.1:9796": f"127.0.0.1:{self.port}",
            r"^python examples": f"{sys.executable} {PROJECT}/examples",
            r" && reboot": "",
            # Where /run is the line's own, what is attached ends with it and no other reader of this host sees it.
            r"^(kvmscope attach.*)$": r"unshare --mount sh -c 'mount -t tmpfs tmpfs /run && \1'",
            r" &$": " > /dev/null 2>&1 &",
        }
        for pattern, text in replacements.items():
            line = re.sub(pattern, text, line)
        return line


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostOfPages]:
    folder = tmp_path_factory.mktemp("pages")
    spec = LabSpec(workload="uneven", name="web", vms=2, vcpus=1, period_us=60)
    # The number that Proxmox gives a VM is its name here; tests/host/test_vmm.py has Proxmox's own command lines.
    with Qemu(name="guest=instance-0000002a"), Qemu(name="104"), Qemu(name="win-1"), process.start(spec) as guests:
        guests.wait_for_ready()
        guests.go()
        kvmscope("lab", "fleet", str(folder / "fleet"), "--hosts", "12", "--vms", "2", "--vcpus", "1", "--samples", "6")
        kvmscope("record", str(folder / "recording"), "--for", "4s", "--interval", "500ms")
        yield HostOfPages(folder / "recording", folder / "fleet", *covered(folder / "recording"), free_port())


def covered(recording: Path) -> tuple[datetime, datetime]:
    """The first and the last whole second that a recording has."""
    with open_recording(recording) as host:
        first_ns, *_, last_ns = (moment.taken_ns for moment in host.moments)
    return datetime.fromtimestamp(-(-first_ns // NS), UTC), datetime.fromtimestamp(last_ns // NS, UTC)


def kvmscope(*arguments: str) -> str:
    command = [sys.executable, "-m", "kvmscope", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def lines(page: Path) -> list[str]:
    """The commands of a page, in its order; what continues on the next line is one."""
    found = []
    for block in code_blocks(page):
        if block.language == "console":
            found += [line[2:] for line in block.text.splitlines() if line.startswith(("$ ", "# "))]
        elif block.language == "sh":
            found += block.text.splitlines()
    return found


def files(page: Path, folder: Path) -> None:
    """The files that a page has its reader write."""
    for block in code_blocks(page):
        if block.language == "toml":
            (folder / "contract.toml").write_text(block.text, encoding="utf-8")


@needs_minutes
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_of_a_page_runs_in_its_order(page: Path, place: HostOfPages, tmp_path: Path) -> None:
    files(page, tmp_path)
    (tmp_path / "contrib").symlink_to(PROJECT / "contrib")
    with shell(tmp_path) as session:
        for line in lines(page):
            if not line.startswith(tuple(NOT_RUN)):
                run(session, place, line, tmp_path)


def run(session: PageShell, place: HostOfPages, line: str, folder: Path) -> None:
    if line.startswith("kvmscope top"):
        look(place.here(line).split()[1:], folder)
        return
    if (masked := re.search(r"\bx[0-9a-f]{10}\b", line)) is not None:
        line = line.replace(masked[0], pseudonym(folder / "report.zip"))
    code, output = session.run(place.here(line))
    assert code in ((0, FOUND) if " schema " in line else (0,)), f"{line}: {output}"
    if "serve" in line:
        assert wait_for(lambda: session.run(f"curl -sf 127.0.0.1:{place.port}/-/healthy")[0] == 0)
        assert wait_for(lambda: "kvm_vm_info" in session.run(f"curl -sf 127.0.0.1:{place.port}/metrics")[1])
    elif "lab simulate" in line or "examples/publish" in line:
        assert wait_for(lambda: session.run("kvmscope list --vms --source published")[0] == 0)
    elif not re.search(r"^(mkdir|cp|unzip) |> | -o |--json \S+\.json", line):
        assert output.strip(), line


def pseudonym(snapshot: Path) -> str:
    """What a VM is called in an anonymised snapshot: `read` has it in its first column."""
    return kvmscope("read", "--from", str(snapshot)).split()[0].partition("/")[0]


def look(arguments: list[str], folder: Path) -> None:
    with terminal(folder, *arguments) as screen:
        screen.wait_for(lambda text: "web-0" in text)
        screen.keys("q")
        screen.wait_for(lambda text: "ended: 0" in text)


def test_what_is_not_run_is_on_a_page() -> None:
    everything = [line for page in PAGES for line in lines(page)]
    assert [start for start in NOT_RUN if not any(line.startswith(start) for line in everything)] == []
    assert len(everything) > 50
    assert shutil.which("unzip"), "a page needs unzip: tools/debian-packages.txt"
