"""The .deb in a clean Debian: it installs, its commands work there, and it goes without a trace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from clean_root import USER, CleanRoot

PROJECT = Path(__file__).parents[2]
NO_SOURCE = 3
LIBRARY = "/usr/lib/kvmscope"
COMPLETE = """
. /usr/share/bash-completion/completions/kvmscope
COMP_WORDS=(%s)
COMP_CWORD=%d
_kvmscope_completion kvmscope
echo "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def package(release: str, dist: Path) -> Path:
    (path,) = dist.glob(f"*{release.replace('debian', 'deb')}_*.deb")
    return path


@pytest.fixture(scope="module")
def installed(root: CleanRoot, package: Path) -> CleanRoot:
    (root.path / "kvmscope.deb").write_bytes(package.read_bytes())
    root.run("apt-get update -qq")
    done = root.run("apt-get install -y -qq --no-install-recommends /kvmscope.deb")
    (root.path / "kvmscope.deb").unlink()
    print(f"installed in {done.wall_s:.0f} s, with what it depends on")
    root.add_user()
    return root


def test_it_installs_with_what_it_depends_on(installed: CleanRoot) -> None:
    assert "Commands:" in installed.run("kvmscope --help").stdout
    assert installed.run("dpkg --audit").stdout == ""


def test_root_sees_the_vms_of_the_host(installed: CleanRoot) -> None:
    if not Path("/dev/kvm").exists():
        pytest.skip("/dev/kvm cannot be opened")
    status = installed.run("""
        kvmscope lab run --workload halt --name clean --for 60s >/dev/null & guest=$!
        until kvmscope list --vms | grep -q clean-0; do :; done
        kvmscope status --json --interval 1s
        kill $guest; wait $guest""").stdout
    (seen,) = (vm for vm in json.loads(status)["vms"] if vm["name"] == "clean-0")
    assert seen["vmm"] == "kvmscope-lab"
    assert seen["metrics"]["halts_per_s"] > 0
    assert "bpf        yes" in installed.run("kvmscope check").stdout


def test_a_user_is_told_what_would_help(installed: CleanRoot) -> None:
    assert "as root: kvmscope attach" in installed.run("kvmscope check", user=USER, expect=NO_SOURCE).stdout


@pytest.mark.parametrize("module", ["textual", "starlette", "uvicorn", "bcrypt", "yaml", "pyarrow.parquet", "duckdb"])
def test_it_carries_what_its_commands_need(installed: CleanRoot, module: str) -> None:
    shown = installed.run(f"{LIBRARY}/bin/python3 -I -c 'import {module}; print({module}.__file__)'").stdout
    assert shown.startswith(f"{LIBRARY}/lib/")


def test_modules_of_users_change_nothing_of_what_runs(installed: CleanRoot) -> None:
    done = installed.run("""
        mkdir -p evil && echo 'raise SystemExit("not ours")' > evil/click.py
        cd evil && PYTHONPATH=$PWD kvmscope --version""")
    assert done.stdout.startswith("kvmscope ")


def test_it_records_and_looks_back(installed: CleanRoot) -> None:
    installed.run("kvmscope record /tmp/recording --for 2s --interval 500ms")
    assert installed.run("kvmscope status --from /tmp/recording --json").stdout.startswith("{")
    installed.run("kvmscope snapshot /tmp/snapshot.zip && kvmscope status --from /tmp/snapshot.zip")


def test_every_page_of_the_manual_is_there(installed: CleanRoot) -> None:
    installed.run("apt-get install -y -qq --no-install-recommends man-db")
    assert "Are interrupts accelerated" in installed.run("man kvmscope-apicv").stdout
    assert len(installed.run("man -k ^kvmscope").stdout.splitlines()) == len(
        installed.holds("/usr/share/man/man1/kvmscope*")
    )


@pytest.mark.parametrize(
    ("words", "position", "offered"), [("kvmscope re", 1, "read"), ("kvmscope read --so", 2, "--source")]
)
def test_bash_completes(installed: CleanRoot, words: str, position: int, offered: str) -> None:
    (installed.path / "tmp/complete").write_text(COMPLETE % (words, position), encoding="utf-8")
    assert offered in installed.run("bash /tmp/complete").stdout.split()


def test_fish_and_zsh_complete(installed: CleanRoot) -> None:
    installed.run("apt-get install -y -qq --no-install-recommends fish zsh")
    offered = installed.run("fish -c \"complete -C 'kvmscope re'\"").stdout
    assert {line.partition("\t")[0] for line in offered.splitlines()} == {"read", "record", "replay", "report"}
    known = installed.run("zsh -fc 'autoload -Uz compinit && compinit -u -D && print $_comps[kvmscope]'").stdout
    assert known.startswith("_kvmscope")


def test_services_are_there_and_off(installed: CleanRoot) -> None:
    installed.run("apt-get install -y -qq --no-install-recommends systemd")
    units = sorted(Path(name).name for name in installed.holds("/usr/lib/systemd/system/kvmscope-*"))
    assert units == sorted(path.name for path in (PROJECT / "contrib/systemd").iterdir())
    assert not installed.holds("/etc/systemd/system/**/kvmscope*")
    installed.run(f"systemd-analyze verify --man=no {' '.join(units)}")
    installed.run("systemd-sysusers /usr/lib/sysusers.d/kvmscope.conf && id kvmscope")


def test_sos_takes_its_plugin(installed: CleanRoot) -> None:
    installed.run("apt-get install -y -qq --no-install-recommends sosreport xz-utils")
    installed.run("sos report --batch -o kvmscope --tmp-dir /tmp")
    (archive,) = installed.holds("/tmp/sosreport-*.tar.xz")
    names = installed.run(f"tar --list --file={archive}").stdout
    assert "sos_commands/kvmscope/snapshot.zip" in names


def test_it_goes_without_a_trace(installed: CleanRoot) -> None:
    installed.run("apt-get purge -y -qq kvmscope")
    assert not installed.holds(LIBRARY)
    assert not installed.holds("/usr/**/*kvmscope*")
