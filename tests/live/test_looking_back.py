"""A live host that is recorded while commands run on it: ``--from`` with ``--at`` shows what they showed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

pytest.importorskip("pyarrow", reason="pyarrow is not installed: make setup")

from kvmscope.cli import main
from kvmscope.collect import Host
from kvmscope.errors import Unavailable
from kvmscope.lab import process
from kvmscope.lab.spec import LabSpec
from kvmscope.scene import Scene
from kvmscope.sources.bpf.source import BpfSource
from kvmscope.store.recording import Recording
from kvmscope.store.writer import RecordingWriter
from kvmscope.units import rfc3339

pytestmark = [pytest.mark.live, pytest.mark.needs("kvm", "bpf", "root")]

COMMANDS = [
    ("status", "--interval", "400ms"),
    ("status", "--json", "--interval", "400ms"),
    ("apicv", "--all"),
    ("apicv", "--json", "--interval", "300ms"),
    ("doctor", "--for", "900ms", "--interval", "300ms", "--not-judged"),
    ("doctor", "--for", "900ms", "--interval", "300ms", "--json"),
]


class RecordedLiveHost(Host):
    """This host by BPF; each look goes to a recording too."""

    def __init__(self, place: Path) -> None:
        super().__init__(BpfSource(("apic",)), {"pinned": Unavailable("nothing is attached")})
        self._writer = RecordingWriter(place)

    def look(self) -> Scene:
        scene = super().look()
        self._writer.append(scene)
        return scene

    def close(self) -> None:
        super().close()
        self._writer.close()


@pytest.fixture(scope="module")
def guests() -> Iterator[None]:
    with (
        process.start(LabSpec(workload="mmio", vcpus=2, name="storm")) as storm,
        process.start(LabSpec(workload="halt", period_us=500, name="sleeper")) as sleeper,
    ):
        storm.go()
        sleeper.go()
        yield


def run(*arguments: str, obj: Any = None) -> Result:
    return CliRunner().invoke(main, arguments, obj=obj, prog_name="kvmscope")


@pytest.mark.usefixtures("guests")
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_recording_of_a_live_host_shows_what_it_showed(command: tuple[str, ...], tmp_path: Path) -> None:
    place = tmp_path / "recording"
    live = run(*command, obj=lambda _source: RecordedLiveHost(place))
    assert live.exit_code == 0, live.output
    assert "storm" in live.stdout
    last = Recording(str(place)).moments()[-1]
    recorded = run(*command, "--from", str(place), "--at", rfc3339(last.taken_ns))
    assert (recorded.exit_code, recorded.stdout) == (0, live.stdout)
    assert recorded.stderr.startswith(f"from {place}, ")
