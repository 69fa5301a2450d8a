"""``diff``: two recordings, or two times of one, as text and as JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner, Result
from json_schemas import check_json
from loads import Load, machine, noisy_scenes, record

pytest.importorskip("pyarrow", reason="pyarrow is not installed: make setup")

from kvmscope.cli import main


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="kvmscope")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    place = tmp_path_factory.mktemp("recordings")
    chance = np.random.default_rng(1)
    before, after = (Load(vms=5, machine=machine(halt_poll_ns=value)) for value in ("200000", "100000"))
    a = noisy_scenes(121, chance, load=before)
    b = noisy_scenes(121, chance, load=after, factors={"exits": 1.1})
    return record(a, place / "a"), record(b, place / "b")


def test_settings_come_first_then_what_changed(recordings: tuple[str, str]) -> None:
    result = run("diff", *recordings)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split()[0] == "A"
    assert "host-7" in lines[0]
    setting = lines.index("  kvm.halt_poll_ns  200000 -> 100000")
    table = next(place for place, line in enumerate(lines) if line.startswith("METRIC"))
    assert setting < table
    assert lines[table + 1].startswith("exits/s ")


def test_json_is_as_its_schema_says(recordings: tuple[str, str]) -> None:
    result = run("diff", *recordings, "--json")
    check_json(("diff", "--json"), result.stdout)
    assert json.loads(result.stdout)["verdict"] == "changed"


def test_two_times_of_one_recording_are_compared(recordings: tuple[str, str]) -> None:
    times = ("--between-a", "22:13:20", "22:14:20", "--between-b", "-60s", "-1ms")
    result = run("diff", recordings[0], *times, "--json")
    view = json.loads(result.stdout)
    assert (view["verdict"] == "changed", view["a"]["intervals"]) == (False, 60)
    assert view["b"]["begin"] == "2023-11-14T22:14:20.000Z"


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("A",), 2, "both sides are the same"),
        (("A", "A"), 2, "both sides are the same"),
        (("A", "/nowhere"), 4, "no such directory"),
        (("A", "B", "--host-a", "nobody"), 2, "no scene of nobody"),
        (("A", "B", "--vm", "nobody"), 2, "there is no VM"),
        (("A", "B", "--between-a", "-1s", "-9s"), 2, "is after"),
        (("A", "B", "--between-b", "soon", "later"), 2, "is not a time such as"),
        (("A", "B", "--between-b", "2020-01-01", "2020-01-02"), 2, "no scene at this time"),
        (("A", "B", "--between-b", "-500ms", "-1ms"), 2, "no scene at this time"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    recordings: tuple[str, str], options: tuple[str, ...], code: int, message: str
) -> None:
    places = dict(zip("AB", recordings, strict=True))
    result = run("diff", *(places.get(word, word) for word in options))
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr


def test_hosts_of_two_recordings_go_by_name(recordings: tuple[str, str]) -> None:
    result = run("diff", *recordings, "--host-a", "host-7", "--host-b", "aaaa", "--no-pairs")
    assert "compared as two groups" in result.stdout
