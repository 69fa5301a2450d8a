"""Bytes to values and back, without I/O, clocks or globals.

``statsfile``: the file behind KVM_GET_STATS_FD; ``publication``: the block that a publisher adds to it. ``snapshot``:
the output of the BPF iterator in memory; ``apicv``: its words on interrupt acceleration.
``qmp``: QEMU's query-stats.
"""
