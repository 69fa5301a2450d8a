"""Recordings in an object store: a server that speaks S3, and a spool that has what was not uploaded yet.

The server is moto's, a program of others; it is in the extra ``test``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from any_scene import assert_same

from kvmscope.errors import RecordingError, UsageError
from kvmscope.scene import Scene
from kvmscope.store import layout
from kvmscope.store.recorder import Recorder
from kvmscope.store.recording import Recording
from kvmscope.store.ring import RingLimits, RingTier
from kvmscope.store.storage import Storage
from kvmscope.store.writer import RecordingWriter

moto_server = pytest.importorskip("moto.server", reason="moto is not installed: make setup")

SECOND = 10**9


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URI of an empty bucket, without a path; it ends with the options that reach the server."""
    import boto3

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1")
        client.create_bucket(Bucket="bucket")
        client.close()
        yield f"s3://bucket/PREFIX?endpoint_override={host}:{port}&scheme=http&region=us-east-1"
    finally:
        server.stop()


def at(scene: Scene, second: int) -> Scene:
    sample = scene.sample
    later_ns = second * SECOND
    moved = replace(sample, taken_ns=sample.taken_ns + later_ns, monotonic_ns=sample.monotonic_ns + later_ns)
    return replace(scene, sample=moved)


def test_what_is_recorded_to_a_bucket_is_read_from_it(tmp_path: Path, s3: str, host_scenes: list[Scene]) -> None:
    place, spool = s3.replace("PREFIX", "hosts/web-7"), tmp_path / "spool"
    writer = RecordingWriter(spool, upload_to=Storage(place), segment_s=10)
    for second in range(30):
        writer.append(at(host_scenes[0], second))
    uploaded = len(list(Recording(place).scenes()))
    assert 20 <= uploaded < 30
    writer.flush()
    assert len(list(Recording(str(spool)).scenes())) == 30 - uploaded, "the rest is in the spool"
    writer.close()
    found = list(Recording(place).scenes())
    assert len(found) == 30
    for second, scene in enumerate(found):
        assert_same(scene, at(host_scenes[0], second))
    recording = Recording(place)
    assert len([recording.scene(moment) for moment in recording.moments()]) == 30
    assert list((spool / "journal").iterdir()) == []


def test_the_next_recorder_goes_on_with_the_numbers(tmp_path: Path, s3: str, host_scenes: list[Scene]) -> None:
    place = s3.replace("PREFIX", "web-7")
    for turn, spool in enumerate(("one", "another")):
        writer = RecordingWriter(tmp_path / spool, upload_to=Storage(place))
        writer.append(at(host_scenes[0], turn))
        writer.close()
    assert len(list(Recording(place).scenes())) == 2


