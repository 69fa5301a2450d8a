"""What the screen shows is what ``status --json`` says of the same interval, over scenes that were bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
from crafted import AFTER, BEFORE, GAPS, MACHINE, VmSpec, identities, make_sample

from kvmscope.catalog.metrics import MetricUnit, load_metrics
from kvmscope.host.text import printable
from kvmscope.scene import Scene, decode, encode
from kvmscope.tui.pages.subject import SubjectPage
from kvmscope.tui.pages.vms import VmsPage
from kvmscope.units import (
    format_bytes,
    format_count,
    format_cpus,
    format_estimate,
    format_seconds,
    format_share,
    format_vcpus,
)
from kvmscope.view.jsonout import to_object

from .conftest import HandScreen
from .scenario import guests

FORMATS: Mapping[MetricUnit, Callable[[float | None], str]] = {
    MetricUnit.CPUS: format_cpus,
    MetricUnit.VCPUS: format_vcpus,
    MetricUnit.SHARE: format_share,
    MetricUnit.SECONDS: format_seconds,
    MetricUnit.BYTES: format_bytes,
}
METRICS = {metric.name: metric for metric in load_metrics()}


def expected(name: str, value: float | None, *, is_partial: bool) -> str:
    metric = METRICS[name]
    text = FORMATS.get(metric.unit, format_count)(value)
    if value is None or not is_partial:
        return text
    return f"{'≥' if metric.unit.adds_up else '~'}{text}"


def scenes() -> list[Scene]:
    busy = [list(guests(second)) for second in range(4)]
    return [decode(encode(scene_of(vms, second))) for second, vms in enumerate(busy)]


def crafted_scenes() -> list[Scene]:
    samples = (make_sample(BEFORE), make_sample(BEFORE, at_s=1), make_sample(AFTER, at_s=2, gaps=GAPS))
    return [
        decode(encode(Scene(sample, identities(vms), MACHINE, {"bpf": "no BPF here"})))
        for sample, vms in zip(samples, (BEFORE, BEFORE, AFTER), strict=True)
    ]


def scene_of(vms: Sequence[VmSpec], second: int) -> Scene:
    return Scene(make_sample(vms, at_s=second), identities(vms), MACHINE, {})


@pytest.mark.parametrize("make", [scenes, crafted_scenes])
def test_every_value_of_the_table_is_that_of_status(
    make: Callable[[], list[Scene]], make_screen: Callable[..., HandScreen]
) -> None:
    screen = make_screen(size=(900, 60))
    settings = screen.desk.settings
    screen.board.settings = replace(settings, columns=(*settings.columns, *METRICS))
    screen.take_scenes(make())
    assert screen.board.shown is not None
    status: Any = to_object(screen.board.shown.overview)
    screen.draw()
    page = screen.desk.page
    assert isinstance(page, VmsPage)
    vms = {vm["id"]: vm for vm in status["vms"]}
    compared = 0
    for place, vm_id in enumerate(page._visible):
        vm = vms.get(str(vm_id))
        if vm is None:
            assert "ENDED" in "".join(span.text for span in page.row(place, 900).spans)
            continue
        cells = cells_of_spans(page, place)
        assert printable(vm["name"]).startswith(cells["name"].rstrip("…"))
        assert cells["vcpus"] == str(len(vm["vcpus"]))
        assert cells["pid"] == ("–" if vm["pid"] is None else str(vm["pid"]))
        for name, value in vm["metrics"].items():
            if name in cells:
                assert cells[name] == expected(name, value, is_partial=name in vm["partial"]), (vm["name"], name)
                compared += 1
        costs = [found["cost_cpus"] for found in status["findings"] if found["vm"] == vm["id"]]
        known = [cost for cost in costs if cost is not None]
        if known:
            assert cells["cost"] == f"{format_estimate(sum(known))} CPU"
    assert compared > 70


def cells_of_spans(page: VmsPage, place: int) -> dict[str, str]:
    spans = page.row(place, 900).spans
    return {column.key: span.text.strip() for column, span in zip(page._columns, spans, strict=True)}


def test_the_totals_are_those_of_status(make_screen: Callable[..., HandScreen]) -> None:
    screen = make_screen(size=(300, 60))
    screen.take_scenes(crafted_scenes())
    assert screen.board.shown is not None
    status: Any = to_object(screen.board.shown.overview)
    total, line = status["total"], screen.rows()[1]
    for name in ("exits_per_s", "vmm_returns_per_s", "halts_per_s", "halt_poll_cpus", "page_faults_per_s"):
        text = expected(name, total["metrics"][name], is_partial=name in total["partial"])
        assert f"{METRICS[name].title} {text}" in line
    assert f"{total['vms']} VMs, {total['vcpus']} vCPUs" in screen.rows()[0]


def test_the_page_of_a_vm_has_the_values_of_its_vcpus(make_screen: Callable[..., HandScreen]) -> None:
    screen = make_screen(size=(300, 60))
    screen.take_scenes(scenes())
    screen.draw()
    screen.keys("/", *"old-nic", "enter", "down", "enter")
    assert screen.board.shown is not None
    status: Any = to_object(screen.board.shown.overview)
    (vm,) = [vm for vm in status["vms"] if vm["name"] == "old-nic"]
    rows = screen.rows()
    for vcpu in vm["vcpus"]:
        (row,) = [row for row in rows if row.split()[:1] == [str(vcpu["id"])]]
        for name in ("exits_per_s", "vmm_return_share", "io_exits_per_s"):
            assert expected(name, vcpu["metrics"][name], is_partial=False) in row


@pytest.mark.parametrize("name", ["web-1", "half-known", "old-nic"])
def test_the_statistics_of_a_vm_have_the_metrics_of_status(name: str, make_screen: Callable[..., HandScreen]) -> None:
    screen = make_screen(size=(120, 200))
    screen.take_scenes(scenes())
    screen.draw()
    screen.keys("/", *name, "enter", "down", "enter", "enter")
    assert screen.board.shown is not None
    status: Any = to_object(screen.board.shown.overview)
    (vm,) = [vm for vm in status["vms"] if vm["name"] == name]
    page, shown = screen.desk.page, dict[str, str]()
    assert isinstance(page, SubjectPage)
    for place in range(page.count):
        title, now, *_ = page.row(place, 120).spans
        shown.setdefault(title.text.strip(), now.text.strip())
    for metric in METRICS.values():
        value = vm["metrics"][metric.name]
        assert shown[metric.title] == expected(metric.name, value, is_partial=metric.name in vm["partial"]), metric.name
    if name == "half-known":
        assert shown["exits"] == "≥500/s"


def test_findings_and_verdicts_of_the_table_are_those_of_status(make_screen: Callable[..., HandScreen]) -> None:
    screen = make_screen(size=(300, 60))
    screen.take_scenes(scenes())
    screen.draw()
    assert screen.board.shown is not None
    page, status = screen.desk.page, cast(Any, to_object(screen.board.shown.overview))
    assert isinstance(page, VmsPage)
    of_vm = {vm["id"]: [found for found in status["findings"] if found["vm"] == vm["id"]] for vm in status["vms"]}
    assert any(of_vm.values())
    for place, vm_id in enumerate(page._visible):
        cells, found = cells_of_spans(page, place), of_vm[str(vm_id)]
        assert cells["finding"].split()[1:2] == [each["rule"] for each in found[:1]]
        (vm,) = [vm for vm in status["vms"] if vm["id"] == str(vm_id)]
        assert (cells["apicv"] == "–") == (vm["apicv"]["state"] == "unknown")
    counts = Counter(found["severity"] for found in status["findings"])
    assert f"!! {counts['problem']}  ! {counts['warning']}  i {counts['info']} " in screen.rows()[1]


def test_a_vmm_that_does_not_answer_says_so_in_its_row(screen: HandScreen) -> None:
    for second, scene in enumerate(scenes()):
        silent = [replace(each, silent_s=2.5 + second) if each.name == "web-1" else each for each in scene.identities]
        screen.take_scenes([replace(scene, identities=tuple(silent))])
    (row,) = [row for row in screen.rows() if row.split()[:1] == ["web-1"]]
    assert "VMM silent 5.5 s" in row
