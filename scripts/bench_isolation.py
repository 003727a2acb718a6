"""What it costs to decode photos in processes of their own, and what it holds: two measurements on loopback.

    python scripts/bench_isolation.py price --photos data/sample --rounds 5
    python scripts/bench_isolation.py bombs --seconds 30

`price`: requests a second and computing a request of the gateway with `--isolation`, with `--no-isolation`, and of two
workers of `plain_litert_gateway.py`, in turns, with 16 connections; the time from start to ready. The client shares the
cores. `bombs`: every bomb of the tests and some just below the budget, all at once over 32 connections, good photos
meanwhile; the memory of all processes of the gateway together, each page divided among those that share it.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from image_classification_trash.errors import PhotoTooLargeError
from image_classification_trash.inference.images import decoding_cost
from image_classification_trash.inference.photo_cost import SERVING, check_budget, photo_header
from image_classification_trash.inference.shipped import shipped_model
from image_classification_trash.serving.operations.supervision import memory_of

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests")]

from bench_gateway import BOUNDARY, free_port  # noqa: E402
from helpers import photo_bombs  # noqa: E402
from helpers.huffman_bomb import webp_of_many_tables  # noqa: E402
from watched_gateway import family  # noqa: E402

SERVE = [sys.executable, "-m", "image_classification_trash", "serve"]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("price", "bombs"))
    parser.add_argument("--model", type=Path, default=shipped_model(), help="a .tflite file")
    parser.add_argument("--photos", type=Path, default=ROOT / "data/sample")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8, help="of each measurement")
    parser.add_argument("--inputs", type=Path, help="a folder of further bombs")
    parser.add_argument(
        "--flags", nargs="*", default=[], help="further settings of the gateway, without dashes"
    )
    parser.add_argument("--connections", type=int, default=16)
    options = parser.parse_args()
    options.flags = [f"--{flag}" for flag in options.flags]
    photos = [path.read_bytes() for path in sorted(options.photos.rglob("*.jpg"))[:64]]
    print(json.dumps(price(options, photos) if options.what == "price" else bombs(options, photos), indent=2))


@contextlib.contextmanager
def running(line: Sequence[str], path: str, **environment: str) -> Iterator[tuple[int, int, float]]:
    """A server on a free port: port, process id, and seconds until it was ready."""
    port, start = free_port(), time.perf_counter()
    with subprocess.Popen(
        [*line, "--port", str(port)],
        env={**os.environ, **ONE_THREAD, **environment},
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            while True:
                with (
                    contextlib.suppress(OSError),
                    urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60),
                ):
                    break
                time.sleep(0.01)
            yield port, process.pid, time.perf_counter() - start
        finally:
            process.terminate()


def computing(pid: int) -> float:
    """Seconds of computing of a process and its descendants, of those too that have ended and were waited for."""
    total = 0
    for each in family(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(") ")[2].split()
            total += sum(map(int, fields[11:15]))
    return total / os.sysconf("SC_CLK_TCK")


def memory(pid: int, alone: bool = False) -> float:
    """MiB of a process and, unless `alone`, its descendants, each page divided among those that share it."""
    return sum(map(memory_of, [pid] if alone else family(pid))) / 2**20


def request_of(photo: bytes) -> bytes:
    body = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="photos"; filename="p.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    ).encode() + photo + f"\r\n--{BOUNDARY}--\r\n".encode()  # fmt: skip
    head = (
        f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def ask(port: int, requests: Sequence[bytes], until: float, seen: list[tuple[int, float]]) -> None:
    """One connection that sends its next request once it has its answer; connects again where it was closed."""
    turn = 0
    while time.monotonic() < until:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                while time.monotonic() < until:
                    start = time.perf_counter()
                    writer.write(requests[turn % len(requests)])
                    turn += 1
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = re.search(rb"(?i)content-length: (\d+)", head)
                    await reader.readexactly(int(length[1]) if length else 0)
                    seen.append((int(head[9:12]), time.perf_counter() - start))
            finally:
                writer.close()


async def load(
    port: int, requests: Sequence[bytes], seconds: float, connections: int
) -> list[tuple[int, float]]:
    seen: list[tuple[int, float]] = []
    until = time.monotonic() + seconds
    turns = [[*requests[n % len(requests) :], *requests[: n % len(requests)]] for n in range(connections)]
    await asyncio.gather(*(ask(port, turn, until, seen) for turn in turns))
    return seen


def price(options: argparse.Namespace, photos: Sequence[bytes]) -> dict[str, object]:
    requests = [request_of(photo) for photo in photos]
    plain = [sys.executable, "-m", "uvicorn", "--app-dir", str(ROOT / "scripts"), "--log-level", "warning"]
    lines = {
        "isolation": [*SERVE, str(options.model)],
        "no isolation": [*SERVE, str(options.model), "--no-isolation"],
        "two plain workers": [*plain, "plain_litert_gateway:app", "--workers", "2"],
    }
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in lines}
    starts: dict[str, list[float]] = {name: [] for name in lines}
    for _ in range(options.rounds):
        for name, line in lines.items():
            with running(line, "/openapi.json", MODEL=str(options.model)) as (port, pid, ready):
                starts[name].append(ready)
                asyncio.run(load(port, requests, 1, options.connections))
                before = computing(pid)
                seen = asyncio.run(load(port, requests, options.seconds, options.connections))
                took = computing(pid) - before
            good = sorted(seconds for status, seconds in seen if status == 200)
            rounds[name].append(
                {
                    "rate": len(good) / options.seconds,
                    "lost": len(seen) - len(good),
                    "ms of computing": 1000 * took / len(good),
                    "median ms": 1000 * good[len(good) // 2],
                    "p99 over median": good[int(len(good) * 0.99)] / good[len(good) // 2],
                }
            )
    middle = {
        name: {key: statistics.median(each[key] for each in found) for key in found[0]}
        for name, found in rounds.items()
    }
    for name, found in middle.items():
        found["start s"] = statistics.median(starts[name])
        for key in ("rate", "ms of computing"):
            pairs = zip(rounds[name], rounds["two plain workers"], strict=True)
            found[f"{key}, of two plain workers"] = statistics.median(a[key] / b[key] for a, b in pairs)
    return {"connections": options.connections, "medians": middle, "rounds": rounds}


def near_bombs() -> Iterator[bytes]:
    """Yield photos of each kind that ask for as much as a stranger's photo may, or a little less."""
    makers: dict[str, Callable[[int], bytes]] = {
        "webp": lambda side: photo_bombs.riff(photo_bombs.lossless_frame(side, side)),
        "png rgb": lambda side: photo_bombs.png(side, 8, 2),
        "png rgba": lambda side: photo_bombs.png(side, 8, 6),
        "png 16 bits": lambda side: photo_bombs.png(side, 16, 6),
        "png 16 bits grey": lambda side: photo_bombs.png(side, 16, 0),
        "png interlaced": lambda side: photo_bombs.png(side, 8, 6, interlaced=1),
        "jpeg progressive": lambda side: photo_bombs.progressive_scans(8, side),
        "avif": lambda side: photo_bombs.grid("AVIF", side // 512),
        "heif": lambda side: photo_bombs.grid("HEIF", side // 512),
        "bmp": lambda side: photo_bombs.bmp(side, side, 24, 0, bytes(side * side)),
        "bmp runs": lambda side: photo_bombs.bmp(side, side, 8, 1, b"\1\5\0\0" * side),
    }
    for make in makers.values():
        for side in range(7100, 500, -200):
            data = make(side)
            header = photo_header(data, SERVING.max_parts)
            if header is None:
                continue
            with contextlib.suppress(PhotoTooLargeError):
                check_budget(header, decoding_cost(header, len(data), (256, 320)), SERVING)
                yield data
                break


def bombs(options: argparse.Namespace, photos: Sequence[bytes]) -> dict[str, object]:
    """Send bombs over 32 connections and good photos over two, and watch memory."""
    sent = [make() for make in photo_bombs.BOMBS.values()]
    sent += [path.read_bytes() for path in options.inputs.glob("*.*")] if options.inputs else []
    below = [webp_of_many_tables(), *near_bombs()]
    hostile = [request_of(data) for data in [*sent, *below * 4]]
    random.Random(0).shuffle(hostile)
    held: list[tuple[float, float]] = []
    done = threading.Event()

    def watch(pid: int) -> None:
        while not done.wait(0.02):
            held.append((memory(pid), memory(pid, alone=True)))

    async def both(port: int) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
        good = [request_of(photo) for photo in photos]
        return await asyncio.gather(
            load(port, hostile, options.seconds, 32), load(port, good, options.seconds, 2)
        )

    with running([*SERVE, str(options.model), *options.flags], "/readyz") as (port, pid, _):
        asyncio.run(load(port, [request_of(photo) for photo in photos], 1, 4))
        idle = memory(pid)
        watcher = threading.Thread(target=watch, args=(pid,))
        watcher.start()
        bad, good = asyncio.run(both(port))
        done.set()
        watcher.join()
        time.sleep(2)
        after = memory(pid), memory(pid, alone=True)
    times = sorted(seconds for status, seconds in good if status == 200)
    return {
        "bombs": len(sent), "just below the budget": len(below), "flags": options.flags,
        "statuses of bombs": Counter(status for status, _ in bad),
        "statuses of good photos": Counter(status for status, _ in good),
        "good: median and p99, s": (times[len(times) // 2], times[int(len(times) * 0.99)]) if times else None,
        "MiB of all, idle": idle,
        "MiB of all and of the gateway's own process, at the most": max(held), "two seconds later": after,
        "most MiB of the gateway's own process": max(alone for _, alone in held), "samples": len(held),
    }  # fmt: skip


if __name__ == "__main__":
    main()
