"""The default source: one BPF iterator that reads every VM and vCPU of the host in one run.

``kvmscope.bpf.c`` is the program and ``snapshot.h`` what it leaves in memory; ``libbpf`` loads it, ``arena`` reads what
it left, ``source`` makes samples of it, and ``pins`` keeps it loaded for users without privileges.
"""
