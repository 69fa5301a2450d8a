"""Recordings as relations and views of DuckDB: each scene once, nothing damaged, and the numbers that numpy has."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from loads import HOST, NOON_NS, Load, record, simulated_scenes, without_stats

pytest.importorskip("duckdb", reason="DuckDB is not installed: make setup")

from kvmscope.analysis.evaluate import Evaluator
from kvmscope.analysis.window import Window
from kvmscope.catalog.findings import load_findings
from kvmscope.catalog.metrics import formulas, load_metrics
from kvmscope.cli import main
from kvmscope.engines.engine import ColumnKind
from kvmscope.engines.recordings import RecordingStore, open_recordings
from kvmscope.engines.results import plain_result
from kvmscope.errors import QueryError, RecordingError
from kvmscope.formula.tree import HOST as HOST_LEVEL
from kvmscope.scene import Scene
from kvmscope.scene.encoding import encode
from kvmscope.schema import Kind, Scope
from kvmscope.store import layout
from kvmscope.store.layout import RecordingTable, SegmentPlace
from kvmscope.store.segment import read_tables, write_segment
from kvmscope.store.storage import Storage
from kvmscope.store.thinning import SegmentThinner
from kvmscope.store.writer import RecordingWriter


def ask(store: RecordingStore, sql: str) -> list[tuple[Any, ...]]:
    return list(plain_result(store.ask(sql)).rows())


def asked(places: Sequence[object], sql: str) -> list[tuple[Any, ...]]:
    with open_recordings([str(place) for place in places]) as store:
        return ask(store, sql)


def times_of(places: Sequence[object]) -> list[int]:
    """When the scenes were taken, in seconds, as often as the engine has each."""
    return [(ns - NOON_NS) // 10**9 for (ns,) in asked(places, "SELECT time FROM raw.scenes ORDER BY time")]


def segment_file(recording: Path, table: str = "vcpus", number: int = 1) -> Path:
    [found] = recording.glob(f"{table}/*/*/{number:08}.parquet")
    return found


def two_segments(place: Path) -> Path:
    writer = RecordingWriter(place, segment_s=5)
    for scene in simulated_scenes(10):
        writer.append(scene)
    writer.close()
    return place


# --- each scene once --------------------------------------------------------------------------------------------------


def test_every_number_is_the_one_that_was_recorded(tmp_path: Path) -> None:
    scenes = simulated_scenes(4)
    found = asked([record(scenes, tmp_path / "r")], "SELECT time, vm, vcpu, exits FROM samples WHERE vcpu IS NOT NULL")
    expected: Counter[tuple[int, str, int, int]] = Counter()
    for scene in scenes:
        block = scene.sample.block("kvm", Scope.VCPU)
        assert block is not None
        ids = scene.sample.vms.id[scene.sample.vcpus.vm]
        for vm, vcpu, exits in zip(ids, scene.sample.vcpus.id, block.column("exits"), strict=True):
            expected[scene.sample.taken_ns, f"{int(vm):016x}", int(vcpu), int(exits)] += 1
    assert Counter(found) == expected


def test_scenes_of_a_journal_that_is_being_written_are_there_once(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "r", segment_s=5)
    for scene in simulated_scenes(8):
        writer.append(scene)
    assert times_of([tmp_path / "r"]) == list(range(8))
    assert list((tmp_path / "r/journal").iterdir()), "the last scenes are in no segment"
    [(rows, seconds)] = asked(
        [tmp_path / "r"], "SELECT count(*), sum(seconds) FROM deltas WHERE name = 'vm-0' AND vcpu = 0"
    )
    writer.close()
    assert (rows, seconds) == (7, 7.0), "epochs go on from the segment to the journal"
    assert asked([tmp_path / "r"], "SELECT count(*) FROM deltas WHERE name = 'vm-0' AND vcpu = 0") == [(7,)]


def test_a_journal_whose_segment_is_there_is_not_read_again(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "r")
    for scene in simulated_scenes(3):
        writer.append(scene)
    writer.flush()
    journal = tmp_path / "r" / layout.journal_path(1)
    shutil.copy(journal, tmp_path / "kept")
    writer.close()
    shutil.copy(tmp_path / "kept", journal)
    assert times_of([tmp_path / "r"]) == [0, 1, 2]


def test_a_thinned_segment_replaces_those_that_it_was_made_of(tmp_path: Path) -> None:
    place = two_segments(tmp_path / "r")
    storage = Storage(str(place))
    places = layout.current_segments(storage.files())
    thinner = SegmentThinner(10)
    for its in places:
        thinner.add(read_tables(storage, its), "segment", is_last=its == places[-1])
    write_segment(storage, SegmentPlace.merged(places, 10), thinner.take())
    assert len(times_of([place])) < 10
    assert len(times_of([place])) == len(set(times_of([place])))


def test_a_segment_that_is_half_written_is_not_there(tmp_path: Path) -> None:
    place = two_segments(tmp_path / "r")
    segment_file(place, "scenes", 2).unlink()
    assert times_of([place]) == list(range(5))
    assert asked([place], "SELECT count(DISTINCT time) FROM raw.vcpus") == [(5,)]


def test_recordings_of_several_hosts_are_asked_together_and_each_once(tmp_path: Path) -> None:
    one = record(simulated_scenes(3), tmp_path / "all" / "one")
    two = record(simulated_scenes(3, load=Load(host="c" * 32)), tmp_path / "all" / "two")
    query = "SELECT host, count(*) FROM raw.scenes GROUP BY host ORDER BY host"
    expected = [(HOST, 3), ("c" * 32, 3)]
    assert asked([one, two], query) == expected
    assert asked([tmp_path / "all"], query) == expected
    assert asked([tmp_path / "all", one, tmp_path / "all/two/../one"], query) == expected


def test_hosts_in_one_directory_are_kept_apart(tmp_path: Path) -> None:
    place = record(simulated_scenes(3), tmp_path / "r")
    other = record(simulated_scenes(3, load=Load(host="0123")), tmp_path / "other")
    shutil.copytree(other, place, dirs_exist_ok=True)
    found = asked([place], "SELECT host, vms, scenes FROM hosts ORDER BY host")
    assert found == [("0123", 4, 3), (HOST, 4, 3)], "a host of digits alone is a text"


def test_a_file_with_a_scene_is_a_recording_of_one(tmp_path: Path) -> None:
    file = tmp_path / "scene"
    file.write_bytes(encode(simulated_scenes(1)[0]))
    assert times_of([file]) == [0]


def test_an_empty_recording_has_all_views_and_no_rows(tmp_path: Path) -> None:
    RecordingWriter(tmp_path / "r").close()
    for view in ("hosts", "vms", "vcpus", "samples", "deltas", "apicv_spans", "episodes", "raw.documents"):
        assert asked([tmp_path / "r"], f"SELECT count(*) FROM {view}") == [(0,)]


# --- damage -----------------------------------------------------------------------------------------------------------


def test_a_damaged_file_is_left_out_and_reported(tmp_path: Path) -> None:
    place = two_segments(tmp_path / "r")
    file = segment_file(place, "vcpus", 2)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with open_recordings([str(place)]) as store:
        assert [error.path for error in store.damage] == [str(file)]
        assert ask(store, "SELECT count(*) FROM raw.scenes") == [(5,)]


def test_a_recording_of_which_nothing_can_be_read_is_an_error(tmp_path: Path) -> None:
    place = record(simulated_scenes(2), tmp_path / "r")
    segment_file(Path(place)).write_bytes(b"")
    with pytest.raises(RecordingError, match="cannot be read"):
        open_recordings([place])


@pytest.mark.parametrize("about", [b"", b"{}", b"\xff", b'{"format": "kvmscope-recording", "version": 99}'])
def test_a_recording_that_cannot_be_opened_hides_no_other_of_its_directory(tmp_path: Path, about: bytes) -> None:
    places = [Path(record(simulated_scenes(3), tmp_path / "all" / name)) for name in ("bad", "good")]
    (places[0] / layout.ABOUT).write_bytes(about)
    with open_recordings([str(tmp_path / "all")]) as store:
        assert [str(places[0]) in str(error.path) for error in store.damage] == [True]
        assert ask(store, "SELECT count(*) FROM raw.scenes") == [(3,)]
    with pytest.raises(RecordingError, match="bad"):
        open_recordings([str(place) for place in places])
    shutil.rmtree(places[1])
    with pytest.raises(RecordingError, match="bad"):
        open_recordings([str(tmp_path / "all")])


def test_a_table_that_is_missing_is_damage(tmp_path: Path) -> None:
    place = two_segments(tmp_path / "r")
    segment_file(place, "vms", 1).unlink()
    with open_recordings([str(place)]) as store:
        assert "missing" in str(store.damage[0])
        assert ask(store, "SELECT count(*) FROM raw.scenes") == [(5,)]


def test_a_link_that_leads_out_of_the_recording_is_not_followed(tmp_path: Path) -> None:
    place = two_segments(tmp_path / "r")
    secret = two_segments(tmp_path / "secret")
    file = segment_file(place, "vcpus", 2)
    file.unlink()
    file.symlink_to(segment_file(secret, "vcpus", 2))
    with open_recordings([str(place)]) as store:
        assert "link that leads outside" in str(store.damage[0])
        assert ask(store, "SELECT count(*) FROM raw.scenes") == [(5,)]


def test_a_recording_behind_a_link_is_read(tmp_path: Path) -> None:
    place = two_segments(tmp_path / "r")
    (tmp_path / "link").symlink_to(place)
    assert len(times_of([tmp_path / "link"])) == 10


@pytest.mark.parametrize("name", ["nothing", "file"])
def test_what_is_not_a_recording_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(RecordingError):
        open_recordings([str(tmp_path / name)])


# --- the vocabulary ---------------------------------------------------------------------------------------------------


def movements(scenes: Sequence[Scene], scope: Scope, stat: str) -> list[float]:
    """The increases of one word of a stat in every window, by numpy."""
    found: list[float] = []
    for previous, current in pairwise(scenes):
        moved = Window(previous.sample, current.sample).movement("kvm", scope, stat)
        assert moved is not None
        words = moved.words if moved.words.ndim == 1 else moved.words[:, 17]
        found += [
            float(word) for word, known in zip(words, np.broadcast_to(moved.known, len(words)), strict=True) if known
        ]
    return sorted(found)


@pytest.mark.parametrize(
    ("scope", "stat", "column"),
    [
        (Scope.VCPU, "exits", "exits"),
        (Scope.VCPU, "halt_wait_ns", "halt_wait_ns"),
        (Scope.VCPU, "halt_wait_hist", '"halt_wait_hist.17"'),
        (Scope.VM, "remote_tlb_flush", "remote_tlb_flush"),
    ],
)
def test_deltas_are_the_movements_of_windows(tmp_path: Path, scope: Scope, stat: str, column: str) -> None:
    scenes = simulated_scenes(6)
    found = asked([record(scenes, tmp_path / "r")], f"SELECT {column} FROM deltas WHERE {column} IS NOT NULL")
    assert sorted(float(value) for (value,) in found) == movements(scenes, scope, stat)
    assert found


def test_deltas_do_not_cross_epochs(tmp_path: Path) -> None:
    """A count that fell is a new epoch: the first scene of it has no row."""
    scenes = simulated_scenes(3, begin_s=50) + simulated_scenes(3, begin_s=0)
    moved = [
        Load().scene(100 + number, {scope: scene.sample.block("kvm", scope).values for scope in Scope})  # type: ignore[union-attr]
        for number, scene in enumerate(scenes)
    ]
    found = asked(
        [record(moved, tmp_path / "r")], "SELECT DISTINCT time FROM deltas WHERE exits IS NOT NULL ORDER BY 1"
    )
    assert [(ns - NOON_NS) // 10**9 for (ns,) in found] == [101, 102, 104, 105]


def test_only_counts_have_increases(tmp_path: Path) -> None:
    with open_recordings([record(simulated_scenes(2), tmp_path / "r")]) as store:
        deltas = set(plain_result(store.ask("SELECT * FROM deltas LIMIT 1")).names)
        samples = set(plain_result(store.ask("SELECT * FROM samples LIMIT 1")).names)
    block = simulated_scenes(1)[0].sample.block("kvm", Scope.VCPU)
    assert block is not None
    gauges = {stat.name for stat in block.schema.descriptors if stat.kind in (Kind.INSTANT, Kind.PEAK)}
    assert gauges
    assert not gauges & deltas
    assert gauges <= samples


def test_a_boolean_is_one(tmp_path: Path) -> None:
    with open_recordings([record(simulated_scenes(2), tmp_path / "r")]) as store:
        [column] = plain_result(store.ask("SELECT blocking FROM samples WHERE vcpu IS NOT NULL")).columns
    assert column.kind is ColumnKind.BOOLEAN
    assert set(column.values) <= {True, False}


def test_a_statistic_that_no_file_has_is_unknown(tmp_path: Path) -> None:
    scenes = [without_stats(scene, "halt_wait_ns") for scene in simulated_scenes(3)]
    query = 'SELECT DISTINCT halt_wait_ns, exit_userspace, "apicv.apicv_active" FROM samples'
    assert asked([record(scenes, tmp_path / "r")], query) == [(None, None, None)]
    assert asked([tmp_path / "r"], "SELECT DISTINCT state, reasons FROM apicv_spans") == [("unknown", "")]


def test_kernels_with_other_statistics_are_asked_together(tmp_path: Path) -> None:
    old = [without_stats(scene, "halt_wait_ns") for scene in simulated_scenes(2)]
    new = simulated_scenes(2, load=Load(host="c" * 32))
    places = [record(old, tmp_path / "old"), record(new, tmp_path / "new")]
    query = "SELECT host, count(halt_wait_ns) FROM samples GROUP BY host ORDER BY host"
    assert asked(places, query) == [(HOST, 0), ("c" * 32, 16)]


def test_a_host_is_described_by_its_documents(tmp_path: Path) -> None:
    place = record(simulated_scenes(3), tmp_path / "r")
    query = "SELECT name, kernel, kvm_module, cpu, vms, vcpus, scenes, boots FROM hosts"
    assert asked([place], query) == [("host-7", "6.12.9", "kvm_intel", "Some CPU", 4, 8, 3, 1)]


def test_integers_beyond_64_bits_stay_integers(tmp_path: Path) -> None:
    place = record(simulated_scenes(2), tmp_path / "r")
    [(total,)] = asked([place], "SELECT sum(18446744073709551615::UBIGINT) FROM range(3)")
    assert total == 3 * 18446744073709551615


def test_what_is_not_finite_is_unknown(tmp_path: Path) -> None:
    place = record(simulated_scenes(2), tmp_path / "r")
    assert asked([place], "SELECT 1.0::DOUBLE / 0, 0.0::DOUBLE / 0, [1.0::DOUBLE / 0]") == [(None, None, [None])]


def test_columns_of_one_name_are_told_apart(tmp_path: Path) -> None:
    with open_recordings([record(simulated_scenes(2), tmp_path / "r")]) as store:
        assert plain_result(store.ask("SELECT 1 AS a, 2 AS a, 3 AS b")).names == ("a", "a_2", "b")


def test_memory_that_does_not_suffice_says_what_helps(tmp_path: Path) -> None:
    from kvmscope.errors import Unavailable

    place = record(simulated_scenes(2), tmp_path / "r")
    with open_recordings([place], memory_bytes=20 << 20) as store, pytest.raises(Unavailable) as caught:
        ask(store, "SELECT len(list(a)) FROM range(9000000) t(a)")
    assert "--memory" in caught.value.remedy


def test_an_error_in_a_query_has_its_place(tmp_path: Path) -> None:
    with open_recordings([record(simulated_scenes(2), tmp_path / "r")]) as store:
        with pytest.raises(QueryError) as caught:
            ask(store, "SELECT name,\n  'é', exit\nFROM deltas")
        assert (caught.value.line, caught.value.column) == (2, 8)
        assert caught.value.excerpt.splitlines()[1].index("^") == 4 + 7
        with pytest.raises(QueryError) as caught:
            ask(store, "SELECT name FROM deltas WHERE")
        assert caught.value.line == 1
        assert ask(store, "SELECT 1") == [(1,)], "the store goes on"


def test_a_document_table_of_a_thinned_segment_has_every_key(tmp_path: Path) -> None:
    """The relation of documents is that of the files: a key of a scene is always found."""
    place = two_segments(tmp_path / "r")
    query = f"""SELECT count(*) FROM raw.{RecordingTable.SCENES.value} s
        LEFT JOIN raw.documents d ON d.host = s.host AND d.key = s.machine WHERE d.key IS NULL"""
    assert asked([place], query) == [(0,)]


# --- what the catalogue says of it ------------------------------------------------------------------------------------


def test_metrics_are_those_of_the_evaluator(tmp_path: Path) -> None:
    scenes = simulated_scenes(3)
    place = record(scenes, tmp_path / "r")
    metrics = formulas(load_metrics())
    evaluator = Evaluator(Window(scenes[1].sample, scenes[2].sample), metrics)
    for level, at in (("vcpu", Scope.VCPU), ("vm", Scope.VM), ("host", HOST_LEVEL)):
        order = "vm, vcpu"  # ids of these VMs grow with their rows
        last = f"time = (SELECT max(time) FROM samples) AND level = '{level}'"
        found = asked([place], f"SELECT exits_per_s, halt_poll_cpus FROM metrics WHERE {last} ORDER BY {order}")
        for column, name in enumerate(("exits_per_s", "halt_poll_cpus")):
            expected = evaluator.of(metrics[name], at).tolist()
            assert [row[column] for row in found] == pytest.approx(expected), (level, name)


def test_findings_are_those_of_the_doctor(tmp_path: Path) -> None:
    """By the rules' own code, window after window; the simulated host has troubles."""
    place = record(simulated_scenes(12, load=Load(vms=6)), tmp_path / "r")
    done = CliRunner().invoke(main, ("doctor", "--from", place, "--between", "22:13:20", "22:13:31", "--json"))
    found = {(finding["rule"], finding["name"]) for finding in json.loads(done.stdout)["findings"]}
    expressible = {rule.slug for rule in load_findings() if rule.scope is Scope.VM}
    rows = asked([place], "SELECT rule, name, severity, stands FROM findings")
    assert {(rule, name) for rule, name, _, stands in rows if stands} == {
        (rule, name) for rule, name in found if rule in expressible
    }
    assert rows
    severities = {rule.slug: rule.severity.value for rule in load_findings()}
    assert all(severity == severities[rule] for rule, _, severity, _ in rows)


def test_the_engine_writes_nothing_to_standard_output_while_it_works(tmp_path: Path) -> None:
    with open_recordings([str(two_segments(tmp_path / "r"))]) as store:
        assert list(store.query("SELECT current_setting('enable_progress_bar')").rows()) == [(False,)]


STACK_OF_A_THREAD = """
import ctypes, threading
from kvmscope.engines.duckdb_store import DuckDbConnection

connection, libc = DuckDbConnection(), ctypes.CDLL(None)
attributes, size = ctypes.create_string_buffer(256), ctypes.c_size_t()

def look():
    libc.pthread_getattr_np(ctypes.c_void_p(threading.get_ident()), attributes)
    libc.pthread_attr_getstacksize(attributes, ctypes.byref(size))

thread = threading.Thread(target=look)
thread.start()
thread.join()
connection.close()
print(size.value)
"""


def test_the_engine_has_stacks_that_are_large_enough_whatever_the_limit_is() -> None:
    command = ["bash", "-c", 'ulimit -s 256 && exec "$0" -c "$1"', sys.executable, STACK_OF_A_THREAD]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert int(found) >= 8 << 20
