"""Small real guests that do a known number of things, for tests and demonstrations of kvmscope.

Nothing below ``cli`` imports this package: it makes VMs, the rest of kvmscope only reads them.
"""
