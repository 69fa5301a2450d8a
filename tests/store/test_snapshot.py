"""Snapshots: what is written is read back, damage is a RecordingError, and what is anonymised gives nothing away."""

from __future__ import annotations

import contextlib
import io
import json
import random
import re
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from any_scene import assert_same, scenes
from crafted import AFTER, GAPS, MACHINE, VcpuSpec, VmSpec, make_sample
from hypothesis import given, settings
from hypothesis import strategies as st

from kvmscope.codec import plain
from kvmscope.errors import RecordingError
from kvmscope.host.apicv import Hardware
from kvmscope.host.config import config_of
from kvmscope.host.config.hyperv_nesting import hyperv_nesting_of
from kvmscope.host.process import VmmProcess
from kvmscope.linux.facts import Fact
from kvmscope.sample import Gap, Origin
from kvmscope.scene import Scene, VmIdentity
from kvmscope.store.episode_note import EpisodeNote
from kvmscope.store.snapshot import Snapshot, SnapshotAbout, SnapshotFile, encode_snapshot, is_snapshot
from kvmscope.store.snapshot_scenes import SceneRedaction
from kvmscope.tasks.snapshot import make_snapshot
from kvmscope.view.jsonout import to_object
from kvmscope.view.known_names import manager_of
from kvmscope.view.watch import HostView, Watch

ABOUT = SnapshotAbout("0.1", 1_700_000_000 * 10**9, False)
PROCESSES = Path(__file__).parents[1] / "data/host/processes"


def written(tmp_path: Path, snapshot: Snapshot) -> Path:
    path = tmp_path / "snapshot.zip"
    path.write_bytes(encode_snapshot(snapshot))
    return path


@given(st.lists(scenes(), max_size=3))
@settings(max_examples=25, deadline=None)
def test_scenes_are_read_back_as_they_were_written(tmp_path_factory: pytest.TempPathFactory, found: Any) -> None:
    path = written(tmp_path_factory.mktemp("s"), Snapshot(ABOUT, found, EpisodeNote(1, 2, focus_ns=3), {"a.txt": "b"}))
    snapshot = SnapshotFile(path)
    for moment, scene in zip(snapshot.moments(), found, strict=True):
        assert_same(snapshot.scene(moment), scene)
    assert (snapshot.about, snapshot.episode, snapshot.text("a.txt")) == (ABOUT, EpisodeNote(1, 2, focus_ns=3), "b")
    assert is_snapshot(str(path))


@pytest.fixture
def host_snapshot(tmp_path: Path, host_scenes: list[Scene]) -> Path:
    return written(tmp_path, Snapshot(ABOUT, host_scenes))


def test_each_truncation_and_mutation_is_read_or_is_damage_and_nothing_else(host_snapshot: Path) -> None:
    data = host_snapshot.read_bytes()
    dice = random.Random(1)
    damaged = [data[:length] for length in range(0, len(data), 23)]
    for _ in range(400):
        changed = bytearray(data)
        for _ in range(dice.choice((1, 1, 2, 8))):
            changed[dice.randrange(len(changed))] = dice.randrange(256)
        damaged.append(bytes(changed))
    for each in damaged:
        host_snapshot.write_bytes(each)
        with contextlib.suppress(RecordingError):
            SnapshotFile(host_snapshot).moments()


def archive(**members: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as made:
        for name, text in members.items():
            made.writestr(name.replace("__", "."), text)
    return content.getvalue()


ABOUT_NAME = "kvmscope-snapshot__json"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (archive(letter="dear"), "the archive is not a snapshot of kvmscope"),
        (archive(**{ABOUT_NAME: "{"}), "it is damaged"),
        (archive(**{ABOUT_NAME: '{"format": "kvmscope-snapshot", "version": 2}'}), "use a newer one"),
        (archive(**{ABOUT_NAME: '{"format": "kvmscope-snapshot", "version": 1}'}), "it is damaged"),
        (b"PK\x03\x04", "it is not a complete archive"),
    ],
)
def test_another_archive_is_refused_with_the_reason(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "other.zip").write_bytes(data)
    with pytest.raises(RecordingError, match=message):
        SnapshotFile(tmp_path / "other.zip")


