"""Keeps a gateway running, bounded and observed: queue, isolation, supervision, Prometheus metrics, counts of its answers."""
