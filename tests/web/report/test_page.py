"""The page of a report: whole without a network or a script, and inert whatever VMs are called."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

pytest.importorskip("jinja2", reason="jinja2 is not installed: make setup")

from loads import Load, simulated_scenes

from kvmscope.view.report import ReportView
from kvmscope.view.report_build import report_view
from kvmscope.web.report.page import render

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}{% raw %}",
    "</style></svg><!--",
    "\x1b[31mred\u202e",
    "&lt;b&gt;",
)


class _Elements(HTMLParser):
    """Tags with their attributes, text, and what is open at the end."""

    VOID = frozenset({"meta", "path", "rect", "br", "img"})
    OPTIONAL = frozenset({"dt", "dd", "li", "td", "th", "tr", "p"})

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID | self.OPTIONAL:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID | self.OPTIONAL and (not self.open or self.open.pop() != tag):
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parsed(page: str) -> _Elements:
    elements = _Elements()
    elements.feed(page)
    elements.close()
    return elements


@pytest.fixture(scope="module")
def view() -> ReportView:
    load = Load(vms=9, names=(*HOSTILE, "a", "b", "c"))
    return report_view('dir/<b>"', simulated_scenes(20, load=load))


@pytest.fixture(scope="module")
def page(view: ReportView) -> str:
    return render(view)


def test_it_is_one_page_whose_elements_are_nested_right(page: str) -> None:
    elements = parsed(page)
    assert page.startswith("<!DOCTYPE html>")
    assert (elements.open, elements.wrong) == ([], [])


def test_names_run_nothing_and_are_read_as_they_are(page: str) -> None:
    elements = parsed(page)
    assert [tag for tag, _ in elements.tags].count("script") == 1
    assert not [tag for tag, _ in elements.tags if tag in ("img", "iframe", "object", "link", "form")]
    assert not [name for _, attributes in elements.tags for name in attributes if name.startswith("on")]
    text = "".join(elements.text)
    assert HOSTILE[0] in text
    assert HOSTILE[2] in text
    assert "49" + "{% raw" not in text
    assert "\x1b" not in page
    assert "\u202e" not in page


def test_nothing_is_loaded_from_elsewhere(page: str) -> None:
    elements = parsed(page)
    links = [attributes[name] for _, attributes in elements.tags for name in ("src", "href") if name in attributes]
    assert links
    assert all(link is not None and link.startswith("#") for link in links)
    assert "url(" not in page
    assert "@import" not in page
    policy = next(attributes["content"] for tag, attributes in elements.tags if "http-equiv" in attributes)
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


def test_links_lead_to_parts_of_the_page(page: str) -> None:
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)


def test_a_table_stands_behind_each_chart(page: str, view: ReportView) -> None:
    elements = parsed(page)
    tables = {attributes.get("id") for tag, attributes in elements.tags if tag == "table"}
    charts = [attributes for tag, attributes in elements.tags if tag == "svg" and "data-table" in attributes]
    assert len(charts) >= 6 + 4 * len(view.vms)
    assert {attributes["data-table"] for attributes in charts} <= tables
    images = [attributes for tag, attributes in elements.tags if tag == "svg" and attributes.get("role") == "img"]
    assert all(attributes["aria-label"] for attributes in images)


def test_severity_is_a_word_and_not_a_colour_alone(page: str, view: ReportView) -> None:
    text = "".join(parsed(page).text)
    for rule in view.rules:
        assert f"{rule.severity.value} {rule.title}" in text


def test_unknown_values_are_dashes(view: ReportView) -> None:
    series = tuple(replace(each, values=(None,) * len(each.values), mean=None, most=None) for each in view.series)
    text = "".join(parsed(render(replace(view, series=series))).text)
    assert "unknown: no interval has a value" in text
    assert "mean –, most –" in text


def test_an_hour_of_a_hundred_vcpus_is_at_most_three_megabytes() -> None:
    """Whatever the length, a report has 120 intervals."""
    page = render(report_view("r", simulated_scenes(121, step_s=30, load=Load(vms=100, vcpus=1))))
    assert len(page.encode()) <= 3_000_000