def test_an_archive_that_says_it_is_huge_is_refused(host_snapshot: Path) -> None:
    data = bytearray(host_snapshot.read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = (2**32 - 2).to_bytes(4, "little")
    host_snapshot.write_bytes(bytes(data))
    with pytest.raises(RecordingError):
        SnapshotFile(host_snapshot)


# --- anonymised -------------------------------------------------------------------------------------------------------

SECRET = re.compile(rb"s3cr3t|5ec7e700|deadfee1|Quetzal", re.IGNORECASE)
SECRETS = st.sampled_from(
    [
        "s3cr3t",
        "prod-s3cr3t-01",
        "Quetzal",
        "quetzal.example.com",
        "5ec7e700-1234-4321-8888-0123456789ab",
        "5EC7E700-1234-4321-8888-0123456789AB",
        "/srv/s3cr3t/disk.qcow2",
        "/home/Quetzal/vm",
        "deadfee1",
        "web s3cr3t",
        "ein Quetzal,mit=Komma",
    ]
)
QEMU = st.builds(
    lambda name, uuid, disk, mac, words: (
        "/usr/local/Quetzal/bin/qemu-system-x86_64",
        *("-name", f"guest={name.replace(',', ',,')},debug-threads=on", "-uuid", uuid),
        *("-machine", "pc-q35-8.2,accel=kvm,kernel_irqchip=split,memory-encryption=s3cr3t0"),
        *("-object", '{"qom-type":"sev-guest","id":"s3cr3t0","cbitpos":47}', "-cpu", "EPYC-Milan,+svm,hv-synic=on"),
        *("-smp", "4,maxcpus=8,sockets=2,cores=2,threads=2", "-m", "4096", "-overcommit", "cpu-pm=on"),
        *("-global", "kvm-pit.lost_tick_policy=discard", "-drive", f"file={disk},if=none"),
        *("-device", f"virtio-net-pci,mac={mac},id=s3cr3t1", "-append", f"root=/dev/vda {name}"),
        *("-smbios", f"type=1,serial={uuid},manufacturer=Quetzal Inc", *words),
    ),
    SECRETS,
    SECRETS,
    SECRETS,
    st.sampled_from(["52:54:de:ad:fe:e1", "deadfee1"]),
    st.lists(SECRETS, max_size=3),
)
NOVA = "http://openstack.org/xmlns/libvirt/nova/1.1"
XML = st.builds(
    lambda name: (
        f"<domain type='kvm'><name>{name}</name><uuid>5ec7e700-1234-4321-8888-0123456789ab</uuid>"
        f"<title>{name}</title><vcpu>4</vcpu><os><type machine='pc-q35-8.2'>hvm</type></os>"
        f"<metadata><nova:instance xmlns:nova='{NOVA}'><nova:name>s3cr3t</nova:name>"
        "<nova:owner><nova:project>Quetzal</nova:project></nova:owner><nova:flavor name='s3cr3t'/></nova:instance>"
        "<i:libosinfo xmlns:i='http://libosinfo.org/xmlns/libvirt/domain/1.0'><i:os id='http://microsoft.com/win/s3cr3t'/>"
        "</i:libosinfo></metadata><features><apic/><ioapic driver='qemu'/><hyperv mode='custom'><synic state='on'/>"
        "<evmcs state='on'/><tlbflush state='on'><direct state='on'/></tlbflush></hyperv></features><clock>"
        "<timer name='pit' tickpolicy='discard'/></clock><cpu mode='host-passthrough'>"
        "<feature policy='require' name='svm'/></cpu>"
        "<devices><disk><source file='/srv/s3cr3t'/></disk></devices></domain>"
    ).encode(),
    SECRETS,
)


@st.composite
def secretive(draw: st.DrawFn) -> list[Scene]:
    """Two scenes of a host on which everything that is named has a secret in its name."""
    names = draw(st.lists(SECRETS, min_size=1, max_size=3, unique=True))
    who = [
        VmIdentity(
            name,
            VmmProcess(
                4000 + number,
                "qemu",
                name,
                draw(SECRETS),
                "libvirt",
                "qemu-system-x86_64",
                draw(QEMU),
                77,
                (("libvirt.domain", draw(SECRETS)),),
                draw(SECRETS),
            ),
            draw(st.none() | XML),
        )
        for number, name in enumerate(names)
    ]
    machine = replace(
        MACHINE,
        hostname=Fact(draw(SECRETS)),
        kernel_release=Fact("6.12.9-s3cr3t-amd64"),
        lockdown=Fact.unknown(f"/srv/{draw(SECRETS)} cannot be read"),
    )
    gap = Gap(f"its process {draw(SECRETS)} (pid 4000) at {draw(SECRETS)} does not answer", provider="kvm")
    found = []
    for second in range(3):
        vms = [
            VmSpec(name, [VcpuSpec(0, {"exits": 9_000 * second, "mmio_exits": 4_000 * second})], pid=4000 + number)
            for number, name in enumerate(names)
        ]
        sample = replace(make_sample(vms, at_s=second, gaps=[gap]), origin=Origin("deadfee1" * 4, "5ec7e700" * 4))
        found.append(Scene(sample, tuple(who), machine, {"bpf": f"no access to {draw(SECRETS)}"}))
    return found


def members_of(data: bytes) -> Iterator[bytes]:
    yield data
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        for name in opened.namelist():
            yield name.encode()
            yield opened.read(name)


@given(secretive())
@settings(max_examples=25, deadline=None)
def test_no_secret_is_in_an_anonymised_snapshot(found: list[Scene]) -> None:
    data = encode_snapshot(make_snapshot(found, None, None, anonymise=True))
    for part in members_of(data):
        assert SECRET.search(part) is None
    assert any(SECRET.search(part) for part in members_of(encode_snapshot(Snapshot(ABOUT, found))))


@given(secretive())
@settings(max_examples=12, deadline=None)
def test_no_pid_id_or_boot_is_in_an_anonymised_snapshot(found: list[Scene]) -> None:
    before, after = found[0], SceneRedaction(found).scene(found[0])
    assert not set(before.sample.vms.id.tolist()) & set(after.sample.vms.id.tolist())
    assert not set(before.sample.vms.pid.tolist()) & set(after.sample.vms.pid.tolist())
    assert after.origin is not None
    assert before.origin is not None
    assert (after.origin.host, after.origin.boot) != (before.origin.host, before.origin.boot)


@given(secretive())
@settings(max_examples=12, deadline=None)
def test_what_is_judged_stays_the_same_but_for_the_names(found: list[Scene]) -> None:
    redaction = SceneRedaction(found)
    before, after = last_view(found), last_view([redaction.scene(scene) for scene in found])
    for one, other in (
        (before.overview, after.overview),
        (before.apicv, after.apicv),
        (before.report(), after.report()),
    ):
        assert shape(to_object(one)) == shape(to_object(other))
    for identity in found[0].identities:
        again = redaction._identity(identity)
        for hardware in (None, *Hardware):
            assert settings_of(identity, hardware) == settings_of(again, hardware)


def last_view(found: list[Scene]) -> HostView:
    watch = Watch()
    *_, view = [view for scene in found if (view := watch.add(scene)) is not None]
    return view


def settings_of(identity: VmIdentity, hardware: Hardware | None) -> dict[str, object]:
    config = config_of(identity.process, identity.domain_xml, hardware=hardware)
    nesting = hyperv_nesting_of(identity.process, identity.domain_xml)
    settings = {**config.settings, **{each.name: getattr(nesting, each.name) for each in fields(nesting)}}
    return {name: (setting.value, setting.is_sure) for name, setting in settings.items()}


def shape(value: Any, key: str = "") -> Any:
    """A JSON value with every text that may bear a name replaced, so that two can be compared."""
    if isinstance(value, dict):
        return {name: shape(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [shape(item, key) for item in value]
    is_name = key in NAMED or (isinstance(value, str) and re.search(r"[/,]|x[0-9a-f]{10}|s3cr3t|quetzal", value, re.I))
    return "…" if is_name and value is not None else value


NAMED = frozenset(
    "bpf clue id vm name plain_name pid uuid kernel hostname reason why evidence known_as libvirt.domain libvirt.title "
    "openstack.name openstack.project openstack.flavor".split()
)


def test_the_same_value_has_the_same_pseudonym_in_one_snapshot_and_another_in_the_next(
    host_scenes: list[Scene],
) -> None:
    one, other = SceneRedaction(host_scenes), SceneRedaction(host_scenes)
    first, second = (one.scene(scene).identities[0].name for scene in host_scenes[:2])
    assert first == second
    assert other.scene(host_scenes[0]).identities[0].name != first


@pytest.mark.parametrize("place", sorted(PROCESSES.glob("*.toml")), ids=lambda place: place.stem)
def test_a_captured_command_line_is_judged_as_before(place: Path) -> None:
    captured = tomllib.loads(place.read_text(encoding="utf-8"))
    argv = tuple(captured["argv"])
    program = argv[0].rpartition("/")[2] if argv else captured["comm"]
    process = VmmProcess(1, captured["expect"]["vmm"], "a", None, None, program, argv, 1)
    scene = Scene(make_sample([VmSpec("a", [VcpuSpec(0)])]), (VmIdentity("a", process),), MACHINE, {})
    again = SceneRedaction([scene]).scene(scene).identities[0]
    for hardware in (None, *Hardware):
        assert settings_of(scene.identities[0], hardware) == settings_of(again, hardware)


@pytest.mark.parametrize(
    ("noted", "manager"),
    [
        (f"<n:instance xmlns:n='{NOVA}'><n:name>s3</n:name></n:instance>", "openstack"),
        ("<o:vm xmlns:o='http://opennebula.org/xmlns/libvirt/1.0'><o:name>s3</o:name></o:vm>", "opennebula"),
        ("<kubevirt xmlns='http://kubevirt.io'><uid>5ec7e700</uid></kubevirt>", "kubevirt"),
        ("", "libvirt"),
    ],
)
def test_who_had_libvirt_make_a_vm_stays_known(noted: str, manager: str) -> None:
    process = VmmProcess(1, "qemu", "a", None, "libvirt", "qemu-kvm", ("qemu-kvm",), 1, (("libvirt.domain", "a"),))
    xml = f"<domain type='kvm'><name>a</name><metadata>{noted}</metadata></domain>".encode()
    scene = Scene(make_sample([VmSpec("a", [VcpuSpec(0)])]), (VmIdentity("a", process, xml),), MACHINE, {})
    again = SceneRedaction([scene]).scene(scene).identities[0]
    assert manager_of(scene.identities[0]) == manager_of(again) == manager
    assert b"s3" not in (again.domain_xml or b"")


@pytest.mark.parametrize(
    ("os_id", "kept"),
    [
        ("http://microsoft.com/win/11", True),
        ("http://microsoft.com/win/2k22", True),
        ("http://microsoft.com/win/s3cr3t", False),
        ("http://s3cr3t.example/os/1", False),
    ],
)
def test_of_a_guests_system_it_stays_known_whether_it_is_windows(os_id: str, kept: bool) -> None:
    xml = (
        "<domain type='kvm'><metadata><i:libosinfo xmlns:i='http://libosinfo.org/xmlns/libvirt/domain/1.0'>"
        f"<i:os id='{os_id}'/></i:libosinfo></metadata></domain>"
    ).encode()
    scene = Scene(make_sample([VmSpec("a", [VcpuSpec(0)])]), (VmIdentity("a", None, xml),), MACHINE, {})
    again = SceneRedaction([scene]).scene(scene).identities[0]
    assert settings_of(again, None) == settings_of(scene.identities[0], None)
    assert (os_id.encode() in (again.domain_xml or b"")) is kept
    assert b"s3cr3t" not in (again.domain_xml or b"")


def test_gaps_that_have_no_secret_stay_readable() -> None:
    sample = make_sample(AFTER, gaps=(*GAPS, Gap("the kernel has no tracepoint contention_begin")))
    scene = Scene(sample, tuple(VmIdentity(label, None) for label in sample.vms.label), MACHINE, {})
    found = SceneRedaction([scene]).scene(scene)
    assert found.sample.gaps[0].reason == "its stats fd is not open"
    assert found.sample.gaps[1].reason == "2 processes may not be looked into"


def test_numbers_of_statistics_stay_as_they_are(host_scenes: list[Scene]) -> None:
    redaction = SceneRedaction(host_scenes)
    for before in host_scenes:
        after = redaction.scene(before)
        for one, other in zip(before.sample.blocks, after.sample.blocks, strict=True):
            assert np.array_equal(one.values, other.values)
        assert json.dumps(plain.dump(type(before.machine), before.machine)).count("kvm_intel") == 1
