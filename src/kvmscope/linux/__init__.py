"""Queries to the kernel, each in one place: /proc, /sys, pidfds, memfds, BTF, KVM's modules, libc.

Every reader of a file takes its root as an argument, so it can read a captured tree as well. Nothing here reads
statistics, knows about VMs, or interprets data. ``facts`` has the value types of the others, and does no I/O.
"""
