"""``kvmscope lab kernel`` says what is wrong with its options before it boots anything."""

from __future__ import annotations

import pytest
from click.testing import CliRunner, Result

from kvmscope.cli.lab import lab
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
        ["6.1", "--avic", "2", "--", "true"],
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(arguments: list[str]) -> None:
    assert invoke(*arguments).exit_code == 2


@pytest.mark.parametrize("option", [["--put", "nowhere"], ["--get", ":there"]])
def test_what_is_no_pair_of_paths_is_a_usage_error(option: list[str]) -> None:
    with pytest.raises(UsageError, match=r"is not --(put|get) "):
        invoke("6.1", *option, "--", "true")


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
