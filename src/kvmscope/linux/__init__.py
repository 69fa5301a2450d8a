"""Queries to the kernel, each in one place: /proc, /sys, pidfds, memfds, BTF, KVM's modules, libc.

Every reader of a file takes its root as an argument and so reads a captured tree as well. Nothing here reads
statistics, knows of VMs, or interprets what it read. ``facts`` has the values that the others give, and does no I/O.
"""
