"""An emulated kernel's answer counts only if it is whole."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from kvmscope.errors import SourceError, Unavailable
from kvmscope.lab import emulate
from kvmscope.lab.emulate import Boot, KernelFailed, qemu_argv, read_answer, run_boot

REPORT = {
    "ready_s": b"4.5\n",
    "ended_s": b"6.0\n",
    "release": b"6.1.0-x\n",
    "kernel_log": b"log\n",
    "exit_code": b"3\n",
}


def archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def whole(**more: bytes) -> bytes:
    return archive({"root/file": b"x" * 1000} | {f"run/answer/{name}": data for name, data in (REPORT | more).items()})


def lay(folder: Path, result: bytes, *, console: str = "[    5.1] reboot: Power down\r\n") -> Path:
    (folder / "result").write_bytes(result)
    (folder / "console").write_text(console, encoding="utf-8")
    (folder / "stdout").write_bytes(b"out\n")
    (folder / "stderr").write_bytes(b"\xff\n")
    return folder


def test_whole_answer_is_read(tmp_path: Path) -> None:
    result = read_answer(lay(tmp_path, whole()), trouble=None, total_s=9.0)
    assert (result.exit_code, result.stdout, result.stderr) == (3, "out\n", "\ufffd\n")
    assert result.files == {"/root/file": b"x" * 1000}
    assert (result.release, result.kernel_log, result.console) == ("6.1.0-x", "log\n", "[    5.1] reboot: Power down\n")
    assert (result.ready_s, result.command_s, result.total_s) == (4.5, 1.5, 9.0)


def test_every_truncation_before_the_exit_code_is_a_failure(tmp_path: Path) -> None:
    data = whole()
    end = data.index(b"run/answer/exit_code") + 512 + len(REPORT["exit_code"])
    for length in [*range(0, end, 97), end - 1]:
        with pytest.raises(KernelFailed):
            read_answer(lay(tmp_path, data[:length]), trouble=None, total_s=1.0)


def test_bytes_that_are_no_archive_are_a_failure(tmp_path: Path) -> None:
    with pytest.raises(KernelFailed, match="ended before its command did"):
        read_answer(lay(tmp_path, b"\x55" * 5000), trouble=None, total_s=1.0)


def test_panic_is_a_failure_though_the_answer_is_whole(tmp_path: Path) -> None:
    with pytest.raises(KernelFailed, match="panicked"):
        read_answer(lay(tmp_path, whole(), console="Kernel panic - not syncing: x\n"), trouble=None, total_s=1.0)


def test_trouble_is_a_failure_that_carries_what_came_until_then(tmp_path: Path) -> None:
    console = "".join(f"line {number}\n" for number in range(100))
    with pytest.raises(KernelFailed, match="did not end") as caught:
        read_answer(lay(tmp_path, whole(), console=console), trouble="it did not end", total_s=1.0)
    assert caught.value.stdout == "out\n"
    assert caught.value.console == console
    assert "line 99" in str(caught.value)
    assert "line 50" not in str(caught.value)
    assert isinstance(caught.value, SourceError)


def test_no_files_at_all_are_a_failure(tmp_path: Path) -> None:
    with pytest.raises(KernelFailed, match="console is empty"):
        read_answer(tmp_path, trouble=None, total_s=1.0)


def boot(arch: str) -> Boot:
    return Boot(arch, Path("/vmlinuz"), b"", Path("/disk"), append="a.b=1", memory_mb=512, timeout_s=1.0)


@pytest.mark.parametrize("arch", ["amd64", "arm64"])
def test_machine_is_emulated_on_one_thread_and_leaves_its_disk_alone(arch: str, tmp_path: Path) -> None:
    words = qemu_argv(boot(arch), tmp_path)
    assert words[words.index("-accel") + 1] == "tcg,thread=single"
    assert words[words.index("-smp") + 1] == "1"
    assert "snapshot=on" in words[words.index("-drive") + 1]
    assert words[words.index("-append") + 1].endswith(" a.b=1")
    assert "-no-reboot" in words


def test_a_clock_that_goes_by_instructions_is_asked_for_alone(tmp_path: Path) -> None:
    plain, even = boot("amd64"), replace(boot("amd64"), even_clock=True)
    assert "-icount" not in qemu_argv(plain, tmp_path)
    assert qemu_argv(even, tmp_path)[qemu_argv(even, tmp_path).index("-icount") + 1] == "shift=3,sleep=off"


def test_missing_qemu_is_unavailable_and_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(Unavailable) as caught:
        run_boot(boot("arm64"))
    assert caught.value.remedy == "install qemu-system-arm"


@pytest.mark.needs("qemu")
def test_qemu_that_refuses_is_a_failure_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(emulate._MACHINE, "amd64", "no-such-machine")
    with pytest.raises(KernelFailed, match=r"no-such-machine|unsupported machine"):
        run_boot(boot("amd64"))
