"""Facts about this host and its processes: the VMMs, their configuration, and the kernel.

Reads /proc, /sys and libvirt's XML, each under a root that is passed in; reads no statistics and writes nothing.
Names that come from here are untrusted text: a terminal gets them through ``text.printable`` alone.
"""
