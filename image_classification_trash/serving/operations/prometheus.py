"""Measures for Prometheus: requests by route and status, seconds by step, the length of the queue.

Several workers write their counts to files in the folder that PROMETHEUS_MULTIPROC_DIR names, and the worker that answers
/metrics adds them up. `server.py` sets that variable before a worker starts.
"""

import os
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """The metrics of one worker."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "trash_requests", "Requests answered.", ["route", "status"], registry=self._registry
        )
        self.steps = Histogram(
            "trash_step_seconds", "Seconds by step: fetch, decode, infer of each photo; total of each request.",
            ["step"], buckets=_SECONDS, registry=self._registry,
        )  # fmt: skip
        self.waiting = Gauge(
            "trash_queue_length", "Photos that wait for the model.", registry=self._registry,
            multiprocess_mode="livesum",
        )  # fmt: skip
        self.held = Gauge(
            "trash_requests_held", "Requests being received or answered.", registry=self._registry,
            multiprocess_mode="livesum",
        )  # fmt: skip

    def text(self) -> bytes:
        """Return all metrics in Prometheus's text format, summed over the workers."""
        folder = os.environ.get(FOLDER)
        if not folder:
            return bytes(generate_latest(self._registry))
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return bytes(generate_latest(together))

    def close(self) -> None:
        """Remove this worker's gauges from the sum over the workers."""
        forget_worker(os.getpid())


def forget_worker(pid: int) -> None:
    """Remove the gauges of a worker that has ended from the sum over the workers; its counts stay."""
    if Path(os.environ.get(FOLDER, "")).is_absolute():
        mark_process_dead(pid)  # type: ignore[no-untyped-call]
