"""README's way in, in a Debian that has nothing: one apt-get line as root, then make as root and as a user."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from clean_root import USER, CleanRoot

PROJECT = Path(__file__).parents[2]
FEW_TESTS = "tests/test_units.py tests/codec tests/formula"
"""For `make test` to begin with: the whole suite has its own run, on the machine that this is."""


def packages_of_readme() -> str:
    """What README has apt-get bring before make."""
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    (line,) = set(re.findall(r"`?apt-get install (?:-y )?(git make[a-z0-9 -]*)`?", text))
    return str(line).strip()


def pipx_lines() -> str:
    """README's block that installs kvmscope for a user of the machine."""
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    (block,) = (block for block in re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL) if "pipx" in block)
    return str(block)


def put_checkout(root: CleanRoot, home: str, owner: str, *, with_git: bool = True) -> None:
    """What is committed, as a clone or as a downloaded archive has it."""
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=PROJECT, check=True, capture_output=True).stdout
    (root.path / "checkout.tar").write_bytes(archive)
    repository = f"cd {home}/kvmscope && git init -q && git add -A && git -c user.name=x -c user.email=x@x commit -qm x"
    root.run(f"""
        rm -rf {home}/kvmscope && mkdir {home}/kvmscope && tar -xf /checkout.tar -C {home}/kvmscope && rm /checkout.tar
        {repository if with_git else ""}
        chown -R {owner}: {home}/kvmscope""")


def test_pipx_installs_a_checkout(root: CleanRoot) -> None:
    put_checkout(root, "/root", "root", with_git=False)
    done = root.run(f"cd kvmscope\n{pipx_lines().replace('apt-get install', 'apt-get install -y')}")
    print(f"README's lines with pipx: {done.wall_s:.0f} s")
    for arguments in ("status", "doctor", "apicv", "explain pf_fast"):
        assert root.run(f".local/bin/kvmscope {arguments}").stdout


@pytest.fixture(scope="module")
def bare(root: CleanRoot) -> CleanRoot:
    done = root.run(f"apt-get update -qq && apt-get install -y -qq {packages_of_readme()}")
    print(f"apt-get install {packages_of_readme()}: {done.wall_s:.0f} s")
    return root


def test_a_user_is_told_what_root_has_to_install(bare: CleanRoot) -> None:
    bare.add_user()
    put_checkout(bare, f"/home/{USER}", USER)
    done = bare.run("cd kvmscope && make setup 2>&1", user=USER, expect=2)
    assert "apt-get install python3 python3-venv" in done.stdout


def test_root_sets_up_and_sees_the_demo(bare: CleanRoot) -> None:
    put_checkout(bare, "/root", "root")
    setup = bare.run("cd kvmscope && make setup 2>&1")
    print(f"make setup as root: {setup.wall_s:.0f} s")
    demo = bare.run("cd kvmscope && make demo")
    print(f"make demo as root, after set-up: {demo.wall_s:.0f} s")
    assert "demo-halt-0" in demo.stdout
    tests = bare.run(f"cd kvmscope && PYTEST_ADDOPTS='{FEW_TESTS} -n0' make test")
    assert re.search(r"\b\d+ passed", tests.stdout)


def test_a_user_sets_up_with_what_root_installed(bare: CleanRoot) -> None:
    setup = bare.run("cd kvmscope && make setup 2>&1", user=USER)
    print(f"make setup as a user: {setup.wall_s:.0f} s")
    tests = bare.run(f"cd kvmscope && PYTEST_ADDOPTS='{FEW_TESTS} -n0' make test", user=USER)
    assert re.search(r"\b\d+ passed", tests.stdout)
