"""Throws requests at a gateway: each gets one whole answer with a stated status, none crashes it, none makes it fail.

    python scripts/fuzz_requests.py --seconds 1200

The gateway is started here, on loopback, with the shipped model. Requests are made for every route and protocol: methods,
headers, photos, forms, JSON, base64 and encodings, good ones and odd ones; then some are changed byte by byte, cut, or
framed wrongly. Checked are the status, the headers, the JSON (finite, its probabilities sum to 1), that errors have
their form, that the gateway says nothing of a fault, and its memory. A finding is printed with the seed and its number,
and its bytes are kept: `nc 127.0.0.1 8080 < FILE` sends them again.
"""

import argparse
import base64
import gzip
import http.client
import json
import math
import random
import re
import socket
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fuzz_photos
from watched_gateway import Gateway, gateway

ROOT = Path(__file__).parents[1]
STATED = {200, 206, 304, 307, 400, 401, 404, 405, 408, 413, 415, 416, 421, 422, 429, 431, 503, 504}
"""Not 500 and not 502: nothing that a stranger sends is a fault of the gateway, and there is no model server."""
WAIT = 300
"""Seconds for an answer: a guard against hanging, never a measure."""
STATES = [
    "/", "/healthz", "/readyz", "/metrics", "/docs", "/openapi.json", "/model.json", "/model.tflite", "/web/worker.js",
    "/web/../../pyproject.toml", "/web/%2e%2e/page.html", "/v1/models/trash", "/v1/models/trash/metadata",
    "/v1/models/trash/versions/1", "/v1/models/trash/labels/stable", "/v1/models/other", "/v2", "/v2/", "/v2/health/live",
    "/v2/health/ready", "/v2/models/trash", "/v2/models/trash/ready", "/v2/models/trash/versions/1", "/v2/models/trash/versions/2",
    "/predict/", "//predict", "/PREDICT", "/\xff", "/%00", "/?" + "a=b&" * 500, "/" + "a/" * 1000, "*", "http://other.invalid/healthz",
]  # fmt: skip
TENSORFLOW = [
    "/v1/models/trash:predict",
    "/v1/models/trash/versions/1:predict",
    "/v1/models/trash/labels/production:predict",
]
INFER = ["/v2/models/trash/infer", "/v2/models/trash/versions/1/infer"]
METHODS = ["POST"] * 8 + ["GET", "HEAD", "PUT", "OPTIONS", "DELETE", "TRACE", "PATCH", "FOO", "post"]
TYPES = ["application/json"] * 4 + [
    "image/jpeg", "image/png", "multipart/form-data", "multipart/form-data; boundary=", "text/plain", "", "application/json; charset=utf-8",
    "application/json; charset=utf-7", "application/json;charset=\"utf-8\"", "image/*", "APPLICATION/JSON", "a" * 5000, "application/x-www-form-urlencoded",
]  # fmt: skip
NUMBERS = [
    0,
    -0.0,
    1,
    -1,
    255,
    256,
    2**63,
    -(2**64),
    1e308,
    10**400,
    0.5,
    True,
    None,
    "1",
    float("nan"),
    float("inf"),
    [],
    {},
]
TEXTS = [
    "",
    "a",
    "\ud800",
    "\x00",
    "é" * 300,
    "../../etc/passwd",
    "<script>",
    "=1+1",
    "b64",
    "%s%n",
    "a" * 70_000,
]
URLS = [
    "http://127.0.0.1/", "http://localhost:1/a.jpg", "http://[::1]/", "http://2130706433/", "http://127.1/", "file:///etc/passwd",
    "http://no-such-host.invalid/a.jpg", "http://a b/", "http://\ud800/", "ftp://127.0.0.1/", "http://", "http://user:pass@127.0.0.1/",
    "http://127.0.0.1:99999/", "http://" + "a" * 300 + ".invalid/", "javascript:1", "//127.0.0.1/", "http://xn--a.invalid/",
]  # fmt: skip
HOSTS = ["x", "evil.invalid", "[::1]:80", "localhost", "a" * 300, "127.0.0.1:99999", "a b", ""]
HEADERS = [
    "Origin: http://other.invalid", "Accept-Encoding: gzip", "X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: https", "Range: bytes=0-5",
    "Range: bytes=9-1,,-", "If-None-Match: *", "Accept: text/html", "Accept: application/xml", "Connection: close", "Connection: upgrade",
    "Upgrade: websocket", "Upgrade: h2c", "Cookie: a=" + "b" * 3000, "X: " + "y" * 30_000, "Expect: 100-continue", "Inference-Header-Content-Length: 5",
    "Access-Control-Request-Method: POST", "X-HTTP-Method-Override: DELETE", "Authorization: Bearer x", "If-Modified-Since: yesterday", "Content-Encoding: br",
]  # fmt: skip


