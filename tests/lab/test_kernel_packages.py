"""Packages are found by what the archive says of them, and fetched without this machine's own apt."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from kvmscope.errors import Unavailable, UsageError
from kvmscope.lab import kernel_packages
from kvmscope.lab.kernel_catalog import find_kernel, kernel_names, load_catalog
from kvmscope.lab.kernel_packages import (
    Apt,
    Package,
    apt_configuration,
    kernel_closure,
    parse_packages,
    run_tool,
    sources_list,
    unpack_wheel,
)

STANZAS = """\
Package: linux-image-cloud-amd64
Source: linux-signed-amd64 (7.3.4+1)
Version: 7.3.4-1~bpo13+1
Depends: linux-base-cloud-amd64 (= 7.3.4-1), linux-image-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1)
Description: Linux for x86-64 cloud (meta-package)
 Depends: is a word of this text

Package: initramfs-user
Version: 1:2
Depends: dracut | initramfs-tools, libc6:any (>= 2.36)

Package: alone
Version: 3
"""


def test_packages_are_parsed_with_their_version_and_dependencies() -> None:
    assert parse_packages(STANZAS) == [
        Package(
            "linux-image-cloud-amd64",
            "7.3.4-1~bpo13+1",
            ("linux-base-cloud-amd64", "linux-image-7.3.4+deb13-cloud-amd64"),
        ),
        Package("initramfs-user", "1:2", ("dracut", "libc6")),
        Package("alone", "3", ()),
    ]


def test_no_stanza_is_no_package() -> None:
    assert parse_packages("\n") == []


def test_a_kernel_split_into_packages_is_found_whole() -> None:
    archive = {
        "linux-image-cloud": ("linux-base-cloud", "linux-image-7.3.4", "linux-modules-cloud"),
        "linux-image-7.3.4": ("linux-base", "linux-binary-7.3.4", "linux-modules-7.3.4"),
        "linux-binary-7.3.4": (),
        "linux-modules-7.3.4": ("linux-binary-7.3.4",),
    }
    found = kernel_closure(lambda name: Package(name, "1", archive[name]), "linux-image-cloud")
    assert [package.name for package in found] == ["linux-binary-7.3.4", "linux-image-7.3.4", "linux-modules-7.3.4"]


def test_every_path_of_the_configuration_is_below_its_root() -> None:
    for line in apt_configuration(Path("/own"), arch="arm64").splitlines():
        if line.startswith("Dir"):
            assert line.split('"')[1].startswith("/own") or line.split('"')[1] in {"", "none"}


def test_sources_are_signed_and_of_the_mirror_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVMSCOPE_DEBIAN_MIRROR", "https://mirror.test/")
    text = sources_list(["debian-security bookworm-security"], arch="arm64")
    assert text == (
        f"deb [arch=arm64 signed-by={kernel_packages.KEYRING}] "
        "https://mirror.test/debian-security bookworm-security main\n"
    )


def test_an_archive_that_cannot_be_reached_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVMSCOPE_DEBIAN_MIRROR", f"file://{tmp_path}/nowhere")
    with pytest.raises(Unavailable):
        Apt(tmp_path / "apt", arch="amd64", suites=["debian bookworm"]).update()


def test_a_tool_that_is_missing_is_unavailable_by_name() -> None:
    with pytest.raises(Unavailable, match="kvmscope-no-such-tool is not on this machine"):
        run_tool(["kvmscope-no-such-tool"])


def test_a_tool_that_fails_is_unavailable_in_its_own_words() -> None:
    with pytest.raises(Unavailable, match="the reason"):
        run_tool(["sh", "-c", "echo first >&2; echo the reason >&2; exit 2"])


def test_a_wheel_is_unpacked_without_its_tests(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.whl", "w") as archive:
        for name in ("x/__init__.py", "x/tests/test_x.py", "x/deep/tests/data.bin", "x/testing.py"):
            archive.writestr(name, "1")
    unpack_wheel(tmp_path / "x.whl", into=tmp_path / "site")
    files = sorted(str(path.relative_to(tmp_path / "site")) for path in (tmp_path / "site").rglob("*.*"))
    assert files == ["x/__init__.py", "x/testing.py"]


def test_the_listed_kernels_are_those_that_are_promised() -> None:
    assert kernel_names() == ("6.1", "6.12", "7.3", "6.1-arm64")
    assert [find_kernel(name).has_apicv for name in kernel_names()] == [True, True, True, False]


def test_a_kernel_that_is_not_listed_is_a_usage_error_with_the_names() -> None:
    with pytest.raises(UsageError, match=r"6\.1, 6\.12, 7\.3"):
        find_kernel("5.10")


def test_the_userland_has_what_this_package_imports() -> None:
    wanted = " ".join(load_catalog()[1].wheels)
    assert all(name in wanted for name in ("numpy", "click", "rich", "pytest"))
