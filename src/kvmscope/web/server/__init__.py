"""Connections, security, routes, and the watched host behind them."""
