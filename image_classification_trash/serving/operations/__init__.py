"""What keeps a gateway running: the worker pool, Prometheus metrics, the log of predictions."""