@dataclass(frozen=True)
class Sent:
    """The bytes of a request.

    Attributes:
        method: as the answer depends on it: HEAD has no body.
        whole: whether it is framed as HTTP asks, so that an answer is due.
    """

    data: bytes
    method: str
    whole: bool


@dataclass
class Found:
    """What came back."""

    statuses: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=1200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument(
        "--mebibytes", type=float, default=512, help="that the gateway may hold, all processes together"
    )
    parser.add_argument(
        "--keep", type=Path, default=Path("reports/fuzz_requests"), help="where failing requests go"
    )
    parser.add_argument("--serve", default="", help="further settings of the gateway, such as '--workers 2'")
    options = parser.parse_args()
    photos = fuzz_photos.seed_photos()
    found = Found()
    with gateway(["shipped", "--upload-seconds", "10", *options.serve.split()]) as running:
        until = time.monotonic() + options.seconds
        clients = [
            threading.Thread(
                target=client, args=(number, until, running, options, photos, found), daemon=True
            )
            for number in range(options.clients)
        ]
        for thread in clients:
            thread.start()
        most = watch(clients, running)
        found.findings += at_the_end(running, most, options)
    counts = ", ".join(f"{count} {status}" for status, count in found.statuses.most_common())
    print(f"seed {options.seed}, {found.statuses.total()} requests: {counts}")
    print(f"most memory of the gateway: {most:.0f} MiB; {len(found.findings)} findings")
    print("\n".join(found.findings[:20]), end="\n" if found.findings else "")
    return 1 if found.findings else 0


def client(
    number: int,
    until: float,
    running: Gateway,
    options: argparse.Namespace,
    photos: list[bytes],
    found: Found,
) -> None:
    """Send one request after another, each over a connection of its own."""
    turn = 0
    while time.monotonic() < until and running.process.poll() is None:
        turn += 1
        name = f"{options.seed} {number} {turn}"
        sent = request(random.Random(name), photos)
        outcome = exchange(running.port, sent)
        status, _, fault = outcome.partition(": ")
        found.statuses[status] += 1
        if fault:
            options.keep.mkdir(parents=True, exist_ok=True)
            path = options.keep / f"{name.replace(' ', '_')}.http"
            path.write_bytes(sent.data)
            found.findings.append(f"{name}: {outcome} ({path})")


def watch(clients: Sequence[threading.Thread], running: Gateway) -> float:
    """Wait for the clients; the most MiB that the gateway held."""
    most = 0.0
    while any(thread.is_alive() for thread in clients):
        most = max(most, running.mebibytes())
        time.sleep(0.5)
    return most


