"""Measure how long other requests wait while a gateway reads large bodies: polls of /healthz beside each kind of body.

    python scripts/bench_event_loop.py --seconds 4

Polls run in a process of their own, over one connection; the gateway serves the shipped model with its default settings.
Another body is sent as soon as the one before it is answered. Client and server share the cores.
"""

import argparse
import base64
import http.client
import io
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image
from watched_gateway import gateway

LARGEST = 31_000_000
"""Bytes, just below the limit on a body of 32 MiB."""


@dataclass(frozen=True)
class Body:
    """A large body, and where it is sent."""

    name: str
    data: bytes
    media_type: str = "application/json"
    path: str = "/predict"


def bodies() -> Iterator[Body]:
    """Yield bodies that a gateway reads in different ways."""
    noise = np.random.default_rng(0).integers(0, 255, (2200, 3000, 3), dtype=np.uint8)
    with io.BytesIO() as file:
        Image.fromarray(noise).save(file, "PNG", compress_level=0)
        png = file.getvalue()
    form = (
        b'--b\r\nContent-Disposition: form-data; name="photos"; filename="a.png"\r\n\r\n'
        + png
        + b"\r\n--b--\r\n"
    )
    pixels = np.random.default_rng(0).integers(0, 255, (16, 224, 288, 3), dtype=np.uint8).tolist()
    yield Body("no photo, base64", as_base64(random.Random(0).randbytes(LARGEST * 3 // 4)))
    yield Body("photo, base64", as_base64(png))
    yield Body("photo", png, "image/png")
    yield Body("photo in a form", form, "multipart/form-data; boundary=b")
    yield Body("pixels in lists", json.dumps({"instances": pixels}).encode(), path="/v1/models/trash:predict")
    yield Body("brackets", b"[" * LARGEST)
    yield Body("short strings", b'["' + b'","' * (LARGEST // 3) + b'"]')
    yield Body("escapes", b'{"image":"' + b"\\/" * (LARGEST // 2) + b'"}')


def as_base64(data: bytes) -> bytes:
    return json.dumps({"image": base64.b64encode(data).decode()}).encode()


def poll(port: int, seconds: float) -> list[float]:
    """Poll /healthz for some seconds; return how many milliseconds each answer took."""
    connection, end, taken = http.client.HTTPConnection("127.0.0.1", port), time.monotonic() + seconds, []
    while time.monotonic() < end:
        start = time.perf_counter()
        connection.request("GET", "/healthz")
        connection.getresponse().read()
        taken.append(1000 * (time.perf_counter() - start))
        time.sleep(0.002)
    return taken


def send(port: int, body: Body, until: float) -> list[int]:
    """Send a body again and again; return the statuses of the answers."""
    statuses = []
    while time.monotonic() < until:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("POST", body.path, body.data, {"Content-Type": body.media_type})
        statuses.append(connection.getresponse().status)
        connection.close()
    return statuses


def main() -> None:
    """Measure each kind of body and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--poll", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.poll:
        print(json.dumps(poll(options.poll, options.seconds)))
        return
    print(
        f"{'body':<18} {'MB':>5} {'sent':>5} {'status':>6} {'polls':>6} {'median ms':>10} {'p99':>6} {'most':>6}"
    )
    with gateway(["shipped"]) as running:
        for body in bodies():
            command = [
                sys.executable,
                __file__,
                "--poll",
                str(running.port),
                "--seconds",
                str(options.seconds),
            ]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as polling:
                statuses = send(running.port, body, time.monotonic() + options.seconds)
                taken = sorted(json.loads(polling.communicate()[0]))
            print(
                f"{body.name:<18} {len(body.data) / 1e6:>5.1f} {len(statuses):>5} {'/'.join(map(str, sorted({*statuses}))):>6} "
                f"{len(taken):>6} {statistics.median(taken):>10.1f} {taken[int(0.99 * len(taken))]:>6.1f} {taken[-1]:>6.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
