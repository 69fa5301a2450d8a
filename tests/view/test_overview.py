"""The overview of a host: its screen and its JSON, byte for byte, on samples made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kvmscope.analysis.status import summarize
from kvmscope.analysis.window import Window
from kvmscope.catalog.findings import Severity
from kvmscope.catalog.metrics import load_metrics
from kvmscope.sample import VmId
from kvmscope.scene import Scene, VmIdentity
from kvmscope.view.findings import ReportedFinding
from kvmscope.view.jsonout import dump, to_object
from kvmscope.view.overview import Overview, make_overview, of_one_vm
from kvmscope.view.overview_text import kept_in_place, overview_lines, rows_shown, vm_lines
from kvmscope.view.text import Style, cells, plain


@pytest.fixture
def overview(crafted: Any) -> Overview:
    scene = Scene(crafted.after, crafted.identities, crafted.machine, {"pinned": "nothing is attached"})
    return make_overview(scene, summarize(Window(crafted.before, crafted.after), load_metrics()))


def overview_of(crafted: Any, before: Any, after: Any, **of_vms: Any) -> Overview:
    scene = Scene(after, tuple(VmIdentity(label, None, **of_vms) for label in after.vms.label), crafted.machine, {})
    return make_overview(scene, summarize(Window(before, after), load_metrics()))


def lines_of(overview: Overview, *, width: int, limit: int = 20, by: str = "exits_per_s") -> list[str]:
    rows = rows_shown(overview, by=by, limit=limit)
    return list(plain(overview_lines(overview, rows, width=width, by=by)))


@pytest.mark.parametrize("width", [80, 120, 200])
def test_the_screen_is_as_expected(overview: Overview, width: int, expect: Any) -> None:
    expect(f"status-{width}.txt", "\n".join(lines_of(overview, width=width)))


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 160])
def test_the_screen_fits_and_has_no_blanks_at_line_ends(overview: Overview, width: int) -> None:
    lines = lines_of(overview, width=width)
    table = lines[: lines.index("", lines.index("") + 1)]
    assert max(map(cells, table)) <= width
    assert all(line == line.rstrip() for line in lines)


def test_at_80_columns_there_are_halt_polling_and_process_ids(overview: Overview) -> None:
    head = next(line for line in lines_of(overview, width=80) if line.startswith("VM "))
    assert all(title in head for title in ("PID", "exits/s", "usr exit/s", "halts/s", "halt poll"))


def test_the_json_is_as_expected(overview: Overview, expect: Any) -> None:
    expect("status.json", dump(to_object(overview)))


def test_a_hostile_name_reaches_no_terminal(overview: Overview) -> None:
    assert "\x1b" not in "\n".join(lines_of(overview, width=120))


def test_a_host_without_vms_says_what_to_try(crafted: Any, expect: Any) -> None:
    empty = overview_of(crafted, crafted.make_sample([]), crafted.make_sample([], at_s=1))
    expect("status-empty.txt", "\n".join(lines_of(empty, width=80)))


def test_a_simulated_host_says_so_first(crafted: Any) -> None:
    vms = [crafted.vm("web", [crafted.vcpu(0)])]
    samples = [replace(crafted.make_sample(vms, at_s=at_s), simulated=True) for at_s in (0, 1)]
    simulated = overview_of(crafted, *samples)
    assert lines_of(simulated, width=80)[0].startswith("SIMULATED: ")
    assert to_object(simulated)["simulated"] is True


@pytest.fixture
def many(crafted: Any) -> Overview:
    def host(at_s: float, factor: int) -> Any:
        vms = [
            crafted.vm(f"vm-{i:03}", [crafted.vcpu(0, {"exits": factor * i, "halt_exits": factor * (500 - i)})])
            for i in range(500)
        ]
        return crafted.make_sample(vms, at_s=at_s)

    return overview_of(crafted, host(0, 0), host(1, 100))


def test_of_many_vms_the_busiest_are_shown_and_the_rest_counted(many: Overview) -> None:
    lines = lines_of(many, width=80)
    assert [line.split()[0] for line in lines[3:23]] == [f"vm-{i:03}" for i in range(499, 479, -1)]
    assert "… and 480 VMs with fewer exits; --all shows them" in lines
    assert len(lines_of(many, width=80, limit=1000)) > 500


def test_any_metric_or_the_name_can_choose_them(many: Overview) -> None:
    assert many.vms[rows_shown(many, by="halts_per_s", limit=1)[0]].name == "vm-000"
    assert [many.vms[row].name for row in rows_shown(many, by="name", limit=2)] == ["vm-000", "vm-001"]
    assert "with less halts_per_s" in "\n".join(lines_of(many, width=80, by="halts_per_s"))


def test_a_screen_of_a_few_vms_makes_no_others(many: Overview, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    facts = type(many.vms._facts)
    make = facts.vm

    def counting(made_of: Any, row: int) -> Any:
        made.append(row)
        return make(made_of, row)

    monkeypatch.setattr(facts, "vm", counting)
    lines_of(many, width=120)
    assert len(made) <= 40


def test_on_a_kernel_without_a_stat_its_column_is_left_out(crafted: Any) -> None:
    vms = [[crafted.vm("web", [crafted.vcpu(0, {"exits": exits})])] for exits in (0, 10)]
    samples = [crafted.make_sample(of, at_s=at_s) for at_s, of in enumerate(vms)]
    text = "\n".join(lines_of(overview_of(crafted, *samples), width=200))
    assert "exits/s" in text
    assert "emulated/s" not in text


def test_a_vmm_that_does_not_answer_is_named(crafted: Any) -> None:
    vms = [crafted.vm("web", [crafted.vcpu(0)], pid=7)]
    hung = overview_of(crafted, crafted.make_sample(vms), crafted.make_sample(vms, at_s=1), silent_s=4.2)
    assert "web: its VMM has not answered for 4.2 s" in lines_of(hung, width=80)
    assert to_object(hung)["vms"][0]["silent_s"] == 4.2  # type: ignore[index,call-overload]


def with_findings(overview: Overview, *found: tuple[str, str, int | None, float | None]) -> list[str]:
    """The lines of findings if a rule, of a VM and vCPU at a cost, found these."""
    findings = tuple(
        ReportedFinding(
            rule=rule,
            severity=Severity.WARNING,
            vm=VmId(int.from_bytes(name.encode())),
            name=name,
            vcpu=vcpu,
            title=f"title of {rule}",
            since_s=4.0,
            cost_cpus=cost,
            lost_vcpus=None,
            evidence={},
            worst_vcpus=(),
            worst_count=0,
            causes=(),
            polling=None,
            explanation="",
            remedies=(),
        )
        for rule, name, vcpu, cost in found
    )
    lines = lines_of(replace(overview, findings=findings), width=120)
    return [line for line in lines if line.startswith("warning: ") or "kvmscope doctor" in line]


def test_what_a_rule_finds_of_many_vms_is_one_line(overview: Overview) -> None:
    many = [("storm", f"web-{i}", None, 0.5) for i in range(1002)]
    assert with_findings(overview, *many, ("waste", "db", None, 0.2)) == [
        "warning: 1,002 VMs (web-0 and 1,001 more) [storm, about 500 CPU]: title of storm",
        "warning: db [waste, about 0.2 CPU]: title of waste",
        "run `kvmscope doctor` for causes and fixes",
    ]


def test_a_cost_that_is_known_of_some_is_theirs_and_none_is_no_cost(overview: Overview) -> None:
    assert with_findings(
        overview, ("a", "x", None, None), ("a", "y", None, 0.2), ("b", "x", 0, None), ("b", "x", 1, None)
    ) == [
        "warning: 2 VMs (x and 1 more) [a, about 0.2 CPU]: title of a",
        "warning: x, 2 vCPUs [b]: title of b",
        "run `kvmscope doctor` for causes and fixes",
    ]


def test_rules_beyond_the_first_five_are_counted(overview: Overview) -> None:
    lines = with_findings(overview, *((f"r{i}", "x", None, None) for i in range(7)))
    assert len(lines) == 6
    assert lines[-1] == "… and findings of 2 more rules; run `kvmscope doctor` for causes and fixes"


# --- one VM -----------------------------------------------------------------------------------------------------------


def test_one_vm_is_shown_with_the_rates_of_each_vcpu(overview: Overview, expect: Any) -> None:
    web = of_one_vm(overview, overview.vms[0].id)
    assert [vm.name for vm in web.vms] == ["web-1"]
    expect("status-web-1.txt", "\n".join(plain(vm_lines(web, width=100))))
    only = "\n".join(plain(vm_lines(web, width=100, vcpu=1)))
    assert "\n   0" not in only


def test_gaps_and_findings_of_other_vms_are_not_those_of_the_one(overview: Overview, crafted: Any) -> None:
    other = of_one_vm(overview, overview.vms[0].id)
    assert {gap.vm for gap in other.gaps} <= {None, overview.vms[0].id}
    assert len(other.gaps) < len(overview.gaps)


def test_of_a_vm_that_has_ended_nothing_is_left(overview: Overview) -> None:
    assert list(of_one_vm(overview, VmId(1)).vms) == []


# --- places under the eye ---------------------------------------------------------------------------------------------


def ids(text: str) -> list[VmId]:
    return [VmId(ord(letter)) for letter in text]


@pytest.mark.parametrize(
    ("before", "wanted", "after"),
    [
        ("", "abc", "abc"),
        ("abc", "cba", "abc"),
        ("abc", "dab", "abd"),
        ("abc", "dc", "dc"),
        ("abc", "xyz", "xyz"),
        ("ab", "dcba", "abdc"),
        ("abcd", "dx", "xd"),
    ],
)
def test_vms_that_stay_on_the_screen_stay_in_place(before: str, wanted: str, after: str) -> None:
    assert kept_in_place(ids(before), ids(wanted)) == ids(after)


def test_problems_and_warnings_stand_out(overview: Overview) -> None:
    styles = {span.style for line in overview_lines(overview, [0, 1], width=100) for span in line}
    assert {Style.HEAD, Style.PLAIN, Style.DIM} <= styles
