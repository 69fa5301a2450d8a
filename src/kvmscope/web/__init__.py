"""What a browser shows: the server of ``kvmscope serve``, and the page of ``kvmscope report``.

``server`` has connections, security and routes; ``page`` what a browser loads from it; ``report`` a file without a
server. What is shown comes from ``view`` and ``export``.
"""
