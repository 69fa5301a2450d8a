"""``kvmscope lab kernel`` says what is wrong with its options before it boots anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kvmscope.cli.lab import lab
from kvmscope.cli.lab_kernel import _save
from kvmscope.errors import UsageError
from kvmscope.lab.kernels import kernel_names


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(lab, ["kernel", *arguments], catch_exceptions=False)


def test_list_names_every_kernel() -> None:
    assert tuple(invoke("--list").stdout.split()) == kernel_names()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["6.1"],
        ["6.1", "--put", "nowhere", "--", "true"],
        ["6.1", "--get", ":there", "--", "true"],
        ["6.1", "--avic", "2", "--", "true"],
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(arguments: list[str]) -> None:
    assert invoke(*arguments).exit_code == 2


def test_a_kernel_that_is_not_listed_is_a_usage_error_with_the_names() -> None:
    with pytest.raises(UsageError, match=r"6\.1-arm64"):
        invoke("5.10", "--", "true")


def test_a_relative_path_in_the_guest_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="absolute"):
        invoke("6.1", "--get", "result:here", "--", "true")


@pytest.mark.parametrize("text", ["kvm_amd", "kvm_amd.nested", "nested=0", "kvm_amd.a=b c"])
def test_a_malformed_parameter_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match=r"MODULE\.NAME=VALUE"):
        invoke("6.1", "--module-param", text, "--", "true")


def test_a_file_of_the_guest_is_written_under_the_name_that_was_asked_for(tmp_path: Path) -> None:
    assert _save({"/root/a": b"1", "/root/ab": b"2"}, "/root/a", tmp_path / "mine")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"mine": b"1"}


def test_a_directory_of_the_guest_is_written_with_all_below_it(tmp_path: Path) -> None:
    assert _save({"/root/d/x": b"1", "/root/d/y/z": b"2", "/root/dd": b"3"}, "/root/d", tmp_path / "mine")
    files = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"mine/x": b"1", "mine/y/z": b"2"}


def test_a_file_that_the_guest_lacks_is_not_written(tmp_path: Path) -> None:
    assert not _save({}, "/root/d", tmp_path / "mine")
    assert not (tmp_path / "mine").exists()
