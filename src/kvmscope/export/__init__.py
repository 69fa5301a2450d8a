"""Export of a host's data to monitoring systems: Prometheus text, OpenMetrics, protobuf, OTLP.

This package makes names, labels and bytes. Sums, rates and verdicts come from ``analysis`` and ``view``; ``web`` and
``cli`` use the bytes.
"""
