"""What every test shares. tests/support has it, by what it is about."""

import os

pytest_plugins = ["crafted", "machine", "newer_qemu", "processes", "reported", "skips", "turns", "sharing"]

# Some tests run commands on a terminal of their own; this may be a machine whose jobs have none, or a dumb one.
os.environ["TERM"] = "xterm-256color"