def at_the_end(running: Gateway, most: float, options: argparse.Namespace) -> list[str]:
    """Whether the gateway still answers, stayed within its memory, and said nothing of a fault."""
    findings, limit, keep = [], options.mebibytes, options.keep
    if running.process.poll() is not None:
        findings.append(f"the gateway ended with {running.process.returncode}")
    elif (
        exchange(running.port, Sent(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "GET", True)) != "200"
    ):
        findings.append("the gateway is not ready at the end")
    if most > limit:
        findings.append(f"the gateway held {most:.0f} MiB, more than {limit:.0f}")
    said = running.said()
    errors = re.findall(r"^\w+(?:\.\w+)*(?:Error|Exception)\b.*", said, re.MULTILINE)
    findings += [f"the gateway's log has {count} times: {error}" for error, count in Counter(errors).items()]
    if "Traceback" in said:
        keep.mkdir(parents=True, exist_ok=True)
        (keep / "gateway.log").write_text(said, encoding="utf-8")
        findings.append(f"the gateway's log has a traceback ({keep / 'gateway.log'})")
    if len(said) > 2**20:
        findings.append(f"the gateway's log has {len(said)} characters")
    return findings


def exchange(port: int, sent: Sent) -> str:
    """Send a request: `STATUS`, `no answer` where none is due, or one of them with a finding behind `: `."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as connection:
            try:
                connection.sendall(sent.data)
                if not sent.whole:
                    connection.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # refused before all was sent: the answer says so
            answer = http.client.HTTPResponse(connection, method=sent.method)
            try:
                answer.begin()
                body = answer.read()
            except (http.client.HTTPException, OSError, ValueError) as error:
                if isinstance(error, TimeoutError):
                    return f"no answer: within {WAIT} seconds"
                return f"no answer: {error!r}" if sent.whole else "no answer"
    except OSError as error:
        return f"no connection: {error!r}"
    fault = fault_of(answer, body, sent.method)
    return f"{answer.status}: {fault}" if fault else str(answer.status)


def fault_of(answer: http.client.HTTPResponse, body: bytes, method: str) -> str:
    """What is wrong with an answer; empty: nothing."""
    if answer.status not in STATED:
        return f"not a stated status: {body[:300]!r}"
    if answer.status == 400 and answer.getheader("Date") is None:  # the HTTP server's own, before the gateway
        return ""
    if answer.getheader("X-Content-Type-Options") != "nosniff":
        return "no security headers"
    if method == "HEAD" or "json" not in (answer.getheader("Content-Type") or ""):
        return ""
    return fault_of_json(answer.status, body)


def fault_of_json(status: int, body: bytes) -> str:
    try:
        value = json.loads(body, parse_constant=_refuse)
    except ValueError as error:
        return f"no JSON: {error}, {body[:300]!r}"
    if status >= 400:
        good = isinstance(value, dict) and error_text(value.get("error"))
        return "" if good else f"an error without form: {body[:300]!r}"
    return "" if all(map(is_distribution, rows_of(value))) else f"no probabilities: {body[:500]!r}"


def _refuse(name: str) -> None:
    raise ValueError(name)


def error_text(error: Any) -> bool:
    """Whether an error says something: a sentence, or a code and a sentence."""
    return bool(error) and (
        isinstance(error, str) or (isinstance(error, dict) and bool(error["code"] and error["message"]))
    )


def rows_of(value: Any) -> list[list[float]]:
    """The probabilities in an answer of any protocol, a row for each photo."""
    if not isinstance(value, dict):
        return []
    if "outputs" in value and "model_version" in value:
        (output,) = value["outputs"]
        width = output["shape"][1] if "shape" in output and "data" in output else 0
        data = output.get("data", [])
        return [data[start : start + width] for start in range(0, len(data), width)] if width else []
    rows = value.get("predictions", [])
    return [
        [entry["probability"] for entry in row["probabilities"]] if isinstance(row, dict) else row
        for row in rows
        if not (isinstance(row, dict) and row.get("error"))
    ]


def is_distribution(row: list[float]) -> bool:
    return all(math.isfinite(value) and 0 <= value <= 1 for value in row) and abs(sum(row) - 1) < 0.01


def request(choose: random.Random, photos: list[bytes]) -> Sent:
    """One request, good or bad."""
    kind = choose.choice([*BODIES])
    paths, make = BODIES[kind]
    content_type, body = make(choose, photos)
    host = choose.choice(HOSTS) if choose.random() < 0.1 else "127.0.0.1"
    headers = [f"Host: {host}"]
    if choose.random() < 0.15:
        body = changed(choose, body)
    if choose.random() < 0.15:
        content_type = choose.choice(TYPES)
    if content_type:
        headers.append(f"Content-Type: {content_type}")
    if choose.random() < 0.15:
        encoding, body = encoded(choose, body)
        headers.append(f"Content-Encoding: {encoding}")
    headers += [choose.choice(HEADERS) for _ in range(choose.choice((0, 0, 0, 1, 1, 3)))]
    method = choose.choice(METHODS) if choose.random() < 0.3 or kind == "state" else "POST"
    method = "GET" if kind == "state" and choose.random() < 0.6 else method
    return framed(choose, method, choose.choice(paths), headers, body)


def framed(choose: random.Random, method: str, path: str, headers: list[str], body: bytes) -> Sent:
    """A request's bytes: with a length, in chunks, or wrongly."""
    way = choose.choice(
        ("length",) * 12
        + ("chunks",) * 4
        + ("short", "both", "two lengths", "no length", "broken", "long lines")
    )
    whole = way in ("length", "chunks")
    if way == "chunks":
        headers.append("Transfer-Encoding: chunked")
        size = choose.choice((1, 100, 65_536)) if len(body) < 2000 else 65_536
        pieces = [body[start : start + size] for start in range(0, len(body), size)]
        body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    elif way == "both":
        headers += ["Transfer-Encoding: chunked", f"Content-Length: {len(body)}"]
    elif way == "two lengths":
        headers += [f"Content-Length: {len(body)}", f"Content-Length: {choose.choice((0, len(body) + 1))}"]
    elif way == "broken":
        headers.insert(
            0,
            choose.choice(
                (
                    " folded",
                    "no colon",
                    "\x00: a",
                    "Content-Length: -1",
                    "Content-Length: 1e3",
                    "Transfer-Encoding: x",
                )
            ),
        )
    elif way == "long lines":
        headers.append("A: " + "b" * choose.choice((10_000, 100_000)))
    if way in ("length", "short", "broken", "long lines"):
        headers.append(f"Content-Length: {len(body) + (choose.randrange(1, 999) if way == 'short' else 0)}")
    head = "\r\n".join([f"{method} {path} HTTP/1.1", *headers, "", ""]).encode("utf-8", "surrogatepass")
    if choose.random() < 0.03:
        head, whole = changed(choose, head), False
    if (
        any(text in head for text in (b"\xff", b"\xc3", b"Upgrade", b"Expect", b" *", b"\r\nX: "))
        or method == "post"
    ):
        whole = False  # no answer is due to what is no HTTP, and none to a protocol that is not spoken
    return Sent(head + body, method, whole)


