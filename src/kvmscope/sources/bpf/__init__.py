"""The default source: one BPF iterator that reads every VM and vCPU of the host in one run.

``kvmscope.bpf.c`` is the program and ``snapshot.h`` the format of its output in memory; ``libbpf`` loads it, ``arena``
reads its output, ``source`` makes samples of that, and ``pins`` keeps it loaded for unprivileged users.
"""
