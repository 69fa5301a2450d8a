"""``kvmscope episodes``, and episodes as ``record`` and the reading commands have them."""

from __future__ import annotations

import json
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
        (("--count-during", "mmu_lock", "--no-episodes"), "switches off"),
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
