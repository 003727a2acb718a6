"""Questions over HTTP with time for an answer on a busy machine: httpx itself gives up after five seconds."""

import contextlib
import time
from collections.abc import Callable
from typing import Any

import httpx

PATIENCE = 600
"""Seconds to wait for what comes in well under one on an idle machine: a guard against hanging, never a measure."""


def get(url: str, **options: Any) -> httpx.Response:
    return httpx.get(url, timeout=PATIENCE, **options)


def post(url: str, **options: Any) -> httpx.Response:
    return httpx.post(url, timeout=PATIENCE, **options)


def wait_until(holds: Callable[[], bool]) -> None:
    """Ask again and again, until it holds; no connection counts as no."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(httpx.TransportError):
            if holds():
                return
        assert time.monotonic() < deadline
        time.sleep(0.05)
