"""The server of ``kvmscope serve``: metrics, API and page over HTTP, read-only.

``server`` has connections, security and routes; ``page`` what a browser loads. What is answered comes from ``view`` and
``export``.
"""
