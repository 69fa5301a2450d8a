"""Episodes of a host that is being recorded: judges each scene beside the recorder and keeps scenes around findings.

Elsewhere: the files (``store.episodes``), the rules (``view.watch``), and opening a host, which is passed in.
"""