def test_a_ring_in_a_bucket_is_thinned_and_trimmed(tmp_path: Path, s3: str, host_scenes: list[Scene]) -> None:
    place = s3.replace("PREFIX", "ring")
    limits = RingLimits(keep_s=150, tiers=(RingTier(0, 40), RingTier(10, 150)))
    writer = RecordingWriter(tmp_path / "spool", upload_to=Storage(place), limits=limits, segment_s=20)
    for second in range(200):
        writer.append(at(host_scenes[0], second))
    writer.close()
    begin_ns = host_scenes[0].sample.taken_ns
    seconds = [(scene.sample.taken_ns - begin_ns) // SECOND for scene in Recording(place).scenes()]
    assert 25 <= seconds[0] <= 90
    assert len(seconds) < 120
    assert seconds[-40:] == list(range(160, 200))
    files = Storage(place).files()
    assert len(layout.current_segments(files)) * 4 == sum(path.endswith(".parquet") for path in files)


class SceneCounter:
    """A host that gives the same scene, a second later each time."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._looks = 0

    def look(self) -> Scene:
        self._looks += 1
        return at(self._scene, self._looks)

    def close(self) -> None:
        pass


def test_uploads_that_fail_are_reported_and_lose_nothing(tmp_path: Path, s3: str, host_scenes: list[Scene]) -> None:
    """The bucket is taken away while it is recorded to, and is there again for the next recorder."""
    import boto3

    place, spool = s3.replace("PREFIX", "web-7"), tmp_path / "spool"
    endpoint = "http://" + place.partition("endpoint_override=")[2].partition("&")[0]
    bucket = boto3.resource("s3", endpoint_url=endpoint, region_name="us-east-1").Bucket("bucket")
    recorder = Recorder(
        SceneCounter(host_scenes[0]), spool, interval_s=0.002, for_s=0.2, segment_s=20, upload_to=Storage(place)
    )
    bucket.objects.all().delete()
    bucket.delete()
    recorder.start()
    assert recorder.done.wait(60)
    recorder.stop()
    assert recorder.state.waiting
    assert recorder.state.trouble
    written = recorder.state.scenes
    assert len(list(Recording(str(spool)).scenes())) == written > 0
    bucket.create()
    RecordingWriter(spool, upload_to=Storage(place)).close()
    assert len(list(Recording(place).scenes())) == written
    assert list((spool / "journal").iterdir()) == []


def test_an_upload_is_tried_again_while_recording(
    tmp_path: Path, s3: str, host_scenes: list[Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3

    monkeypatch.setattr("kvmscope.store.recorder._RETRY_S", 0.05)
    place, spool = s3.replace("PREFIX", "web-7"), tmp_path / "spool"
    endpoint = "http://" + place.partition("endpoint_override=")[2].partition("&")[0]
    bucket = boto3.resource("s3", endpoint_url=endpoint, region_name="us-east-1").Bucket("bucket")
    recorder = Recorder(SceneCounter(host_scenes[0]), spool, interval_s=0.05, segment_s=20, upload_to=Storage(place))
    bucket.objects.all().delete()
    bucket.delete()
    recorder.start()
    wait_for(lambda: bool(recorder.state.trouble))
    bucket.create()
    Storage(place).write(layout.ABOUT, lambda sink: sink.write(layout.about_text().encode()))
    wait_for(lambda: not recorder.state.trouble)
    recorder.stop()
    RecordingWriter(spool, upload_to=Storage(place)).close()
    assert len(list(Recording(place).scenes())) == recorder.state.scenes


def wait_for(is_so: object) -> None:
    assert callable(is_so)
    turn, deadline = threading.Event(), 6000
    while not is_so():
        deadline -= 1
        assert deadline
        turn.wait(0.01)


def test_what_is_in_a_bucket_and_is_no_recording_is_left(tmp_path: Path, s3: str) -> None:
    place = s3.replace("PREFIX", "letters")
    Storage(place).write("letter.txt", lambda sink: sink.write(b"dear"))
    with pytest.raises(UsageError, match="not empty and not a recording"):
        RecordingWriter(tmp_path / "spool", upload_to=Storage(place))
    with pytest.raises(RecordingError, match="not a recording"):
        Recording(place)
    assert Storage(place).files() == {"letter.txt": 4}
    assert not (tmp_path / "spool").exists()


def test_a_file_uri_is_a_directory(tmp_path: Path, host_scenes: list[Scene]) -> None:
    writer = RecordingWriter(tmp_path / "a recording")
    writer.append(host_scenes[0])
    writer.close()
    assert len(list(Recording(f"file://{tmp_path}/a%20recording").scenes())) == 1


def test_messages_have_no_keys_of_an_object_store() -> None:
    with pytest.raises(UsageError) as caught:
        Storage("nowhere://AKIA:hunter2@bucket/x")
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in Storage("s3://AKIA:hunter2@bucket/x?region=us-east-1").name("y")


def test_sql_asks_what_is_in_a_bucket(tmp_path: Path, s3: str, host_scenes: list[Scene]) -> None:
    pytest.importorskip("duckdb", reason="DuckDB is not installed: make setup")
    from kvmscope.engines.recordings import open_recordings
    from kvmscope.engines.results import plain_result

    place = s3.replace("PREFIX", "hosts/web-7")
    writer = RecordingWriter(tmp_path / "spool", upload_to=Storage(place), segment_s=4)
    for second in range(12):
        writer.append(at(host_scenes[0], second))
    writer.close()
    with open_recordings([place]) as store:
        query = "SELECT count(DISTINCT time), count(DISTINCT host), sum(exits) FROM samples WHERE name = 'web-1'"
        [(times, hosts, exits)] = plain_result(store.ask(query)).rows()
        assert (times, hosts) == (12, 1)
        assert exits > 0
        assert [row[0] for row in plain_result(store.ask("SELECT scenes FROM hosts")).rows()] == [12]
