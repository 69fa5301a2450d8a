"""Classes that declare stats: what they become, and what they refuse."""

from __future__ import annotations

import types
from pathlib import Path

import pytest

from kvmscope import publish
from kvmscope.codec import statsfile
from kvmscope.schema import Base, Descriptor, Kind, Scope, Tier, Unit


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

        class ShadowingStats(publish.Stats, provider="disk", scope=Scope.VM):
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


class HandledExits(publish.Stats, provider="vmm", scope=Scope.VCPU):
    handled = publish.Counter("Exits that were handled.", tier=Tier.STABLE)
    stalled = publish.Bit("The vCPU waits for the disk.")
    times = publish.LogHistogram("Time spent on each.", unit=Unit.SECONDS, exponent=-9, group="exits")
    slow = publish.Bit("The last one took long.", group="exits", tier=Tier.VOLATILE)
    paused = publish.Bit("The user stopped it.")
    longest = publish.Peak("The longest.", name="longest_ns", unit=Unit.SECONDS, exponent=-9, group="extremes")


def names(stats: publish.Stats) -> list[str]:
    return [descriptor.name for descriptor in stats.publication.stat_set.descriptors]


def test_a_set_knows_meaning_tier_and_group_of_each_stat() -> None:
    about = HandledExits.stat_set.about
    assert about["handled"] == publish.About("Exits that were handled.", Tier.STABLE)
    assert about["slow"] == publish.About("The last one took long.", Tier.VOLATILE, "exits")
    assert (about["longest_ns"].tier, about["longest_ns"].group) == (None, "extremes")
    assert HandledExits.stat_set.groups == ("exits", "extremes")


def test_what_is_not_enabled_is_not_in_the_file_and_its_updates_do_nothing() -> None:
    with publish.Vm("web-1") as vm:
        stats = HandledExits(vm, vcpu=0)
        stats.handled.add(3)
        stats.paused.set(True)
        stats.times.record(500)
        stats.slow.set(True)
        stats.longest.raise_to(9)
        assert names(stats) == ["handled", "stalled", "paused"]
        assert stats.publication.words.tolist() == [3, 2]


def test_a_group_is_enabled_for_an_instance_or_for_a_class() -> None:
    class Chatty(HandledExits, provider="vmm", scope=Scope.VCPU, groups=("extremes",)):
        more = publish.Counter("More.")

    with publish.Vm("web-1") as vm:
        stats = HandledExits(vm, vcpu=0, groups=["exits"])
        stats.times.record(1)
        stats.slow.set(True)
        stats.longest.raise_to(9)
        assert names(stats) == ["handled", "stalled", "times", "slow", "paused"]
        assert stats.publication.words.tolist() == [0, 0, 0, 1, *[0] * 30, 1]
        chatty = Chatty(vm, vcpu=1)
        chatty.longest.raise_to(9)
        assert names(chatty) == ["handled", "stalled", "paused", "longest_ns", "more"]
        assert chatty.longest.raw == (9,)
        assert names(Chatty(vm, vcpu=2, groups=())) == ["handled", "stalled", "paused", "more"]


def test_a_group_that_is_not_there_is_refused_where_it_is_named() -> None:
    with pytest.raises(ValueError, match="vmm has no group exit here; there are exits, extremes"):

        class MisgroupedStats(HandledExits, provider="vmm", scope=Scope.VCPU, groups=("exit",)):
            pass

    with publish.Vm("web-1") as vm, pytest.raises(ValueError, match="no group faults"):
        HandledExits(vm, vcpu=0, groups=["faults"])


def test_stats_that_are_all_off_take_no_file() -> None:
    class Heavy(publish.Stats, provider="heavy", scope=Scope.VM):
        everything = publish.LogHistogram("Everything.", group="all")

    before = len(list(Path("/proc/self/fd").iterdir()))
    with publish.Vm("web-1") as vm:
        heavy = Heavy(vm)
        heavy.everything.record(5)
        assert len(list(Path("/proc/self/fd").iterdir())) == before
        assert heavy.publication.words.tolist() == []
        with pytest.raises(ValueError, match="no file"):
            heavy.publication.open_fd()


def test_64_bits_cost_8_bytes() -> None:
    bits = {f"bit_{number}": publish.Bit("A state.") for number in range(64)}
    kind: type[publish.Stats] = types.new_class(
        "States", (publish.Stats,), {"provider": "vmm", "scope": Scope.VM}, lambda body: body.update(bits)
    )
    assert kind.stat_set.data_size == 8
    with publish.Vm("web-1") as vm:
        stats = kind(vm)
        for number in range(0, 64, 2):
            getattr(stats, f"bit_{number}").set(True)
        assert stats.publication.words.tolist() == [0x5555_5555_5555_5555]


def test_a_class_over_its_budget_is_refused_with_what_costs_what() -> None:
    with pytest.raises(ValueError, match="272 bytes of stats for each vCPU, where 64 may be") as caught:

        class BudgetedStats(publish.Stats, provider="vmm", scope=Scope.VCPU, budget=64, groups=("exits",)):
            handled = publish.Counter("Exits that were handled.")
            a_bit = publish.Bit("A state.")
            b_bit = publish.Bit("A state.")
            times = publish.LogHistogram("Time spent on each.", group="exits")
            more = publish.LogHistogram("Not enabled.", group="more")

    assert [line.split(maxsplit=1) for line in str(caught.value).splitlines()[1:]] == [
        ["256", "vmm.times (group exits)"],
        ["8", "vmm.handled"],
        ["8", "vmm.a_bit and 1 other bits"],
    ]


def test_a_budget_counts_what_is_enabled() -> None:
    class Frugal(publish.Stats, provider="vmm", scope=Scope.VCPU, budget=64):
        handled = publish.Counter("Exits that were handled.")
        times = publish.LogHistogram("Time spent on each.", group="exits")

    with publish.Vm("web-1") as vm:
        Frugal(vm, vcpu=0)
        with pytest.raises(ValueError, match="264 bytes of stats for each vCPU"):
            Frugal(vm, vcpu=1, groups=["exits"])


def test_a_class_has_its_declarations_and_no_other_attributes() -> None:
    assert HandledExits.times.descriptor.size == 32
    with pytest.raises(AttributeError, match="HandledExits has no attribute 'tines'"):
        _ = HandledExits.tines  # type: ignore[attr-defined]
