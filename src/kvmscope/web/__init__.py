"""The output for browsers: the server of ``kvmscope serve``, and the page of ``kvmscope report``.

``server`` has connections, security and routes; ``page`` has the files that a browser loads from it; ``report`` makes a
file that needs no server. The content comes from ``view`` and ``export``.
"""
