"""Bytes to values and back, without I/O, clocks or globals.

``statsfile``: the file that KVM_GET_STATS_FD hands out. ``snapshot``: what the BPF iterator leaves in memory.
"""
