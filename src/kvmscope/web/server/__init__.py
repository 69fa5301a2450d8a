"""Connections, security, routes, and the host that is watched for them."""
