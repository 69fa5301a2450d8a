"""Classes that declare stats: what they become, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvmscope import publish
from kvmscope.codec import statsfile
from kvmscope.schema import Base, Descriptor, Kind, Scope, Unit


class DiskStats(publish.Stats, provider="disk", scope=Scope.VM):
    requests = publish.Counter("Requests that the device completed.")
    queued = publish.Instant("Requests that wait.")
    deepest = publish.Peak("Most requests that waited at once.")
    stalled = publish.Boolean("The device does not answer.")
    sizes = publish.LinearHistogram("Sizes of requests.", size=4, bucket_size=4096, unit=Unit.BYTES)
    waits = publish.LogHistogram("Time from request to answer.", unit=Unit.SECONDS, exponent=-9)
    buffer = publish.Instant("Memory.", name="buffer_kib", unit=Unit.BYTES, base=Base.POW2, exponent=10)


class QueueStats(publish.Stats, provider="disk", scope=Scope.VCPU):
    kicks = publish.Counter("Notifications from the guest.")


def test_a_class_becomes_descriptors_in_the_order_declared() -> None:
    assert DiskStats.stat_set.descriptors == (
        Descriptor("requests", Kind.CUMULATIVE, offset=0),
        Descriptor("queued", Kind.INSTANT, offset=8),
        Descriptor("deepest", Kind.PEAK, offset=16),
        Descriptor("stalled", Kind.INSTANT, Unit.BOOLEAN, offset=24),
        Descriptor("sizes", Kind.LINEAR_HISTOGRAM, Unit.BYTES, size=4, bucket_size=4096, offset=32),
        Descriptor("waits", Kind.LOG_HISTOGRAM, Unit.SECONDS, exponent=-9, size=32, offset=64),
        Descriptor("buffer_kib", Kind.INSTANT, Unit.BYTES, Base.POW2, exponent=10, offset=320),
    )
    assert DiskStats.requests.meaning == "Requests that the device completed."


def test_updates_by_name_land_in_the_stats_words() -> None:
    with publish.Vm("web-1") as vm:
        disk = DiskStats(vm)
        disk.requests.add(3)
        disk.queued.set(2)
        disk.deepest.raise_to(5)
        disk.stalled.set(True)
        disk.sizes.record(5000)
        disk.waits.record(0)
        disk.buffer.set(64)
        got = statsfile.StatsFile(
            statsfile.parse_description(DiskStats.stat_set.encoded), disk.publication.words.tobytes()
        )
        names = ("requests", "queued", "deepest", "stalled", "sizes", "buffer_kib")
        assert [got[name] for name in names] == [3, 2, 5, True, (0, 1, 0, 0), 64]
        assert got["waits"] == (1,) + 31 * (0,)


def test_instances_do_not_share_words() -> None:
    with publish.Vm("web-1") as vm:
        queues = [QueueStats(vm, vcpu=vcpu) for vcpu in range(3)]
        for count, queue in enumerate(queues):
            queue.kicks.add(count)
        assert [queue.kicks.raw for queue in queues] == [(0,), (1,), (2,)]


def test_a_stat_cannot_hide_what_the_class_itself_has() -> None:
    with pytest.raises(ValueError, match="close means something else here"):

        class Bad(publish.Stats, provider="disk", scope=Scope.VM):
            close = publish.Counter("x")  # type: ignore[assignment]


def test_a_broken_declaration_fails_before_anything_is_published() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(ValueError, match="seconds is not positive"):
        publish.Counter("x", unit=Unit.SECONDS, exponent=3)
    with pytest.raises(ValueError, match="at least two buckets"):
        publish.LogHistogram("x", size=1)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize(("kind", "vcpu"), [(DiskStats, 0), (QueueStats, None)])
def test_scope_and_vcpu_must_fit(kind: type[publish.Stats], vcpu: int | None) -> None:
    with publish.Vm("web-1") as vm, pytest.raises(ValueError, match="published with vCPU"):
        kind(vm, vcpu=vcpu)
