"""Group dirty while QEMU migrates a VM to another QEMU of this host: known while the memory is logged, and no longer.

The guest writes to the same pages over and over, and the link carries less than that, so QEMU sends them again in each
round until it is told to give up. QEMU says how many rounds there were.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kvmscope import collect
from kvmscope.lab.qemu import Qemu, rom_image
from kvmscope.scene import Scene
from kvmscope.schema import Scope
from kvmscope.view.watch import Watch

pytestmark = [pytest.mark.live, pytest.mark.needs("kvm", "bpf", "root", "qemu", "setpriv")]

WRITER = bytes.fromhex(
    "b80010"  # 0: mov ax, 0x1000
    "8ed8"  # 3: mov ds, ax
    "fe060000"  # inc byte [0]
    "050001"  # add ax, 0x100, a page
    "3d009f"  # cmp ax, 0x9f00
    "72f2"  # jb 3
    "ebed"  # jmp 0
)
PAGES = (0x9F00 - 0x1000) // 0x100
ROUNDS = 5
SLOW_BYTES_PER_S = 2 << 20

Eventually = Callable[[Callable[[], bool]], None]


class MigrationMonitor:
    """The QMP socket of a QEMU."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(30)
        self._socket.connect(str(path))
        self._stream = self._socket.makefile("rw")
        self._stream.readline()
        self("qmp_capabilities")

    def __call__(self, command: str, **arguments: Any) -> Any:
        self._stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._stream.flush()
        while "return" not in (answer := json.loads(self._stream.readline())):
            assert "error" not in answer, answer
        return answer["return"]

    def close(self) -> None:
        self._stream.close()
        self._socket.close()


@contextlib.contextmanager
def monitored(tmp_path: Path, name: str, *options: str) -> Iterator[tuple[Qemu, MigrationMonitor]]:
    rom = bytearray(rom_image(0))
    rom[: len(WRITER)] = WRITER
    path = tmp_path / "writer.rom"
    path.write_bytes(rom)
    with Qemu(name=name, options=["-bios", str(path), *options]) as qemu:
        monitor = MigrationMonitor(qemu.wait_for_qmp())
        with contextlib.closing(monitor):
            yield qemu, monitor


def stats_of(scene: Scene, pid: int) -> dict[str, int] | None:
    """What group dirty counted of a VMM's VM; None if that is unknown."""
    block = scene.sample.block("dirty", Scope.VM)
    assert block is not None
    places = [place for place, row in enumerate(block.rows) if scene.sample.vms.pid[row] == pid]
    return {name: int(block.column(name)[places[0]]) for name in block.schema.names} if places else None


def pages(scene: Scene, pid: int) -> int:
    """As they became dirty, or, where no function can be hooked, as QEMU fetched them."""
    stats = stats_of(scene, pid)
    assert stats is not None
    return stats["dirty_pages"] if "dirty_pages" in stats else stats["dirty_fetched_pages"]


def rounds(monitor: MigrationMonitor) -> int:
    said = monitor("query-migrate")
    return int(said.get("ram", {}).get("dirty-sync-count", 0))


def has_begun_another(monitor: MigrationMonitor, seen: int) -> bool:
    return rounds(monitor) > seen


def test_a_migration_of_qemu_is_counted_round_by_round_and_unknown_before_and_after(
    tmp_path: Path, eventually: Eventually
) -> None:
    link = f"unix:{tmp_path}/link"
    with (
        monitored(tmp_path, "leaving") as (source, on_source),
        monitored(tmp_path, "arriving", "-incoming", link) as (target, _),
        collect.open_host("bpf", ("dirty",)) as host,
    ):
        assert stats_of(host.look(), source.pid) is None
        on_source("migrate-set-parameters", **{"max-bandwidth": SLOW_BYTES_PER_S, "downtime-limit": 1})
        on_source("migrate", uri=link)
        eventually(lambda: rounds(on_source) >= 3)  # the first round is all of the memory
        began, scenes = rounds(on_source), [host.look()]
        while rounds(on_source) < began + ROUNDS:
            seen = rounds(on_source)
            eventually(partial(has_begun_another, on_source, seen))
            scenes.append(host.look())
        ended = rounds(on_source)
        counted = pages(scenes[-1], source.pid) - pages(scenes[0], source.pid)
        # A look falls somewhere in a round, and QEMU's own devices dirty a page now and then.
        assert PAGES * (ROUNDS - 1) <= counted <= (PAGES + 16) * (ended - began + 2)
        assert is_said_to_be_logged(scenes, source.pid)
        assert stats_of(scenes[-1], target.pid) is None
        # QEMU ends the log at once if the VM runs on; of one that has left, it leaves the log on.
        on_source("migrate_cancel")
        eventually(lambda: on_source("query-migrate")["status"] == "cancelled")
        eventually(lambda: stats_of(host.look(), source.pid) is None)
        after = host.look()
        reasons = {gap.reason for gap in after.sample.gaps if gap.provider == "dirty"}
        assert any("does not log the memory" in reason for reason in reasons)


def is_said_to_be_logged(scenes: Sequence[Scene], pid: int) -> bool:
    """Whether doctor says so, with the rate of dirty pages by what this kernel counts."""
    watch = Watch()
    *_, view = map(watch.add, scenes)
    assert view is not None
    vms = scenes[-1].sample.vms.pid
    [found] = [
        each for each in view.judgement.findings if each.rule.slug == "memory-logged" and int(vms[each.vm_row]) == pid
    ]
    rates = (found.evidence["dirty_bytes_per_s"], found.evidence["dirty_fetched_pages_per_s"])
    return any(rate is not None and rate > 0 for rate in rates)
