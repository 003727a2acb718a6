"""Mixed good and bad load on a running gateway for a long time; fails if it loses a request, swells or is slow to say that it lives.

    python scripts/soak_gateway.py --seconds 1800
    python scripts/soak_gateway.py models/trashnet --seconds 1800      with a second gateway, before a model server that dies

Everything runs here, over loopback. Clients send good requests in every dialect, bad ones and bombs; others send one byte
at a time, stall, or go away in the middle. A gateway may answer with what each kind of request deserves, or with 503 when
it is full; the one before a model server, which is killed and started again all along, may add 502 and 504 meanwhile, and
must recover by itself. Checked are also the memory of all processes, the time that /healthz takes, and the log.
Standard output has one JSON, in its first line, and a table.
"""

import argparse
import asyncio
import base64
import contextlib
import gzip
import json
import random
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from bench_gateway import free_port, wait_for
from fuzz_photos import made_bomb
from tqdm import tqdm
from watched_gateway import SERVE, Gateway, gateway

ROOT = Path(__file__).parents[1]
AWAY = {502, 503, 504}
UPLOAD_SECONDS = 10
LIMITS = ["--upload-seconds", str(UPLOAD_SECONDS), "--model-seconds", "60"]
"""A busy machine does not reach the limit of the model's time; the uploads' is met by those that stall alone."""
SMALL_BOMBS = (
    "jpeg_500_scans_that_do_not_refine", "jpeg_arithmetic_scans", "jpeg_lossless", "jpeg_65500_a_side", "png_16_bit_grey", "webp_8944_a_side",
    "webp_16383_a_side", "gif_65535_a_side", "gif_8944_a_side", "bmp_ends_of_lines", "bmp_without_pixels", "AVIF_grids_of_grids",
    "HEIF_1024_a_side_that_says_64", "png_nameless_packed_texts", "png_million_empty_chunks", "jpeg_million_comments",
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A kind of request: what is sent, and the statuses that it deserves."""

    name: str
    path: str
    statuses: set[int]
    options: dict[str, Any]


@dataclass
class Seen:
    """What came back from one gateway.

    Attributes:
        answers: by kind and status.
        wrong: requests that were lost, or got what they do not deserve.
        memory: MiB of all its processes, once a second.
        alive: seconds that /healthz took.
        last_good: when a photo was answered last.
    """

    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    alive: list[float] = field(default_factory=list)
    last_good: float = 0.0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "bundle", type=Path, nargs="?", help="an exported bundle; without one, the shipped model alone"
    )
    parser.add_argument("--photos", type=Path, default=ROOT / "data/sample")
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clients", type=int, default=6, help="that send whole requests, for each gateway")
    parser.add_argument("--pause", type=float, default=0.15, help="seconds between a client's requests")
    parser.add_argument("--outage", type=float, default=60, help="seconds between the model server's deaths")
    parser.add_argument(
        "--healthz-ms", type=float, default=100, help="that /healthz may take, at the 99th percentile"
    )
    parser.add_argument("--log-mb", type=float, default=1, help="that the log may have")
    parser.add_argument(
        "--memory", type=float, default=512, help="MiB that a gateway may hold, all processes together"
    )
    parser.add_argument(
        "--growth",
        type=float,
        default=0.1,
        help="share that memory may grow, from the second quarter to the last",
    )
    parser.add_argument("--serve", default="", help="further settings of the gateway, such as '--workers 2'")
    options = parser.parse_args()
    kinds = requests_of(sorted(options.photos.rglob("*.jpg"))[:40])
    results = run(options, kinds)
    print(json.dumps({"seconds": options.seconds, "seed": options.seed, "gateways": results}))
    violations = [f"{name}: {fault}" for name, found in results.items() for fault in found["violations"]]
    print(table(results))
    print("\n".join(violations) or "no violation")
    return 1 if violations else 0


def run(options: argparse.Namespace, kinds: Sequence[Kind]) -> dict[str, dict[str, Any]]:
    """Start the gateways, load them, and report on each."""
    more = [*LIMITS, *options.serve.split()]
    with contextlib.ExitStack() as stack:
        server: list[str] = []
        gateways = {"alone": stack.enter_context(gateway([own_model(options.bundle), *more]))}
        if options.bundle:
            port = free_port()
            server = [*SERVE, own_model(options.bundle), "--port", str(port)]
            front = [
                str(options.bundle),
                "--runtime",
                "tf-serving",
                "--backend-url",
                f"http://127.0.0.1:{port}",
            ]
            gateways["before a model server"] = stack.enter_context(gateway([*front, *more]))
        seen = asyncio.run(soak(options, kinds, gateways, server))
        return {name: report(found, gateways[name], options) for name, found in seen.items()}


def own_model(bundle: Path | None) -> str:
    """What a gateway that runs the model itself is given: a bundle's small file, or the shipped model."""
    return str(bundle / "export" / "model_int8.tflite") if bundle else "shipped"


def requests_of(photos: Sequence[Path]) -> list[Kind]:
    """Good requests in every dialect, bad ones, and bombs."""
    data = [photo.read_bytes() for photo in photos]
    b64 = [base64.b64encode(photo).decode() for photo in data]
    infer = {"name": "image_bytes", "datatype": "BYTES", "shape": [1]}
    good, url = {200}, "/predict"
    kinds = [Kind("photo", url, good, {"files": {"photos": photo}}) for photo in data[:20]]
    kinds += [Kind("base64", url, good, {"json": {"image": text}}) for text in b64[:5]]
    packed = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    kinds += [
        Kind("several", url, good, {"files": [("photos", photo) for photo in data[20:24]]}),
        Kind("good and bad", url, good, {"files": [("photos", data[0]), ("photos", b"no photo")]}),
        Kind("photo as it is", url, good, {"content": data[1], "headers": {"Content-Type": "image/jpeg"}}),
        Kind("packed", url, good, {"content": gzip.compress(json.dumps({"image": b64[2]}).encode()), "headers": packed}),
        Kind("tensorflow", "/v1/models/trash:predict", good, {"json": {"instances": [{"b64": b64[6]}]}}),
        Kind("open inference", "/v2/models/trash/infer", good, {"json": {"inputs": [infer | {"data": [b64[7]]}]}}),
        Kind("no photo", url, {400}, {"files": {"photos": b"no photo"}}),
        Kind("cut short", url, {400}, {"files": {"photos": data[8][: len(data[8]) // 2]}}),
        Kind("unknown host", url, {400}, {"json": {"url": "http://no-such-host.invalid/a.jpg"}}),
        Kind("own network", url, {422}, {"json": {"url": "http://127.0.0.1:1/latest/"}}),
        Kind("wrong body", url, {422}, {"json": {"picture": 1}}),
        Kind("no json", url, {422}, {"content": b"{", "headers": {"content-type": "application/json"}}),
        Kind("deep json", url, {422}, {"content": b"[" * 500_000, "headers": {"content-type": "application/json"}}),
        Kind("wrong type", url, {415}, {"content": b"x", "headers": {"content-type": "text/plain"}}),
        Kind("no path", "/nowhere", {404}, {"content": b""}),
        Kind("wrong tensor", "/v1/models/trash:predict", {422}, {"json": {"instances": [[[1, 2], [3]]]}}),
    ]  # fmt: skip
    image = {"Content-Type": "image/jpeg"}
    bombs = {name: made_bomb(name) for name in SMALL_BOMBS}
    return kinds + [
        Kind(f"bomb {name}", url, {200, 400, 413}, {"content": bomb, "headers": image})
        for name, bomb in bombs.items()
    ]


async def soak(
    options: argparse.Namespace, kinds: Sequence[Kind], gateways: dict[str, Gateway], server: Sequence[str]
) -> dict[str, Seen]:
    """Load, outages and the watch on memory, side by side until the time is over."""
    seen = {name: Seen() for name in gateways}
    until = time.monotonic() + options.seconds
    jobs = [outages(until, server, options.outage)] if server else []
    for name, running in gateways.items():
        found, passing = seen[name], {503} if name == "alone" else AWAY
        url = f"http://127.0.0.1:{running.port}"
        for number in range(options.clients):
            choose = random.Random(f"{options.seed} {name} {number}")
            jobs.append(client(until, url, kinds, choose, found, passing, options.pause))
        choose = random.Random(f"{options.seed} {name} rude")
        jobs += [rude_clients(until, running.port, choose), byte_by_byte(until, running.port, found, passing)]
        jobs += [stalled(until, running.port, found), alive(until, url, found), watch(until, found, running)]
    jobs.append(show_time(until))
    await asyncio.gather(*jobs)
    return seen


async def client(
    until: float,
    url: str,
    kinds: Sequence[Kind],
    choose: random.Random,
    seen: Seen,
    passing: set[int],
    pause: float,
) -> None:
    """Sends one request after another; each must be answered, and with what is due."""
    async with httpx.AsyncClient(base_url=url, timeout=600, trust_env=False) as session:
        while time.monotonic() < until:
            kind = choose.choice(kinds)
            try:
                status = (await session.post(kind.path, **kind.options)).status_code
            except httpx.HTTPError as error:
                seen.wrong.append(f"{kind.name}: lost, {error!r}")
                continue
            seen.answers[f"{kind.name} {status}"] += 1
            if status == 200:
                seen.last_good = time.monotonic()
            if status not in kind.statuses | passing:
                seen.wrong.append(f"{kind.name}: {status}")
            await asyncio.sleep(choose.uniform(0, 2 * pause))


async def rude_clients(until: float, port: int, choose: random.Random) -> None:
    """Send a part of a request and go away, again and again."""
    whole = head(9999) + b"{" + b'"' * 5000
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(whole[: choose.randrange(len(whole))])
            await writer.drain()
            await asyncio.sleep(choose.choice((0, 0.01, 0.5)))
            writer.transport.abort()
        await asyncio.sleep(0.1)


async def byte_by_byte(until: float, port: int, seen: Seen, passing: set[int]) -> None:
    """Send a small whole request a byte at a time, in a third of the time that an upload may take."""
    body = b'{"picture": 1}'
    request = head(len(body)) + body
    while time.monotonic() < until:
        await slow_request(
            port, request, UPLOAD_SECONDS / 3 / len(request), seen, "byte by byte", {422} | passing
        )


async def stalled(until: float, port: int, seen: Seen) -> None:
    """Begin a body and send no more of it: given up with 408, while it lasts."""
    while time.monotonic() < until - 2 * UPLOAD_SECONDS:
        await slow_request(port, head(100) + b"{", 0, seen, "stalled", {408, 503})


async def slow_request(
    port: int, request: bytes, pause: float, seen: Seen, name: str, statuses: set[int]
) -> None:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for start in range(0, len(request), 1 if pause else len(request)):
            writer.write(request[start : start + (1 if pause else len(request))])
            await writer.drain()
            await asyncio.sleep(pause)
        line = await asyncio.wait_for(reader.readline(), 600)
        writer.close()
        status = int(line.split()[1])
    except (OSError, IndexError, ValueError, TimeoutError) as error:
        seen.wrong.append(f"{name}: lost, {error!r}")
        return
    seen.answers[f"{name} {status}"] += 1
    if status not in statuses:
        seen.wrong.append(f"{name}: {status}")


def head(length: int) -> bytes:
    lines = (
        "POST /predict HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        f"Content-Length: {length}",
    )
    return "\r\n".join([*lines, "", ""]).encode()


async def alive(until: float, url: str, seen: Seen) -> None:
    """Ask /healthz four times a second, and take the time."""
    async with httpx.AsyncClient(base_url=url, timeout=600, trust_env=False) as session:
        while time.monotonic() < until:
            start = time.perf_counter()
            try:
                status = (await session.get("/healthz")).status_code
            except httpx.HTTPError as error:
                seen.wrong.append(f"healthz: lost, {error!r}")
                continue
            seen.alive.append(time.perf_counter() - start)
            if status != 200:
                seen.wrong.append(f"healthz: {status}")
            await asyncio.sleep(0.25)


async def outages(until: float, line: Sequence[str], seconds: float) -> None:
    """Run the model server; kill it now and then, and leave it away for a while; alive at the end."""
    while True:
        with subprocess.Popen(line, stderr=subprocess.DEVNULL) as process:
            url = f"http://127.0.0.1:{line[-1]}/readyz"
            await asyncio.to_thread(wait_for, url)
            await asyncio.sleep(min(seconds, max(0, until - time.monotonic())))
            process.kill()
        if time.monotonic() >= until:
            return
        await asyncio.sleep(min(seconds / 6, max(0, until - time.monotonic() - seconds / 6)))


async def watch(until: float, seen: Seen, running: Gateway) -> None:
    """Take down memory once a second."""
    while time.monotonic() < until:
        seen.memory.append(await asyncio.to_thread(running.mebibytes))
        await asyncio.sleep(1)


async def show_time(until: float) -> None:
    with tqdm(total=round(until - time.monotonic()), desc="soak", unit="s") as bar:
        while time.monotonic() < until:
            wait = min(5, max(0, until - time.monotonic()))
            await asyncio.sleep(wait)
            bar.update(round(wait))


def report(seen: Seen, running: Gateway, options: argparse.Namespace) -> dict[str, Any]:
    """Counts and figures of one gateway, and what it violates."""
    statuses: Counter[str] = Counter()
    for answer, count in seen.answers.items():
        statuses[answer.rpartition(" ")[2]] += count
    quarter = max(1, len(seen.memory) // 4)
    early, late = (
        statistics.median(part)
        for part in (seen.memory[quarter : 2 * quarter] or seen.memory, seen.memory[-quarter:])
    )
    lost = sum("lost" in wrong for wrong in seen.wrong)
    slowest = statistics.quantiles(seen.alive, n=100)[98] * 1000 if len(seen.alive) > 1 else float("inf")
    idle, log = time.monotonic() - seen.last_good, len(running.said().encode()) / 1e6
    checks = {
        f"{lost} requests were lost": lost > 0,
        f"{len(seen.wrong) - lost} answers were not those that are due: {seen.wrong[:10]}": len(seen.wrong)
        > lost,
        f"memory grew from {early:.0f} to {late:.0f} MiB": late > early * (1 + options.growth),
        f"memory reached {max(seen.memory):.0f} MiB": max(seen.memory) > options.memory,
        f"/healthz took {slowest:.0f} ms at the 99th percentile": slowest > options.healthz_ms,
        f"the log has {log:.2f} MB": log > options.log_mb,
        f"the last good answer was {idle:.0f} s ago": idle > max(60, options.seconds / 10),
        f"the gateway ended with {running.process.poll()}": running.process.poll() is not None,
        "the log has a traceback": "Traceback" in running.said(),
    }
    return {
        "requests": statuses.total(),
        "statuses": dict(sorted(statuses.items())),
        "lost": lost,
        "not due": seen.wrong[:20],
        "memory, MiB": {"second quarter": early, "last quarter": late, "largest": max(seen.memory)},
        "healthz p99, ms": slowest,
        "log, MB": log,
        "answers": dict(sorted(seen.answers.items())),
        "violations": [text for text, violated in checks.items() if violated],
    }


def table(results: dict[str, dict[str, Any]]) -> str:
    lines = [
        f"{'gateway':22} {'requests':>8} {'lost':>5} {'early':>6} {'late':>6} {'most':>6} {'healthz p99':>11} {'log':>8}"
    ]
    for name, found in results.items():
        memory = "".join(
            f"{found['memory, MiB'][key]:7.0f}" for key in ("second quarter", "last quarter", "largest")
        )
        lines.append(
            f"{name:22} {found['requests']:8} {found['lost']:5}{memory} {found['healthz p99, ms']:8.0f} ms {found['log, MB']:5.2f} MB"
        )
        lines.append(
            f"{'':22} {', '.join(f'{count} x {status}' for status, count in found['statuses'].items())}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
