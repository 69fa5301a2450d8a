"""What is known of this host and of the processes on it: who the VMMs are, how they are configured, what the kernel is.

Reads /proc, /sys and libvirt's XML, each under a root that is passed in; reads no statistics and writes nothing.
Names that come from here are untrusted text: a terminal gets them through ``text.printable`` alone.
"""
