"""``kvmscope episodes``, and episodes as ``record`` and the reading commands have them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow", reason="pyarrow is not installed: make setup")

from kvmscope.store.episodes import list_episodes

STORM = {"exits": 20_000, "mmio_exits": 9_000, "fpu_reload": 9_000, "halt_exits": 10}
CALM = {"exits": 300, "mmio_exits": 3, "fpu_reload": 3, "halt_exits": 10}


@pytest.fixture
def recorded(kvmscope: Any, grown: Any, tmp_path: Path) -> Path:
    """A recording of 20 s in 2 s, with a storm from second 5 to 12."""
    place = tmp_path / "recording"
    samples = grown(*([CALM] * 5), *([STORM] * 8), *([CALM] * 7))
    result = kvmscope.run(
        "record", str(place), "--interval", "100ms", "--for", "2s", "--before", "3s", "--after", "4s", on=samples
    )
    assert result.exit_code == 0, result.output
    return place


def test_record_says_that_an_episode_began_and_episodes_lists_it(kvmscope: Any, recorded: Path) -> None:
    listed = kvmscope.run("episodes", str(recorded))
    assert listed.exit_code == 0
    head, *findings, how = listed.stdout.splitlines()
    assert "until its findings had ended" in head or "until the recorder was stopped" in head
    assert any("old-nic" in line and "[mmio-storm]" in line for line in findings)
    assert how == f"  kvmscope doctor --from {recorded}/episodes/0001"


def test_an_episode_as_json_has_what_began_and_the_evidence(kvmscope: Any, recorded: Path) -> None:
    answer = json.loads(kvmscope.run("episodes", str(recorded), "--json").stdout)
    [episode] = answer["episodes"]
    [finding] = [each for each in episode["findings"] if each["rule"] == "mmio-storm"]
    assert (finding["name"], finding["severity"]) == ("old-nic", "warning")
    assert finding["evidence"]["mmio_exits_per_s"] == 9000.0
    assert episode["place"] == f"{recorded}/episodes/0001"


def test_doctor_shows_an_episode_where_its_finding_stood_unless_another_time_is_named(
    kvmscope: Any, recorded: Path
) -> None:
    place = f"{recorded}/episodes/0001"
    assert "mmio-storm" in kvmscope.run("doctor", "--from", place, "--interval", "1s", "--for", "3s").stdout
    ended = kvmscope.run("doctor", "--from", place, "--interval", "1s", "--for", "3s", "--at", "-0s")
    assert ended.exit_code == 2  # 0 s is not a time before the end
    begun = kvmscope.run("status", "--from", place, "--at", "2023-11-14T22:13:25.123Z")
    assert "mmio-storm" not in begun.stdout


@pytest.fixture
def of_two(kvmscope: Any, crafted: Any, tmp_path: Path) -> str:
    """An episode in which one VM has a storm from second 5 to 10, and another one, which came later, from 10 to 15."""

    def vm(name: str, second: int, begin: int) -> Any:
        storms = min(max(second - begin, 0), 5)
        counts = {stat: storms * STORM[stat] + (second - storms) * CALM[stat] for stat in CALM}
        return crafted.vm(name, [crafted.vcpu(0, counts)])

    def sample(second: int) -> Any:
        later = [vm("late", second - 2, 8)] if second > 1 else []
        return crafted.make_sample([vm("early", second, 5), *later], at_s=second)

    place = tmp_path / "two"
    on = list(map(sample, range(26)))
    result = kvmscope.run("record", str(place), "--interval", "80ms", "--for", "2s", "--after", "4s", on=on)
    assert result.exit_code == 0, result.output
    assert [path.name for path in (place / "episodes").iterdir()] == ["0001"]
    return f"{place}/episodes/0001"


def test_doctor_looks_over_a_whole_episode_and_shows_in_full_what_came_and_went(kvmscope: Any, of_two: str) -> None:
    text = kvmscope.run("doctor", "--from", of_two).stdout
    stands, gone = text.index("WARNING late: "), text.index("WARNING early: ")
    assert stands < gone, "what ended is shown after what had not"
    assert "or longer" in text[stands:gone]
    assert re.search(r"for \d s until 2023-11-14T22:13:3\d\.\d+Z \(cleared\)", text[gone:])
    assert text[gone:].count("fix: ") >= 1
    lasting = kvmscope.run("doctor", "--from", of_two, "--for", "3s", "--interval", "1s").stdout
    assert "WARNING late: " in lasting
    assert "early" not in lasting, "a length was named"


def test_doctor_of_an_episode_can_be_of_a_vm_that_came_after_it_began(kvmscope: Any, of_two: str) -> None:
    assert "WARNING late: " in kvmscope.run("doctor", "late", "--from", of_two).stdout
    early = kvmscope.run("doctor", "early", "--from", of_two).stdout
    assert "nothing found in the last interval" in early
    assert "WARNING early: " in early


def test_other_commands_show_the_time_at_which_a_finding_of_an_episode_stood_last(kvmscope: Any, of_two: str) -> None:
    status = kvmscope.run("status", "--from", of_two).stdout
    assert "late [mmio-storm" in status
    assert "early [mmio-storm" not in status


def test_doctor_of_an_episode_as_json_has_each_interval_of_the_recorder(kvmscope: Any, of_two: str) -> None:
    answer = json.loads(kvmscope.run("doctor", "--from", of_two, "--json").stdout)
    assert [found["name"] for found in answer["findings"]] == ["late"]
    assert [found["name"] for found in answer["ended"]] == ["early"]
    assert (answer["interval_s"], answer["windows"]) == (1.0, answer["watched_s"])


def test_no_episodes_are_kept_where_they_are_switched_off(kvmscope: Any, grown: Any, tmp_path: Path) -> None:
    place = str(tmp_path / "recording")
    samples = grown(*([STORM] * 10))
    kvmscope.run("record", place, "--interval", "50ms", "--for", "500ms", "--no-episodes", on=samples)
    assert list_episodes(place).episodes == ()
    assert kvmscope.run("episodes", place).stdout == "no episodes\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--count-during", "mmulock"), "there is no group 'mmulock'"),
        (("--count-during", "mmu_lock", "--no-episodes"), "cannot be combined with --no-episodes"),
        (("--count-during", "mmu_lock", "--source", "statsfd"), "groups are counted by"),
        (("--budget", "0%"), "is not a part of a CPU such as 5%"),
        (("--budget", "much"), "is not a part of a CPU such as 5%"),
        (("--before", "soon"), "is not a time"),
        (("--most-episodes", "0"), "is not a whole number"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_is_written(
    kvmscope: Any, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    place = tmp_path / "recording"
    result = kvmscope.run("record", str(place), *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not place.exists()


def test_a_place_of_something_else_is_refused(kvmscope: Any, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    assert kvmscope.run("episodes", str(tmp_path)).exit_code == 4
    assert kvmscope.run("episodes", str(tmp_path / "none")).exit_code == 4
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]
