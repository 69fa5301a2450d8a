"""README's way in for developers, in a Debian that has nothing: apt-get, git clone and make as root, make as a user."""

from __future__ import annotations

import os
import re

import pytest
from clean_root import USER, CleanRoot, apt_get_line, put_clone

PART = "tests/test_units.py tests/codec tests/formula tests/live/test_statsfile_live.py tests/live/test_bpf.py"
TESTS = os.environ.get("KVMSCOPE_BARE_TESTS", PART)
"""For `make test`, which README names: a part that reads real guests. With KVMSCOPE_BARE_TESTS= it runs them all."""


@pytest.fixture(scope="module")
def bare(root: CleanRoot) -> CleanRoot:
    line = apt_get_line("git make")
    done = root.run(f"apt-get update -qq && {line.replace('install', 'install -y -qq')}")
    print(f"{line}: {done.wall_s:.0f} s")
    return root


def test_a_user_is_told_what_root_has_to_install(bare: CleanRoot) -> None:
    bare.add_user()
    put_clone(bare, USER)
    done = bare.run("cd kvmscope && make setup 2>&1", user=USER, expect=2)
    assert "apt-get install python3 python3-venv" in done.stdout


def test_root_sets_up_and_sees_the_demo(bare: CleanRoot) -> None:
    put_clone(bare, "root")
    demo = bare.run("cd kvmscope && make demo 2>&1")
    print(f"make demo as root, with set-up: {demo.wall_s:.0f} s")
    assert "demo-halt-0" in demo.stdout
    again = bare.run("cd kvmscope && make demo")
    print(f"make demo as root, after that: {again.wall_s:.0f} s")


def test_root_runs_the_tests(bare: CleanRoot) -> None:
    tests = bare.run(f"cd kvmscope && PYTEST_ADDOPTS='{TESTS} -n2' make test")
    print(f"make test as root, {TESTS or 'all'}: {tests.wall_s:.0f} s; {tests.stdout.splitlines()[-1]}")
    assert re.search(r"\b\d+ passed", tests.stdout)


def test_a_user_sets_up_with_what_root_installed(bare: CleanRoot) -> None:
    setup = bare.run("cd kvmscope && make setup 2>&1", user=USER)
    print(f"make setup as a user: {setup.wall_s:.0f} s")
    tests = bare.run("cd kvmscope && PYTEST_ADDOPTS='tests/test_units.py tests/formula -n0' make test", user=USER)
    assert re.search(r"\b\d+ passed", tests.stdout)
