"""Bytes to values and back, without I/O, clocks or globals.

``statsfile``: the file that KVM_GET_STATS_FD hands out, and ``publication`` what a publisher adds to it.
``snapshot``: what the BPF iterator leaves in memory, and ``apicv`` its words on interrupt acceleration.
``qmp``: QEMU's query-stats.
"""
