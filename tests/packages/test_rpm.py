"""The .rpm of the Python that Debian's sid has, installed by the rpm that is there: its scripts run, its commands work,
and it goes without a trace. What it depends on is Debian's, so dependencies are not checked here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from clean_root import CleanRoot, unpacked_root

PYTHON = "3.14"
TARGET = "fc43"
NEEDED = f"rpm python{PYTHON} libbpf1 libstdc++6"


@pytest.fixture(scope="module")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CleanRoot]:
    (package,) = dist.glob(f"*.{TARGET}.*.rpm")
    with unpacked_root("sid", tmp_path_factory.mktemp("sid")) as root:
        # sid has no releases that stay: its lists are out of date after a week.
        root.run("""echo 'Acquire::Check-Valid-Until "false";' > /etc/apt/apt.conf.d/90-any-date; apt-get update -qq""")
        root.run(f"apt-get install -y -qq --no-install-recommends {NEEDED}")
        (root.path / "kvmscope.rpm").write_bytes(package.read_bytes())
        done = root.run("rpm --install --nodeps /kvmscope.rpm")
        print(f"installed in {done.wall_s:.0f} s")
        yield root


def compiled(root: CleanRoot) -> int:
    return len(root.holds("/usr/lib/kvmscope/lib/**/*.pyc"))


def test_its_files_are_as_in_the_package_and_its_modules_compiled(installed: CleanRoot) -> None:
    assert installed.run("rpm --verify --nodeps kvmscope").stdout == ""
    assert compiled(installed) > 1000


def test_its_commands_work(installed: CleanRoot) -> None:
    assert "Commands:" in installed.run("kvmscope --help").stdout
    assert "source " in installed.run("kvmscope check").stdout
    installed.run("kvmscope record /tmp/recording --for 2s --interval 500ms")
    assert installed.run("kvmscope status --from /tmp/recording --json").stdout.startswith("{")
    installed.run("rm -r /tmp/recording")


def test_an_upgrade_leaves_what_is_compiled(installed: CleanRoot) -> None:
    installed.run("rpm --upgrade --replacepkgs --nodeps /kvmscope.rpm")
    assert compiled(installed) > 1000
    assert installed.run("kvmscope --version").stdout.startswith("kvmscope ")


def test_its_text_has_paragraphs_and_no_marks_of_debian(installed: CleanRoot) -> None:
    text = installed.run("rpm --query --queryformat '%{DESCRIPTION}' kvmscope").stdout
    assert "\n\n" in text
    assert "\n.\n" not in text


def test_it_goes_without_a_trace(installed: CleanRoot) -> None:
    installed.run("rpm --erase kvmscope && rm /kvmscope.rpm")
    assert installed.holds("/usr/**/*kvmscope*") == []
