"""A plugin of sos (sos report, 4.0 or later): one snapshot of KVM's statistics, findings and APICv state.

Install: copy this file to the directory sos/report/plugins of the Python that runs sos, such as
/usr/lib/python3/dist-packages/sos/report/plugins. ``sos report -o kvmscope`` then runs this plugin alone.
``-k kvmscope.anonymise`` replaces names, uuids, paths and ids in the snapshot, which ``sos clean`` cannot look into.

Look at what it collected by ``kvmscope doctor --from sos_commands/kvmscope/snapshot.zip``.
"""

from sos.report.plugins import DebianPlugin, IndependentPlugin, Plugin, UbuntuPlugin

_ANONYMISE = "anonymise"
_ABOUT = "replace names, uuids, paths and ids in the snapshot"

try:
    from sos.report.plugins import PluginOpt
except ImportError:  # sos before 4.2 has its options as tuples
    _OPTIONS = [(_ANONYMISE, _ABOUT, "fast", False)]
else:
    _OPTIONS = [PluginOpt(_ANONYMISE, default=False, desc=_ABOUT)]


class Kvmscope(Plugin, IndependentPlugin, DebianPlugin, UbuntuPlugin):
    """Statistics of KVM, what is wrong with its VMs, and whether their interrupts are accelerated, as one file that
    kvmscope reads. It takes some five seconds and changes nothing on the host.
    """

    # The sos of Debian 12 takes no IndependentPlugin: a plugin has to be its distribution's.

    short_desc = "KVM statistics, findings and APICv state"
    plugin_name = "kvmscope"
    profiles = ("system", "virt")
    packages = ("kvmscope",)
    commands = ("kvmscope",)
    option_list = _OPTIONS

    def setup(self):
        snapshot = f"{self.get_cmd_output_path()}/snapshot.zip"
        option = " --anonymise" if self.get_option(_ANONYMISE) else ""
        self.add_cmd_output(f"kvmscope snapshot {snapshot}{option}", suggest_filename="snapshot_log", timeout=60)
        if not option:
            self.add_cmd_output("kvmscope check", suggest_filename="check", timeout=60)
