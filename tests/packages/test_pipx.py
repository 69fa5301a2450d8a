"""README's way in for users, in a Debian that has nothing: apt-get and pipx in an unpacked archive."""

from __future__ import annotations

import pytest
from clean_root import USER, CleanRoot, put_archive, shell_block


def lines() -> tuple[str, str]:
    """That of apt-get, which is for root, and that of pipx, which is not."""
    (system, *_), (user, *_) = (
        [line for line in shell_block("pipx").splitlines() if word in line] for word in ("apt", "pipx i")
    )
    return system.replace("apt-get install", "apt-get install -y"), user


def commands_to_start_with() -> list[str]:
    return commands("explain pf_fast")


def commands(word: str) -> list[str]:
    return [line.partition("#")[0].strip() for line in shell_block(word).splitlines()]


@pytest.fixture(scope="module")
def prepared(root: CleanRoot) -> CleanRoot:
    done = root.run(lines()[0])
    print(f"{lines()[0]}: {done.wall_s:.0f} s")
    root.add_user()
    return root


def test_root_installs_and_reads_the_host(prepared: CleanRoot) -> None:
    put_archive(prepared, "root")
    done = prepared.run(f"cd kvmscope\n{lines()[1]}")
    print(f"{lines()[1]} as root: {done.wall_s:.0f} s")
    assert len(commands_to_start_with()) == 5
    for command in (*commands_to_start_with(), *commands("kvmscope status")):
        assert prepared.run(f"PATH=.local/bin:$PATH\n{command}").stdout


def test_a_user_installs_it_too_and_is_told_what_reading_needs(prepared: CleanRoot) -> None:
    put_archive(prepared, USER)
    done = prepared.run(f"cd kvmscope\n{lines()[1]}", user=USER)
    print(f"{lines()[1]} as a user: {done.wall_s:.0f} s")
    check, *others = sorted(commands_to_start_with(), key=lambda line: line != "kvmscope check")
    for command in others:
        assert prepared.run(f"PATH=.local/bin:$PATH\n{command}", user=USER).stdout
    assert "as root: kvmscope attach" in prepared.run(f".local/bin/{check}", user=USER, expect=3).stdout