def photo(choose: random.Random, photos: list[bytes]) -> bytes:
    """A photo, good, damaged or none, or a small bomb."""
    way = choose.randrange(10)
    if way < 4:
        return choose.choice(photos)
    if way < 8:
        return fuzz_photos.damaged(choose, photos)
    return choose.choice(
        (b"", b"no photo", choose.randbytes(100), fuzz_photos.made_bomb(choose.choice(SMALL_BOMBS)))
    )


def a_photo(choose: random.Random, photos: list[bytes]) -> tuple[str, bytes]:
    return choose.choice(("image/jpeg", "image/png", "image/webp", "image/*", "image/jpeg; a=b")), photo(
        choose, photos
    )


def a_form(choose: random.Random, photos: list[bytes]) -> tuple[str, bytes]:
    """Files and fields, in a form of one to twenty parts."""
    boundary = choose.choice(("b", "-" * 40, "a b", "é", "x" * 200))
    parts = []
    for _ in range(choose.choice((0, 1, 1, 1, 2, 4, 20))):
        name = choose.choice(
            (
                'name="photos"',
                'name="a"; filename="p.jpg"',
                'name="a"; filename=""',
                "filename*=UTF-8''%ff",
                f'name="{choose.choice(TEXTS)[:999]}"; filename="x"',
                "",
            )
        )
        more = choose.choice(
            (
                "",
                "\r\nContent-Type: image/jpeg",
                "\r\nContent-Type: text/plain",
                "\r\nContent-Transfer-Encoding: base64",
                "\r\n" + "A: b\r\n" * 30 + "C: d",
            )
        )
        head = f"--{boundary}\r\nContent-Disposition: form-data; {name}{more}\r\n\r\n"
        parts.append(head.encode("utf-8", "surrogatepass") + photo(choose, photos) + b"\r\n")
    end = choose.choice(("--\r\n", "--\r\n", "--\r\n", "", "\r\n", "--junk"))
    body = b"".join(parts) + f"--{boundary}{end}".encode()
    return choose.choice(
        (f"multipart/form-data; boundary={boundary}", f'multipart/form-data; boundary="{boundary}"')
    ), body


