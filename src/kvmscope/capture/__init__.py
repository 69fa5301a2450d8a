"""Episodes while a host is recorded: judges each scene beside the recorder and keeps those around findings.

Not here: the files (``store.episodes``), the rules (``view.watch``), and how a host is opened, which is passed in.
"""
