"""The plugin for sos, loaded by the sos that this machine has."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PLUGIN = Path(__file__).parents[2] / "contrib/sos/kvmscope.py"
DEBIAN = Path("/usr/lib/python3/dist-packages")


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    if importlib.util.find_spec("sos") is None:
        if not (DEBIAN / "sos").is_dir():
            pytest.skip("sos is not installed: apt install sosreport")
        monkeypatch.syspath_prepend(str(DEBIAN))
    pytest.importorskip("sos.report.plugins", reason="this sos is not the one that reports")
    spec = importlib.util.spec_from_file_location("sos.report.plugins.kvmscope", PLUGIN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def commands_of(plugin: ModuleType, place: Path, *, anonymise: bool) -> list[str]:
    """What the plugin would have sos run."""
    from sos.report.plugins import import_plugin  # type: ignore[import-not-found]

    assert import_plugin is not None
    made = plugin.Kvmscope.__new__(plugin.Kvmscope)
    asked: list[str] = []

    def note(command: str, **_: Any) -> None:
        asked.append(command)

    made.add_cmd_output = note
    made.get_cmd_output_path = lambda: str(place)
    made.get_option = lambda name: anonymise and name == "anonymise"
    made.setup()
    return asked


def test_it_is_a_plugin_that_sos_takes(plugin: ModuleType) -> None:
    from sos.report.plugins import IndependentPlugin, Plugin

    assert issubclass(plugin.Kvmscope, Plugin)
    assert issubclass(plugin.Kvmscope, IndependentPlugin)
    assert plugin.Kvmscope.commands == ("kvmscope",)
    assert len(plugin.Kvmscope.option_list) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # sos leaves a pipe open
def test_the_policy_of_this_distribution_takes_it(plugin: ModuleType) -> None:
    from sos import policies  # type: ignore[import-not-found]

    policy = policies.load(sysroot="/")
    assert issubclass(plugin.Kvmscope, tuple(policy.valid_subclasses))
    assert policy.validate_plugin(plugin.Kvmscope)


@pytest.mark.parametrize("anonymise", [False, True])
def test_what_it_runs_makes_a_snapshot_that_is_read_back(
    plugin: ModuleType, kvmscope: Any, crafted: Any, tmp_path: Path, anonymise: bool
) -> None:
    command, *others = commands_of(plugin, tmp_path, anonymise=anonymise)
    assert bool(others) is not anonymise
    samples = [crafted.before, crafted.middle, crafted.after]
    made = kvmscope.run(*command.split()[1:], "--interval", "1ms", on=samples)
    assert made.exit_code == 0, made.output
    shown = kvmscope.run("status", "--from", str(tmp_path / "snapshot.zip"))
    assert shown.exit_code == 0
    assert ("web-1" in shown.stdout) is not anonymise


def test_sos_lists_it(plugin: ModuleType) -> None:
    assert plugin.__name__ == "sos.report.plugins.kvmscope"
    assert "sos" in sys.modules