def a_body(choose: random.Random, photos: list[bytes]) -> tuple[str, bytes]:
    """JSON for /predict."""
    value: Any = choose.choice((
        {"image": text(choose, photos)}, {"image": text(choose, photos)}, {"url": choose.choice(URLS)}, odd(choose, 3),
        {"image": odd(choose, 2)}, {"url": odd(choose, 2)}, {"image": text(choose, photos), "url": choose.choice(URLS)},
    ))  # fmt: skip
    return "application/json", as_json(choose, value)


def instances(choose: random.Random, photos: list[bytes]) -> tuple[str, bytes]:
    """TensorFlow Serving's JSON."""
    count = choose.choice((0, 1, 1, 2, 17))
    rows = [
        choose.choice(
            (
                {"b64": text(choose, photos)},
                {"image_bytes": {"b64": text(choose, photos)}},
                pixels(choose),
                odd(choose, 2),
            )
        )
        for _ in range(count)
    ]
    value: dict[str, Any] = {choose.choice(("instances", "instances", "inputs", "a")): rows}
    if choose.random() < 0.3:
        value["signature_name"] = choose.choice(("serving_default", "serving_bytes", "other", odd(choose, 1)))
    return choose.choice(("application/json", "", "text/plain")), as_json(choose, value)


def tensors(choose: random.Random, photos: list[bytes]) -> tuple[str, bytes]:
    """The Open Inference Protocol's JSON."""
    data: Any = choose.choice(
        ([text(choose, photos)], [text(choose, photos)], pixels(choose), odd(choose, 2))
    )
    tensor = {
        "name": choose.choice(("images", "image_bytes", "image_bytes", "other", odd(choose, 1))),
        "datatype": choose.choice(("UINT8", "BYTES", "BYTES", "FP32", odd(choose, 1))),
        "shape": choose.choice(([1], [1], [1, 4, 4, 3], [0], [-1], [2**62, 4], [17], odd(choose, 1))),
        "data": data,
    }
    value = {"inputs": [tensor] * choose.choice((1, 1, 1, 0, 2)), "id": choose.choice(("a", *TEXTS, None, 3))}
    return choose.choice(("application/json", "application/octet-stream")), as_json(choose, value)


def nothing(choose: random.Random, photos: list[bytes]) -> tuple[str, bytes]:
    return "", choose.choice((b"", b"", b"", b"body", photo(choose, photos)))


def text(choose: random.Random, photos: list[bytes]) -> Any:
    """A photo in base64, in a form that clients send, or damaged."""
    plain = base64.b64encode(photo(choose, photos)).decode()
    return choose.choice((
        plain, plain, plain.rstrip("="), plain.replace("+", "-").replace("/", "_"), "data:image/jpeg;base64," + plain, "data:," + plain,
        "\n".join(plain[start : start + 76] for start in range(0, len(plain), 76)), plain[:-5] + "!", "=" + plain, plain + "é", choose.choice(TEXTS),
    ))  # fmt: skip


