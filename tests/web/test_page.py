"""The page: complete without a script, small, and nothing in it from elsewhere."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import time
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from crafted import Crafted

from kvmscope.web.page.assets import load_assets

PACKAGE = "kvmscope.web.page"
MOST_BYTES = 100_000
OURS = {"page.js", "charts.js", "text.js", "timeline.js", "views.js", "where.js"}


class PageReader(HTMLParser):
    """What a page loads, and the ids of its elements."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.inline = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag in ("script", "link", "img"):
            self.loads.append(values.get("src") or values.get("href") or "")
        self.inline += sum(name == "style" or name.startswith("on") for name in values)
        self.inline += tag == "script" and "src" not in values


@pytest.fixture
def page(serve: Any, crafted: Crafted) -> Any:
    running = serve([crafted.before, crafted.after], interval_s=0.05)
    deadline = time.monotonic() + 20
    while running.monitor.last is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return running


def test_the_first_paint_has_the_vms_with_their_numbers(page: Any) -> None:
    text = page.get("/").text
    assert "web-1" in text
    assert re.search(r"<td>total</td>", text)
    assert "<noscript>" in text


def test_everything_comes_from_this_server_and_nothing_is_inline(page: Any) -> None:
    answer = page.get("/")
    reader = PageReader()
    reader.feed(answer.text)
    assert reader.inline == 0
    assert all(re.fullmatch(r"assets/[A-Za-z.]+", path) for path in reader.loads)
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert len(reader.ids) == len(set(reader.ids))
    modules = {f"assets/{name}" for name in re.findall(r'from "\./([a-z]+\.js)"', scripts())}
    total = len(answer.body)
    for path in {*reader.loads, *modules}:
        found = page.get(f"/{path}", accept_encoding="gzip, deflate, br")
        assert found.status == 200
        total += len(found.body)
    assert total <= MOST_BYTES
    assert {f"assets/{name}" for name in load_assets()} == {*reader.loads, *modules}


def scripts() -> str:
    return "".join(asset.content.decode() for name, asset in load_assets().items() if name in OURS)


def test_the_script_finds_every_element_that_it_names(page: Any) -> None:
    reader = PageReader()
    reader.feed(page.get("/").text)
    assert set(re.findall(r'\$\("([a-z-]+)"\)', scripts())) <= set(reader.ids)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", scripts())


@pytest.mark.parametrize(
    ("accepted", "is_packed"),
    [("gzip", True), ("br, GZip;q=0.5", True), ("", False), ("gzip;q=0", False), ("br", False), ("xgzip", False)],
)
def test_assets_are_packed_for_those_who_take_it(page: Any, accepted: str, is_packed: bool) -> None:
    found = page.get("/assets/page.js", accept_encoding=accepted)
    assert (found.headers.get("content-encoding") == "gzip") is is_packed
    body = gzip.decompress(found.body) if is_packed else found.body
    assert body == load_assets()["page.js"].content


def test_an_asset_that_did_not_change_is_not_sent_again(page: Any) -> None:
    first = page.get("/assets/page.js")
    assert page.get("/assets/page.js", if_none_match=first.headers["etag"]).status == 304


@pytest.mark.parametrize("path", ["/assets/../render.py", "/assets/%2e%2e/render.py", "/assets/nothing", "/assets/"])
def test_no_other_file_can_be_read(page: Any, path: str) -> None:
    assert page.get(path).status in (404, 307)


def test_the_page_is_there_before_the_first_interval(serve: Any) -> None:
    assert serve(interval_s=3600.0).get("/").status == 200


def test_uplot_is_what_its_manifest_says() -> None:
    folder = files(PACKAGE).joinpath("vendor")
    manifest = json.loads(folder.joinpath("manifest.json").read_text(encoding="utf-8"))
    for name, digest in manifest["files"].items():
        assert hashlib.sha512(folder.joinpath(name).read_bytes()).hexdigest() == digest, name
    there = {path.name for path in Path(str(folder)).iterdir()}
    assert there == {*manifest["files"], "manifest.json"}
