"""``--from``: a recording shows what the host showed while it was made, byte for byte."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from crafted import AFTER, BEFORE, GAPS, MACHINE, ListSource, VcpuSpec, VmSpec, make_sample

pytest.importorskip("pyarrow", reason="pyarrow is not installed: make setup")

from kvmscope.cli import main
from kvmscope.collect import Host, open_recording
from kvmscope.errors import Unavailable, UsageError
from kvmscope.sample import Origin, Sample
from kvmscope.scene import Scene, VmIdentity, encode
from kvmscope.store.times import parse_time
from kvmscope.store.writer import RecordingWriter

ORIGIN = Origin("0" * 32, "1" * 32)


class RecordedWhileRead(Host):
    """A host each look at which is recorded too."""

    def __init__(self, samples: Sequence[Sample], writer: RecordingWriter) -> None:
        super().__init__(ListSource(samples), {"bpf": Unavailable("no BPF here")}, machine=MACHINE)
        self._writer = writer

    def look(self) -> Scene:
        scene = super().look()
        self._writer.append(scene)
        return scene

    def close(self) -> None:
        super().close()
        self._writer.close()


def run(*arguments: str, obj: Any = None) -> Result:
    return CliRunner().invoke(main, arguments, obj=obj, prog_name="kvmscope")


def busy(second: int) -> Sample:
    """A host at a second, with counts that go up."""
    stats = {"exits": 9_000 * second, "halt_exits": 500 * second, "io_exits": 80 * second}
    polled = {"halt_poll_success_ns": 9 * 10**6 * second, "halt_poll_fail_ns": 400 * 10**6 * second}
    vms = [
        VmSpec("web-1", [VcpuSpec(0, stats | polled, {20: second, 21: 3 * second}), VcpuSpec(1, stats)]),
        VmSpec("db", [VcpuSpec(0, {"exits": second})]),
    ]
    return make_sample(vms, at_s=second)


CRAFTED = (make_sample(BEFORE), make_sample(BEFORE, at_s=1), make_sample(AFTER, at_s=2, gaps=GAPS))
BUSY = tuple(map(busy, range(8)))
COMMANDS = [
    ("status", "--interval", "1ms"),
    ("status", "web-1", "--interval", "1ms"),
    ("status", "--json", "--interval", "1ms"),
    ("read",),
    ("read", "web-1/0", "--json"),
    ("list",),
    ("list", "--vms", "--json"),
    ("hist", "web-1"),
    ("hist", "web-1/0", "halt_wait_hist"),
    ("hist", "web-1", "halt_wait_hist", "--interval", "1ms"),
    ("apicv",),
    ("apicv", "--json", "--interval", "1ms"),
    ("doctor", "--for", "2ms", "--interval", "1ms"),
    ("doctor", "--for", "2ms", "--interval", "1ms", "--json", "--not-judged"),
    ("explain", "exits", "--interval", "1ms"),
    ("explain", "halt_wait_hist", "--interval", "1ms", "--json"),
]


@pytest.mark.parametrize("samples", [CRAFTED, BUSY], ids=["crafted", "busy"])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_recording_shows_what_the_host_showed(
    command: tuple[str, ...], samples: Sequence[Sample], tmp_path: Path
) -> None:
    place = tmp_path / "recording"
    if command[0] == "list":  # the schemas of the source here are those of its last sample
        samples = samples[-1:]
    live = run(*command, obj=lambda _source: RecordedWhileRead(samples, RecordingWriter(place)))
    assert live.exit_code == 0, live.output
    recorded = run(*command, "--from", str(place))
    assert (recorded.exit_code, recorded.stdout) == (0, live.stdout)
    assert recorded.stderr.replace(recorded.stderr.splitlines(keepends=True)[0], "", 1) == live.stderr
    assert recorded.stderr.startswith(f"from {place}, 2023-11-14T22:13:2")


@pytest.fixture
def recording(tmp_path: Path) -> str:
    writer = RecordingWriter(tmp_path / "recording", segment_s=3)
    host = RecordedWhileRead(BUSY, writer)
    for _ in BUSY:
        host.look()
    host.close()
    return str(tmp_path / "recording")


def test_at_a_time_is_what_there_was_until_then(recording: str) -> None:
    """Scenes are a second apart, from 22:13:20.123 to 22:13:27.123."""
    for time in ("22:13:24.5", "2023-11-14T22:13:24.500Z", "2023-11-14T23:13:24.500+01:00", "-2600ms"):
        assert run("read", "db", "exits", "--from", recording, "--at", time).stdout.split()[-1] == "4"
    found = run("status", "--from", recording, "--at", "2023-11-14T22:13:24.123Z", "--json").stdout
    assert '"time": "2023-11-14T22:13:24.123Z"' in found
    assert '"interval_s": 2.0' in found


def test_between_two_times_is_one_interval(recording: str) -> None:
    between = ("--from", recording, "--between", "22:13:21", "-1s")
    assert '"interval_s": 5.0' in run("status", "--json", *between).stdout
    assert '"interval_s": 5.0' in run("hist", "web-1", "halt_wait_hist", "--json", *between).stdout
    assert '"windows": 5' in run("doctor", "--interval", "1s", "--json", *between).stdout
    assert '"interval_s": 5.0' in run("apicv", "--json", *between).stdout


def test_watch_goes_through_a_recording_and_ends_with_it(recording: str) -> None:
    watched = run("status", "--watch", "--json", "--from", recording)
    assert watched.exit_code == 0
    assert len(watched.stdout.splitlines()) == len(BUSY) - 1
    later = run("status", "--watch", "--json", "--from", recording, "--at", "-3s")
    assert len(later.stdout.splitlines()) == 3


def test_a_file_with_a_scene_is_read_like_a_recording(tmp_path: Path) -> None:
    sample = replace(busy(3), origin=ORIGIN)
    host = Host(ListSource([sample]), {}, machine=MACHINE)
    place = tmp_path / "one.scene"
    place.write_bytes(encode(host.look()))
    host.close()
    assert run("read", "db", "exits", "--from", str(place)).stdout.split()[-1] == "3"
    refused = run("status", "--from", str(place))
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "an interval needs two" in refused.stderr


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--at", "22:00"), 2, "name one by --from"),
        (("--from", "RECORDING", "--at", "noon"), 2, "is not a time such as"),
        (("--from", "RECORDING", "--at", "2020-01-01T00:00:00Z"), 2, "the recording has no scene at this time"),
        (("--from", "RECORDING", "--between", "-1s", "-2s"), 2, "is after"),
        (("--from", "RECORDING", "--source", "bpf"), 2, "--source"),
        (("--from", "/nowhere"), 4, "no such directory"),
        (("--from", "x" * 10_000), 4, "not the name of a file"),
        (("--from", "no://where"), 2, "is not a directory or an object store"),
        (("--from", "RECORDING", "--at", "-99999999999999999999s"), 2, "is not a time such as"),
        (("--from", "/proc"), 4, "not a recording"),
        (("--from", "/etc/hostname"), 4, "neither a recording nor a scene"),
    ],
)
def test_what_cannot_be_shown_is_refused(recording: str, options: Sequence[str], code: int, message: str) -> None:
    result = run("status", *(recording if word == "RECORDING" else word for word in options))
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr


def test_a_time_of_day_is_the_last_one_before_the_end() -> None:
    end_ns = 1_700_000_000 * 10**9  # 22:13:20
    with click.Context(main):
        assert end_ns - parse_time("22:13", end_ns) == 20 * 10**9
        assert end_ns - parse_time("22:14", end_ns) == (86_400 - 40) * 10**9
        assert end_ns - parse_time("-1m", end_ns) == 60 * 10**9
        with pytest.raises(UsageError):
            parse_time("25:00", end_ns)


def test_a_program_reads_a_recording_as_it_reads_a_host(recording: str) -> None:
    with open_recording(recording) as host:
        assert host.source == "test"
        views = list(host.watch(1.0))
    assert len(views) == len(BUSY) - 1
    assert [vm.name for vm in views[-1].overview.vms] == ["web-1", "db"]


def test_a_time_across_a_restart_says_what_is_shown_and_why(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "recording")
    for second in range(8):
        boot = Origin("0" * 32, "12"[second >= 4] * 32)
        sample = replace(busy(second), origin=boot)
        if second >= 4:
            sample = replace(sample, monotonic_ns=(second - 3) * 10**9)
        names = tuple(VmIdentity(name, None) for name in ("web-1", "db"))
        writer.append(Scene(sample, names, MACHINE, {}))
    writer.close()
    result = run("status", "--from", str(tmp_path / "recording"), "--between", "-8s", "-1ms")
    assert result.exit_code == 0, result.output
    assert "only the time from 2023-11-14T22:13:24Z on is shown: the host was restarted after" in result.stderr
    assert "2 s by test" in result.stdout


LOOKING_BACK = (
    *("status --from {}", "read --from {}", "apicv --from {}", "doctor --from {}", "list --from {}", "report {}"),
    *("dump --from {}", "replay {}", "diff {0} {0} --between-b -1s -0s", "serve --from {}", "snapshot --from {} -"),
)


@pytest.mark.parametrize("command", LOOKING_BACK)
def test_a_recording_that_is_damaged_whole_is_not_said_to_be_without_scenes(tmp_path: Path, command: str) -> None:
    directory = tmp_path / "recording"
    host = RecordedWhileRead([busy(0), busy(1), busy(2)], RecordingWriter(directory))
    for _ in range(3):
        host.look()
    host.close()
    for path in directory.rglob("*.parquet"):
        path.write_bytes(b"")
    done = run(*command.format(directory).split())
    assert done.exit_code == 4, done.stderr
    assert "it cannot be read: it is shorter than any Parquet file" in done.stderr