def pixels(choose: random.Random) -> Any:
    """Nested lists of numbers, mostly of a wrong shape."""
    height, width = choose.choice(((4, 4), (256, 320), (1, 2), (0, 0)))
    number = choose.choice((7, 7, 255, 256, -1, 0.5, None, "a", 2**70))
    rows: list[Any] = [[[number] * 3] * width] * height
    return choose.choice((rows, rows, [*rows, [1]], [number] * 48))


def odd(choose: random.Random, depth: int) -> Any:
    """Any JSON."""
    if depth == 0 or choose.random() < 0.3:
        return choose.choice([*NUMBERS, *TEXTS])
    inner = [odd(choose, depth - 1) for _ in range(choose.choice((0, 1, 3)))]
    return choose.choice((inner, {choose.choice(TEXTS)[:100]: value for value in inner}, [[[[inner]]]]))


def as_json(choose: random.Random, value: Any) -> bytes:
    """JSON in one of its spellings, or in none; or brackets alone."""
    if choose.random() < 0.03:
        return choose.choice(
            (
                b"[" * 100_000,
                b'{"a":' * 50_000,
                b"[[]" + b",[]" * 200_000 + b"]",
                b'"' + b"\\" * 99_999,
                b"1" * 10_000,
            )
        )
    written = json.dumps(value, ensure_ascii=choose.random() < 0.7).encode("utf-8", "surrogatepass")
    return (
        choose.choice((b"", b"", b"", b"\xef\xbb\xbf", b"  \n"))
        + written
        + choose.choice((b"", b"", b"", b"\n", b" x"))
    )


def encoded(choose: random.Random, body: bytes) -> tuple[str, bytes]:
    """A content encoding, and the body in it or in another."""
    ways: dict[str, Callable[[bytes], bytes]] = {
        "gzip": gzip.compress,
        "deflate": zlib.compress,
        "identity": bytes,
        "x-gzip": gzip.compress,
    }
    name = choose.choice([*ways])
    if choose.random() < 0.1:
        body = bytes(choose.choice((10**6, 40 * 10**6)))
    packed = ways[name](body)
    if choose.random() < 0.3:
        packed = choose.choice(
            (packed[: len(packed) // 2], packed + b"x", packed * 2, changed(choose, packed), body)
        )
    return choose.choice((name, name, name, name.upper(), "br", "gzip, gzip", "")), packed


def changed(choose: random.Random, data: bytes) -> bytes:
    """Bytes with one to eight damages."""
    found = bytearray(data)
    for _ in range(choose.choice((1, 1, 2, 8))):
        fuzz_photos.damage(choose, found, [data or b"x"])
    return bytes(found)


SMALL_BOMBS = (
    "jpeg_500_scans_that_do_not_refine", "jpeg_arithmetic_scans", "jpeg_lossless", "jpeg_65500_a_side", "png_16_bit_grey", "webp_8944_a_side",
    "webp_16383_a_side", "webp_canvas_of_a_small_frame", "gif_65535_a_side", "bmp_ends_of_lines", "bmp_without_pixels", "AVIF_grids_of_grids",
    "HEIF_1024_a_side_that_says_64",
)  # fmt: skip
BODIES: dict[str, tuple[list[str], Callable[[random.Random, list[bytes]], tuple[str, bytes]]]] = {
    "photo": (["/predict"], a_photo),
    "form": (["/predict"], a_form),
    "JSON": (["/predict"], a_body),
    "TensorFlow": (TENSORFLOW, instances),
    "inference": (INFER, tensors),
    "state": ([*STATES, "/predict"], nothing),
}


if __name__ == "__main__":
    sys.exit(main())
