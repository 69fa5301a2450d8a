"""What every test shares. tests/support has it, by what it is about."""

pytest_plugins = ["crafted", "machine", "newer_qemu", "processes", "reported", "skips", "turns", "sharing"]
