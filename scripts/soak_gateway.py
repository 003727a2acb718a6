"""Mixed good and bad load on running gateways for a long time; fails if any answer is not the one that is due.

    python scripts/soak_gateway.py models/trashnet --minutes 30

Two gateways are asked over loopback: one that runs the model itself, and one before a model server, which is killed
and started again all along. The first may answer with what each kind of request deserves, or with 503 when full; the
second may add 502 and 504 while its model server is away, and must recover by itself. Memory is watched.
"""

import argparse
import asyncio
import base64
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from bench_gateway import free_port, resident, running, wait_for
from tqdm import tqdm

SERVE = [sys.executable, "-m", "image_classification_trash", "serve"]
AWAY = {502, 503, 504}


@dataclass(frozen=True)
class Kind:
    """A kind of request: what is sent, and the statuses that it deserves."""

    name: str
    path: str
    statuses: set[int]
    options: dict[str, Any]


@dataclass
class Seen:
    """What came back from one gateway."""

    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    last_good: float = 0.0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path, help="an exported bundle")
    parser.add_argument("--photos", type=Path, default=Path("data/sample"))
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=6, help="for each gateway")
    parser.add_argument("--pause", type=float, default=0.15, help="seconds between a client's requests")
    parser.add_argument("--outage", type=float, default=60, help="seconds between the model server's deaths")
    options = parser.parse_args()
    model = options.bundle / "export" / "model_int8.tflite"
    kinds = requests_of(sorted(options.photos.rglob("*.jpg"))[:40])
    port = free_port()
    before = ["--runtime", "tf-serving", "--backend-url", f"http://127.0.0.1:{port}"]
    own, front = [*SERVE, str(model), "--port"], [*SERVE, str(options.bundle), *before, "--port"]
    with running(own) as alone, running(front) as fronting:
        seen = asyncio.run(soak(options, kinds, alone, fronting, [*own, str(port)]))
    result = {name: report(found) for name, found in seen.items()}
    print(json.dumps({"minutes": options.minutes, **result}, indent=2))
    return 0 if all(not found.wrong and recovered(found) for found in seen.values()) else 1


def requests_of(photos: Sequence[Path]) -> list[Kind]:
    """Good requests in every dialect, and bad ones."""
    data = [photo.read_bytes() for photo in photos]
    b64 = [base64.b64encode(photo).decode() for photo in data]
    infer = {"name": "image_bytes", "datatype": "BYTES", "shape": [1]}
    good, url = {200}, "/predict"
    kinds = [Kind("photo", url, good, {"files": {"photos": photo}}) for photo in data[:20]]
    kinds += [Kind("base64", url, good, {"json": {"image": text}}) for text in b64[:5]]
    kinds += [
        Kind("several", url, good, {"files": [("photos", photo) for photo in data[20:24]]}),
        Kind("good and bad", url, good, {"files": [("photos", data[0]), ("photos", b"no photo")]}),
        Kind("tensorflow", "/v1/models/trash:predict", good, {"json": {"instances": [{"b64": b64[6]}]}}),
        Kind("open inference", "/v2/models/trash/infer", good, {"json": {"inputs": [infer | {"data": [b64[7]]}]}}),
        Kind("no photo", url, {400}, {"files": {"photos": b"no photo"}}),
        Kind("cut short", url, {400}, {"files": {"photos": data[8][: len(data[8]) // 2]}}),
        Kind("unknown host", url, {400}, {"json": {"url": "http://no-such-host.invalid/a.jpg"}}),
        Kind("own network", url, {422}, {"json": {"url": "http://169.254.169.254/latest/"}}),
        Kind("wrong body", url, {422}, {"json": {"picture": 1}}),
        Kind("no json", url, {422}, {"content": b"{", "headers": {"content-type": "application/json"}}),
        Kind("wrong type", url, {415}, {"content": b"x", "headers": {"content-type": "text/plain"}}),
        Kind("no path", "/nowhere", {404}, {"content": b""}),
        Kind("wrong tensor", "/v1/models/trash:predict", {422}, {"json": {"instances": [[[1, 2], [3]]]}}),
    ]  # fmt: skip
    return kinds


async def soak(
    options: argparse.Namespace,
    kinds: Sequence[Kind],
    alone: dict[str, float],
    fronting: dict[str, float],
    server: Sequence[str],
) -> dict[str, Seen]:
    """Load, outages and the watch on memory, side by side until the time is over."""
    seen = {"alone": Seen(), "before a model server": Seen()}
    until = time.monotonic() + 60 * options.minutes
    jobs = [watch(until, seen, {"alone": alone, "before a model server": fronting}), outages(until, server, options.outage)]  # fmt: skip
    for (name, found), process, passing in zip(seen.items(), (alone, fronting), ({503}, AWAY), strict=True):
        url = f"http://127.0.0.1:{process['port']:.0f}"
        for number in range(options.clients):
            choose = random.Random(f"{name} {number}")
            jobs.append(client(until, url, kinds, choose, found, passing, options.pause))
    jobs.append(rude_clients(until, [int(alone["port"]), int(fronting["port"])]))
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
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as session:
        while time.monotonic() < until:
            kind = choose.choice(kinds)
            try:
                status = (await session.post(kind.path, **kind.options)).status_code
            except httpx.HTTPError as error:
                seen.wrong.append(f"{kind.name}: {error!r}")
                continue
            seen.answers[f"{kind.name} {status}"] += 1
            if status == 200:
                seen.last_good = time.monotonic()
            if status not in kind.statuses | passing:
                seen.wrong.append(f"{kind.name}: {status}")
            await asyncio.sleep(choose.uniform(0, 2 * pause))


async def rude_clients(until: float, ports: Sequence[int]) -> None:
    """Send half a request and go away, again and again."""
    half = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n{"
    while time.monotonic() < until:
        for port in ports:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(half)
            await writer.drain()
            await asyncio.sleep(0.5)
            writer.transport.abort()


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


async def watch(until: float, seen: dict[str, Seen], processes: dict[str, dict[str, float]]) -> None:
    """Take down memory every ten seconds, and show that time passes."""
    with tqdm(total=round(until - time.monotonic()), desc="soak", unit="s") as bar:
        while time.monotonic() < until:
            for name, process in processes.items():
                seen[name].memory.append(resident(process["pid"]))
            wait = min(10, max(0, until - time.monotonic()))
            await asyncio.sleep(wait)
            bar.update(round(wait))


def recovered(seen: Seen) -> bool:
    """Whether photos were answered to the end."""
    return time.monotonic() - seen.last_good < 10


def report(seen: Seen) -> dict[str, Any]:
    """Counts, and memory in MB: after a tenth of the time, when everything has run once, and at the end."""
    statuses: Counter[str] = Counter()
    for answer, count in seen.answers.items():
        statuses[answer.rpartition(" ")[2]] += count
    tenth = len(seen.memory) // 10
    return {
        "requests": sum(statuses.values()),
        "statuses": dict(sorted(statuses.items())),
        "not due": seen.wrong[:20],
        "seconds since the last good answer": round(time.monotonic() - seen.last_good, 1),
        "memory, MB": {
            "after a tenth": seen.memory[tenth],
            "largest": max(seen.memory),
            "last": seen.memory[-1],
        },
        "answers": dict(sorted(seen.answers.items())),
    }


if __name__ == "__main__":
    sys.exit(main())
