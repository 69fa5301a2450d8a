"""Facts about this host and its processes: the VMMs, their configuration, and the kernel.

Reads /proc, /sys and libvirt's XML, each under a root passed as an argument; reads no statistics and writes nothing.
Names from here are untrusted text: they are printed to a terminal only through ``text.printable``.
"""
