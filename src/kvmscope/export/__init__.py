"""What kvmscope knows of a host, for monitoring systems: Prometheus text, OpenMetrics, protobuf, OTLP.

Here are names, labels and bytes. Sums, rates and verdicts come from ``analysis`` and ``view``; ``web`` and ``cli`` ask
for the bytes.
"""
