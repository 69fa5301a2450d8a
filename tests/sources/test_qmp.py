"""What a QMP socket can do to its reader, played by a small monitor; real QEMU is in tests/live/test_qmp_live.py."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from kvmscope.sample import NOT_KNOWN
from kvmscope.schema import Scope
from kvmscope.sources.qmp import QmpSource

pytestmark = pytest.mark.needs("qmp")

Handler = Callable[[str, dict[str, Any]], Any]

CPUS = ["/cpu[0]", "/cpu[1]"]
NS = {"unit": "seconds", "base": 10, "exponent": -9}
SCHEMAS = [
    {
        "provider": "kvm",
        "target": "vcpu",
        "stats": [
            {"name": "halt_wait_hist", "type": "log2-histogram", **NS},
            {"name": "halt_wait_ns", "type": "cumulative", **NS},
            {"name": "exits", "type": "cumulative", "exponent": 0},
        ],
    },
    {"provider": "kvm", "target": "vm", "stats": [{"name": "pages_4k", "type": "instant", "exponent": 0}]},
    {"provider": "cryptodev", "target": "cryptodev", "stats": [{"name": "x", "type": "instant", "exponent": 0}]},
]
RAW = "raw"
"""Key of an answer that is sent as it stands."""
DECIDED = {"halt_wait_hist": [0, 0, 0, 1, 0], "halt_wait_ns": 1}
"""Backwards it is one wait of [1, 2) ns, forwards one of [4, 8): the sum tells."""
UNDECIDED = {"halt_wait_hist": [0, 0, 0, 1, 0], "halt_wait_ns": 100}


class ScriptedQemu:
    """Answers like QEMU on a socket of its own, one client at a time; what it says can be changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: list[dict[str, Any]] = [{**DECIDED, "exits": 10}, {**DECIDED, "exits": 11}]
        self.paths_in_answers = list(CPUS)
        self.commands: list[str] = []
        self.overrides: dict[str, Any] = {}
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen(1)
        self._clients: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def hang_up(self) -> None:
        """Close the connection, as QEMU does when it ends."""
        for client in self._clients:
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self.hang_up()
        self._thread.join(10)
        self._socket.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                self._clients.append(client)
                with client, suppress(OSError):
                    self._talk(client)

    def _talk(self, client: socket.socket) -> None:
        version = {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}
        client.sendall(json.dumps({"QMP": {"version": version, "capabilities": []}}).encode() + b"\r\n")
        for request in _iter_objects(client):
            self.commands.append(request["execute"])
            answer = self._answer(request["execute"], request.get("arguments", {}))
            text = answer.get(RAW) or json.dumps({**answer, "id": request.get("id")})
            client.sendall(text.encode("latin-1") + b"\r\n")

    def _answer(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if command in self.overrides:
            answer: dict[str, Any] = self.overrides[command]
            return answer
        if command == "query-stats":
            return {"return": self._stats(arguments)}
        if command == "qom-get":
            return {"return": 2 * CPUS.index(arguments["path"])}
        answers: dict[str, Any] = {
            "qmp_capabilities": {},
            "query-name": {"name": "web-1"},
            "query-stats-schemas": SCHEMAS,
            "query-cpus-fast": [
                {"cpu-index": n, "qom-path": path, "thread-id": threading.get_native_id(), "target": "x86_64"}
                for n, path in enumerate(CPUS)
            ],
        }
        return {"return": answers[command]}

    def _stats(self, arguments: dict[str, Any]) -> list[dict[str, Any]]:
        if arguments["target"] == "vm":
            return [{"provider": "kvm", "stats": [{"name": "pages_4k", "value": 3}]}]
        # Backwards, as the real one.
        return [
            {
                "provider": "kvm",
                "qom-path": self.paths_in_answers[n],
                "stats": [{"name": name, "value": value} for name, value in self.values[n].items()],
            }
            for n in (1, 0)
            if CPUS[n] in arguments.get("vcpus", CPUS)
        ]


def _iter_objects(client: socket.socket) -> Iterator[dict[str, Any]]:
    """Requests, which follow each other with or without space between."""
    decoder, text = json.JSONDecoder(), ""
    while data := client.recv(65536):
        text += data.decode()
        with suppress(json.JSONDecodeError):
            while text := text.lstrip():
                request, end = decoder.raw_decode(text)
                text = text[end:]
                yield request


@pytest.fixture
def qemu(tmp_path: Path) -> Iterator[ScriptedQemu]:
    server = ScriptedQemu(tmp_path / "qmp.sock")
    yield server
    server.close()


def test_vms_and_vcpus_come_out_as_from_any_source(qemu: ScriptedQemu) -> None:
    with QmpSource([qemu.path]) as source:
        sample = source.read()
    assert sample.gaps == ()
    assert (sample.source, sample.vms.label) == ("qmp", ("web-1",))
    assert sample.vms.pid.tolist() == [os.getpid()]
    assert sample.vcpus.id.tolist() == [0, 2]
    vm, vcpus = sample.block("kvm", Scope.VM), sample.block("kvm", Scope.VCPU)
    assert vm is not None
    assert vcpus is not None
    assert vm.column("pages_4k").tolist() == [3]
    assert vcpus.column("exits").tolist() == [10, 11]
    assert vcpus.column("halt_wait_hist").tolist() == [[0, 1, 0, 0, 0]] * 2


def test_one_path_on_every_entry_does_not_mix_vcpus_up(qemu: ScriptedQemu) -> None:
    qemu.paths_in_answers = [CPUS[1], CPUS[1]]
    with QmpSource([qemu.path]) as source:
        vcpus = source.read().block("kvm", Scope.VCPU)
    assert vcpus is not None
    assert vcpus.column("exits").tolist() == [10, 11]


def test_a_histogram_whose_order_is_not_told_is_a_gap_until_it_is(qemu: ScriptedQemu) -> None:
    qemu.values = [{**UNDECIDED, "exits": 10}] * 2
    with QmpSource([qemu.path]) as source:
        before = source.read()
        qemu.values = [{**UNDECIDED, "exits": 10}, {**DECIDED, "exits": 11}]
        after = source.read()
    (gap,) = before.gaps
    assert (gap.stat, gap.vm) == ("halt_wait_hist", before.vms.vm_id(0))
    block = before.block("kvm", Scope.VCPU)
    assert block is not None
    assert "halt_wait_hist" not in block.schema
    assert block.column("exits").tolist() == [10, 10]
    assert after.gaps == ()
    assert "halt_wait_hist" in after.blocks[-1].schema


@pytest.mark.parametrize(
    ("command", "answer", "reason"),
    [
        ("query-stats-schemas", {"error": {"class": "CommandNotFound", "desc": "no"}}, "has no query-stats-schemas"),
        ("query-stats", {"error": {"class": "GenericError", "desc": "guest is away"}}, "guest is away"),
        ("query-stats", {"return": "nonsense"}, "expected a list of objects"),
        ("query-stats", {"return": [{"provider": "kvm", "stats": []}]}, "expected a value of"),
    ],
)
def test_an_answer_that_is_of_no_use_is_a_gap(
    qemu: ScriptedQemu, command: str, answer: dict[str, Any], reason: str
) -> None:
    qemu.overrides[command] = answer
    with QmpSource([qemu.path]) as source:
        sample = source.read()
    assert len(sample.vms) == 0
    assert [reason in gap.reason for gap in sample.gaps] == [True]
    assert str(qemu.path) in sample.gaps[0].reason


CPU = {"cpu-index": 0, "qom-path": CPUS[0], "thread-id": 1, "target": "x86_64"}
HOSTILE: list[tuple[str, Any]] = [
    ("query-cpus-fast", [{"qom-path": "/m/0"}]),
    ("query-cpus-fast", [{**CPU, "thread-id": "seven"}]),
    ("query-cpus-fast", [{**CPU, "thread-id": None}]),
    ("query-cpus-fast", ["/m/0"]),
    ("query-cpus-fast", {"a": 1}),
    ("query-cpus-fast", [CPU, CPU]),
    ("qom-get", "no number"),
    ("qom-get", 2**70),
    ("qom-get", 0),
    ("query-name", []),
    ("query-name", {"name": 7}),
    ("query-stats-schemas", [{"provider": "kvm", "target": "vm", "stats": None}]),
    ("query-stats-schemas", [{"provider": "kvm", "target": [], "stats": []}]),
    ("query-stats", [{"provider": "kvm", "stats": [{"name": "pages_4k", "value": []}]}]),
    ("query-stats", [{"provider": "kvm", "stats": [{"name": "pages_4k", "value": [0] * 800_000}]}]),
]


@pytest.mark.parametrize(("command", "answer"), HOSTILE)
def test_a_hostile_answer_is_a_gap_of_its_socket_alone(
    qemu: ScriptedQemu, tmp_path: Path, command: str, answer: object
) -> None:
    other = ScriptedQemu(tmp_path / "hostile.sock")
    other.overrides[command] = {"return": answer}
    try:
        with QmpSource([other.path, qemu.path]) as source:
            sample = source.read()
    finally:
        other.close()
    assert sample.vms.label == ("web-1",)
    assert [str(other.path) in gap.reason for gap in sample.gaps] == [True]


@pytest.mark.parametrize("line", ["[" * 100_000, '{"return": ' + "[" * 50_000 + "]" * 50_000 + "}", "\xff", "{}", "[]"])
def test_what_breaks_the_client_is_a_gap_of_its_socket_alone(qemu: ScriptedQemu, tmp_path: Path, line: str) -> None:
    other = ScriptedQemu(tmp_path / "hostile.sock")
    other.overrides["query-name"] = {RAW: line}
    try:
        with QmpSource([other.path, qemu.path], timeout_s=2) as source:
            sample = source.read()
    finally:
        other.close()
    assert sample.vms.label == ("web-1",)
    assert [str(other.path) in gap.reason for gap in sample.gaps] == [True]


def test_a_socket_that_another_holds_is_a_gap_that_says_so(qemu: ScriptedQemu) -> None:
    with QmpSource([qemu.path]) as holder:
        assert len(holder.read().vms) == 1
        with QmpSource([qemu.path], timeout_s=0.2) as late:
            (gap,) = late.read().gaps
            assert "another one is connected" in gap.reason
        assert len(holder.read().vms) == 1


def test_closing_gives_the_socket_to_the_next(qemu: ScriptedQemu) -> None:
    for _ in range(2):
        with QmpSource([qemu.path]) as source:
            assert len(source.read().vms) == 1


def test_a_connection_that_ends_is_a_gap_of_its_vm_and_made_anew(qemu: ScriptedQemu) -> None:
    with QmpSource([qemu.path]) as source:
        vm = source.read().vms.vm_id(0)
        qemu.hang_up()
        lost = source.read()
        again = source.read()
    assert len(lost.vms) == 0
    assert [gap.vm for gap in lost.gaps] == [vm]
    assert again.vms.vm_id(0) == vm


@pytest.mark.parametrize(("prepare", "reason"), [("nothing", "no such socket"), ("dead", "nothing listens")])
def test_a_socket_without_a_qemu_is_a_gap_beside_the_others(
    qemu: ScriptedQemu, tmp_path: Path, prepare: str, reason: str
) -> None:
    other = tmp_path / "other.sock"
    if prepare == "dead":
        with socket.socket(socket.AF_UNIX) as unused:
            unused.bind(str(other))
    with QmpSource([other, qemu.path]) as source:
        sample = source.read()
    assert len(sample.vms) == 1
    assert [reason in gap.reason for gap in sample.gaps] == [True]


def test_threads_that_are_not_the_listeners_leave_process_and_threads_unknown(qemu: ScriptedQemu) -> None:
    cpus = [{"cpu-index": 0, "qom-path": CPUS[0], "thread-id": 1, "target": "aarch64"}]
    qemu.overrides["query-cpus-fast"] = {"return": cpus}
    qemu.paths_in_answers = [CPUS[0], CPUS[0]]
    with QmpSource([qemu.path]) as source:
        sample = source.read()
    assert sample.vms.pid.tolist() == [NOT_KNOWN]
    assert sample.vcpus.tid.tolist() == [NOT_KNOWN]
    assert sample.vcpus.id.tolist() == [0]


def test_failing_reads_leave_no_fd_behind(qemu: ScriptedQemu, tmp_path: Path) -> None:
    qemu.overrides["query-stats"] = {"return": None}
    with QmpSource([qemu.path, tmp_path / "none"]) as source:
        source.read()
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(20):
            source.read()
        # The monitor played here is in this process too, and may be about to close its end.
        assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1
