"""The RAM disk of emulated kernels: its archive is read by the cpio of others, its modules come in order."""

from __future__ import annotations

import io
import lzma
import shutil
import subprocess
from pathlib import Path

import pytest

from kvmscope.lab.initramfs import (
    Module,
    directory,
    encode_cpio,
    init_script,
    module_name,
    order_modules,
    read_module,
    regular,
    run_script,
    symlink,
)


@pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio is not installed")
def test_archive_is_unpacked_by_cpio(tmp_path: Path) -> None:
    data = encode_cpio(
        [
            regular("init", b"#!/bin/sh\n", executable=True),
            regular("a/b/odd", b"12345"),
            regular("a/empty", b""),
            directory("dev"),
            symlink("a/link", "b/odd"),
        ]
    )
    done = subprocess.run(["cpio", "-id", "--quiet"], input=data, cwd=tmp_path, capture_output=True, check=True)
    assert done.stderr == b""
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        *("a", "a/b", "a/b/odd", "a/empty", "a/link"),
        *("dev", "init"),
    ]
    assert (tmp_path / "a/link").read_bytes() == b"12345"
    assert (tmp_path / "init").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "a/b/odd").stat().st_mode & 0o777 == 0o644


def test_archive_holds_each_path_once_and_parents_first() -> None:
    data = encode_cpio([regular("x/one", b"old"), regular("x/two", b""), regular("x/one", b"new")])
    names = [part.split(b"\0")[0][104:] for part in data.split(b"070701")[1:]]
    assert names == [b"x", b"x/one", b"x/two", b"TRAILER!!!"]
    assert b"new" in data
    assert b"old" not in data


def test_same_files_give_the_same_bytes() -> None:
    entries = [regular("x/one", b"1"), symlink("y", "x/one")]
    assert encode_cpio(entries) == encode_cpio(entries)


@pytest.mark.parametrize("name", ["kvm-amd.ko", "kvm-amd.ko.xz", "kvm_amd.ko"])
def test_module_is_named_as_the_kernel_names_it(name: str) -> None:
    assert module_name(name) == "kvm_amd"


@pytest.mark.parametrize("info", [b"depends=a,b-c\0name=x\0", b"license=GPL\0depends=a,b-c\0"])
def test_module_knows_what_it_depends_on(info: bytes) -> None:
    assert read_module("x.ko", b"\x7fELF\0" + info).depends == ("a", "b_c")


def test_module_that_depends_on_nothing_has_no_dependency() -> None:
    assert read_module("x.ko", b"\x7fELF\0license=GPL\0depends=\0").depends == ()


def test_compressed_module_is_decompressed() -> None:
    module = read_module("x.ko.xz", lzma.compress(b"\x7fELF\0depends=y\0"))
    assert module == Module("x", b"\x7fELF\0depends=y\0", ("y",))


def test_modules_come_after_what_they_need_and_built_in_ones_are_left_out() -> None:
    needs = {"kvm_amd": ("kvm",), "kvm": ("irqbypass",), "irqbypass": (), "virtio_pci": ("built_in", "virtio")}
    needs["virtio"] = ()

    def load(name: str) -> Module | None:
        return Module(name, b"", needs[name]) if name in needs else None

    ordered = [module.name for module in order_modules(["kvm_amd", "virtio_pci", "kvm"], load)]
    assert ordered == ["irqbypass", "kvm", "kvm_amd", "virtio", "virtio_pci"]


def test_scripts_are_valid_shell() -> None:
    argv = ["sh", "-c", "echo 'it is' \"$HOME\"; exit 3"]
    for script in (init_script(["kvm", "kvm_amd"], {"kvm_amd": "avic=1"}), run_script(argv, ["/a b", "/c"])):
        done = subprocess.run(["sh", "-n"], input=script, text=True, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_module_gets_its_parameters_and_no_other_module_does() -> None:
    loads = [line for line in init_script(["kvm", "kvm_amd"], {"kvm_amd": "avic=1"}).splitlines() if "insmod" in line]
    assert loads[0].startswith("insmod /modules/kvm.ko  ||")
    assert loads[1].startswith("insmod /modules/kvm_amd.ko avic=1 ||")


def test_command_reaches_the_shell_word_for_word() -> None:
    argv = ["printf", "%s|", "a b", "$HOME", "'", '"', "*", "\n"]
    line = next(text for text in run_script(argv, []).split("\nulimit")[1].split("\ncut")[1:2])
    command = line.partition("\n")[2].partition(" </dev/null")[0]
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == "a b|$HOME|'|\"|*|\n|"


def test_archive_can_be_large_and_binary() -> None:
    blob = bytes(range(256)) * 1000
    assert blob in io.BytesIO(encode_cpio([regular("blob", blob)])).getvalue()
