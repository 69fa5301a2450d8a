"""Elements of libvirt that remedies name are ones that libvirt's own schema takes, in the place that the text gives."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kvmscope.catalog.settings import load_settings

SCHEMA = Path("/usr/share/libvirt/schemas/domain.rng")
ELEMENT = re.compile(r"<([\w-]+)(?: [^<>]*)?/>|<([\w-]+)(?: [^<>]*)?>.*?</\2>")
PLACE = re.compile(r" in ((?:<\w+>)+)")
DOMAIN = "<domain type='kvm'><name>a</name><memory>65536</memory><vcpu>1</vcpu><os><type>hvm</type></os>{}</domain>"
SINCE = {"emsr_bitmap": "10.7", "direct": "11.0"}
"""Elements with the release of libvirt that brought them, where a schema in use may be older."""


@dataclass(frozen=True, slots=True)
class NamedElement:
    """An element as a setting names it, and the elements around it."""

    setting: str
    text: str
    around: tuple[str, ...]

    def document(self) -> str:
        inner = self.text.replace("…", "0")
        for name in reversed(self.around):
            inner = f"<{name}>{inner}</{name}>"
        return DOMAIN.format(inner)


def named_elements() -> Iterator[NamedElement]:
    for name, setting in load_settings().items():
        text = setting.by.get("libvirt", "")
        begin = 0
        for place in PLACE.finditer(text):
            around = tuple(re.findall(r"<(\w+)>", place[1]))
            for element in ELEMENT.finditer(text, begin, place.start()):
                yield NamedElement(name, element[0], around)
            begin = place.end()


ELEMENTS = list(named_elements())


def errors_of(document: str, folder: Path) -> str:
    if (xmllint := shutil.which("xmllint")) is None or not SCHEMA.exists():
        pytest.skip("libvirt's schemas are not installed: tools/debian-packages.txt")
    path = folder / "domain.xml"
    path.write_text(document, encoding="utf-8")
    done = subprocess.run(
        [xmllint, "--noout", "--relaxng", str(SCHEMA), str(path)], capture_output=True, text=True, check=False
    )
    return done.stderr if done.returncode else ""


def test_settings_name_many_elements() -> None:
    assert len(ELEMENTS) >= 10
    assert NamedElement("pit-discard", "<timer name='pit' tickpolicy='discard'/>", ("clock",)) in ELEMENTS


@pytest.mark.parametrize("element", ELEMENTS, ids=lambda each: f"{each.setting}: {each.text}")
def test_libvirt_takes_an_element_where_its_setting_puts_it(element: NamedElement, tmp_path: Path) -> None:
    errors = errors_of(element.document().replace("<clock>", "<clock offset='utc'>"), tmp_path)
    names = set(re.findall(r"<([\w-]+)", element.text))
    assert errors == "" or names & set(SINCE), errors


def test_an_element_in_another_place_is_refused(tmp_path: Path) -> None:
    wrong = NamedElement("pit-discard", "<timer name='pit' tickpolicy='discard'/>", ("features",))
    assert "fails to validate" in errors_of(wrong.document(), tmp_path)
