"""Keeps a gateway running and observed: the worker pool, Prometheus metrics, counts of its answers."""
