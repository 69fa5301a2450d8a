"""Small real guests that do a known number of things, to test and to show kvmscope on.

Nothing below ``cli`` imports this room: it makes VMs, the rest of kvmscope only reads them.
"""
