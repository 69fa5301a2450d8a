"""How often episodes may begin."""

from __future__ import annotations

from kvmscope.capture.limits import HOUR_NS, EpisodePauses
from kvmscope.sample import VmId

MINUTE_NS = HOUR_NS // 60
DAY = 24 * 60
KEY = ("mmio-storm", VmId(1))


def episodes_in(minutes: int, comes_every: int) -> list[int]:
    """The minutes in which an episode begins, of a finding that comes again and again."""
    pauses, found = EpisodePauses(), []
    for minute in range(0, minutes, comes_every):
        if pauses.may_begin(KEY, minute * MINUTE_NS):
            pauses.note_episode(minute * MINUTE_NS)
            pauses.note_finding(KEY, minute * MINUTE_NS)
            found.append(minute)
    return found


def test_a_finding_that_comes_every_minute_begins_ever_fewer_episodes() -> None:
    assert episodes_in(DAY, 1) == [0, 10, 30, 70, 150, 310, 630, 1270]
    assert len(episodes_in(30 * DAY, 1)) < 50


def test_a_finding_that_comes_seldom_begins_an_episode_each_time() -> None:
    assert episodes_in(3 * DAY, 60) == list(range(0, 3 * DAY, 60))


def test_findings_of_many_vms_begin_a_dozen_episodes_an_hour() -> None:
    pauses, begun = EpisodePauses(), 0
    for number in range(3600):
        key, now_ns = ("mmio-storm", VmId(number)), number * 10**9
        if pauses.may_begin(key, now_ns):
            begun += 1
            pauses.note_episode(now_ns)
            pauses.note_finding(key, now_ns)
    assert begun == 12


def test_another_vm_or_rule_is_not_held_back() -> None:
    pauses = EpisodePauses()
    pauses.note_finding(KEY, 0)
    assert not pauses.may_begin(KEY, MINUTE_NS)
    assert pauses.may_begin((KEY[0], VmId(2)), MINUTE_NS)
    assert pauses.may_begin(("poll-waste", KEY[1]), MINUTE_NS)
