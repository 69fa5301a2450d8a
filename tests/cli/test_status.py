"""The status screen and its JSON, byte for byte, on samples made by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from kvmscope.analysis.status import summarize
from kvmscope.analysis.window import Window
from kvmscope.catalog.metrics import load_metrics
from kvmscope.cli.status import View, plain_text, to_json
from kvmscope.scene import Scene, VmIdentity
from kvmscope.view.text import cells


@pytest.fixture
def view(crafted: Any) -> View:
    scene = Scene(crafted.after, crafted.identities, crafted.machine, {"pinned": "nothing is attached"})
    metrics = load_metrics()
    return View(scene, summarize(Window(crafted.before, crafted.after), metrics), metrics)


def view_of(crafted: Any, before: Any, after: Any) -> View:
    scene = Scene(after, tuple(VmIdentity(label, None) for label in after.vms.label), crafted.machine, {})
    return View(scene, summarize(Window(before, after), load_metrics()), load_metrics())


@pytest.mark.parametrize("width", [80, 120, 200])
def test_the_screen_is_as_expected(view: View, width: int, expect: Any) -> None:
    expect(f"status-{width}.txt", plain_text(view, width=width, limit=20))


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 160])
def test_the_screen_fits_and_has_no_blanks_at_line_ends(view: View, width: int) -> None:
    lines = plain_text(view, width=width, limit=20).splitlines()
    assert max(map(cells, lines)) <= width
    assert all(line == line.rstrip() for line in lines)


def test_the_json_is_as_expected(view: View, expect: Any) -> None:
    expect("status.json", json.dumps(to_json(view), indent=2, allow_nan=False))


def test_a_hostile_name_reaches_no_terminal(view: View) -> None:
    assert "\x1b" not in plain_text(view, width=120, limit=20)


def test_a_host_without_vms_says_what_to_try(crafted: Any, expect: Any) -> None:
    empty = view_of(crafted, crafted.make_sample([]), crafted.make_sample([], at_s=1))
    expect("status-empty.txt", plain_text(empty, width=80, limit=20))


def test_a_simulated_host_says_so_first(crafted: Any) -> None:
    vms = [crafted.vm("web", [crafted.vcpu(0)])]
    samples = [replace(crafted.make_sample(vms, at_s=at_s), simulated=True) for at_s in (0, 1)]
    simulated = view_of(crafted, *samples)
    assert plain_text(simulated, width=80, limit=20).startswith("SIMULATED: ")
    assert to_json(simulated)["simulated"] is True


def test_of_many_vms_the_busiest_are_shown_and_the_rest_counted(crafted: Any) -> None:
    def host(at_s: float, factor: int) -> Any:
        vms = [crafted.vm(f"vm-{i:03}", [crafted.vcpu(0, {"exits": factor * i})]) for i in range(500)]
        return crafted.make_sample(vms, at_s=at_s)

    many = view_of(crafted, host(0, 0), host(1, 100))
    lines = plain_text(many, width=80, limit=20).splitlines()
    assert [line.split()[0] for line in lines[3:23]] == [f"vm-{i:03}" for i in range(499, 479, -1)]
    assert "… and 480 VMs with fewer exits; --all shows them" in lines
    assert len(plain_text(many, width=80, limit=1000).splitlines()) > 500


def test_on_a_kernel_without_a_stat_its_column_is_left_out(crafted: Any) -> None:
    vms = [[crafted.vm("web", [crafted.vcpu(0, {"exits": exits})])] for exits in (0, 10)]
    samples = [crafted.make_sample(of, at_s=at_s) for at_s, of in enumerate(vms)]
    text = plain_text(view_of(crafted, *samples), width=200, limit=20)
    assert "exits/s" in text
    assert "emulated/s" not in text


def test_the_command_reads_a_window(kvmscope: Any, crafted: Any) -> None:
    result = kvmscope.run("status", "--json", "--interval", "1ms", on=[crafted.before, crafted.middle, crafted.after])
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert answer["interval_s"] == 2.0
    assert answer["source"] == {"name": "test", "why_not": {"bpf": "no BPF here"}}
    assert [vm["name"] for vm in answer["vms"]] == list(crafted.after.vms.label)


def test_kvmscope_alone_is_status(kvmscope: Any, crafted: Any) -> None:
    alone = kvmscope.run("--interval", "1ms", "--json", on=[crafted.before, crafted.middle, crafted.after])
    assert json.loads(alone.stdout)["interval_s"] == 2.0


@pytest.mark.parametrize("interval", ["0", "soon", "-1s", "5 weeks"])
def test_a_time_that_is_none_is_refused(kvmscope: Any, interval: str) -> None:
    result = kvmscope.run("status", f"--interval={interval}")
    assert result.exit_code == 2
    assert "is not a time such as" in result.stderr
