"""Requests a second of the gateway, side by side with two baselines, measured in turns in one run.

    python scripts/bench_gateway.py models/trashnet --photos data/sample

- the in-process limit: a bare loop in as many processes as cores that decodes and runs, without any server;
- the plain gateway of `plain_gateway.py`: FastAPI, torch eager, torchvision's transforms, the same network.

Load comes from `wrk` (a package of Debian's), on this machine, over loopback, so client and server share the cores.
Also: latencies, memory of a worker after the load, and the time from the process's start until it is ready.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from image_classification_trash.inference.images import read_photo
from image_classification_trash.inference.runtimes import open_file

BOUNDARY = "trash-classifier-bench"
SCRIPT = """
local bodies, turn = {}, 0
for name in io.popen("ls FOLDER"):lines() do
  local file = io.open("FOLDER/" .. name, "rb")
  bodies[#bodies + 1] = file:read("*a")
  file:close()
end
local headers = {["Content-Type"] = "multipart/form-data; boundary=BOUNDARY"}
request = function()
  turn = turn % #bodies + 1
  return wrk.format("POST", "/predict", headers, bodies[turn])
end
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format('JSON {"requests": %d, "seconds": %f, "p50": %f, "p99": %f, "errors": %d}\\n', summary.requests,
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path, help="an exported bundle")
    parser.add_argument("--file", default="model_int8.tflite", help="in its export folder")
    parser.add_argument("--photos", type=Path, default=Path("data/sample"))
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=int, default=10, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    model = options.bundle / "export" / options.file
    photos = sorted(options.photos.rglob("*.jpg"))
    photos = photos[:: max(1, len(photos) // 64)][:64]
    environment = {**os.environ, "BUNDLE": str(options.bundle)}
    scripts = str(Path(__file__).parent)
    ours = [sys.executable, "-m", "image_classification_trash", "serve", str(model), "--port"]
    plain = [sys.executable, "-m", "uvicorn", "--app-dir", scripts, "plain_gateway:app", "--log-level", "warning", "--port"]  # fmt: skip
    rounds: dict[str, list[dict[str, float]]] = {"gateway": [], "plain": [], "limit": []}
    with tempfile.TemporaryDirectory() as folder, running(ours, environment) as mine, running(plain, environment) as other:  # fmt: skip
        script = write_script(Path(folder), photos)
        for _ in range(options.rounds):
            rounds["gateway"].append(load(script, mine["port"], options))
            rounds["plain"].append(load(script, other["port"], options))
            rounds["limit"].append(limit(model, photos, options.seconds))
        memory = {name: resident(process["pid"]) for name, process in (("gateway", mine), ("plain", other))}
    print(json.dumps(summary(rounds, memory, options, starts(ours, environment)), indent=2))


@contextlib.contextmanager
def running(line: Sequence[str], environment: dict[str, str] | None = None) -> Iterator[dict[str, float]]:
    """A server on a free port: its port, its process id, and the seconds until it answered."""
    port = free_port()
    start = time.perf_counter()
    with subprocess.Popen([*line, str(port)], env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/openapi.json")
            yield {"port": port, "pid": process.pid, "seconds": time.perf_counter() - start}
        finally:
            process.terminate()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def wait_for(url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(url):  # noqa: S310  loopback
            return
        time.sleep(0.01)
    raise SystemExit(f"{url} does not answer")


def write_script(folder: Path, photos: Sequence[Path]) -> Path:
    """A script for wrk, and the bodies that it sends in turn."""
    bodies = folder / "bodies"
    bodies.mkdir()
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="photos"; filename="p.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    for number, photo in enumerate(photos):
        body = head.encode() + photo.read_bytes() + f"\r\n--{BOUNDARY}--\r\n".encode()
        (bodies / f"{number:04}").write_bytes(body)
    script = folder / "load.lua"
    script.write_text(SCRIPT.replace("FOLDER", str(bodies)).replace("BOUNDARY", BOUNDARY))
    return script


def load(script: Path, port: float, options: argparse.Namespace) -> dict[str, float]:
    """Closed-loop load: each connection sends its next request once it has its answer."""
    size = ["--threads", "1", "--connections", str(options.connections), "--duration", f"{options.seconds}s"]
    line = ["wrk", *size, "--timeout", "20s", "--script", str(script), f"http://127.0.0.1:{port:.0f}"]
    said = subprocess.run(line, check=True, capture_output=True, text=True).stdout
    found = re.search(r"JSON (\{.*\})", said)
    if found is None:
        raise SystemExit(f"wrk said: {said}")
    figures: dict[str, float] = json.loads(found[1])
    return figures | {"rate": figures["requests"] / figures["seconds"]}


def limit(model: Path, photos: Sequence[Path], seconds: float) -> dict[str, float]:
    """Photos a second of bare loops, one process a core."""
    count = len(os.sched_getaffinity(0))
    with multiprocessing.get_context("spawn").Pool(count) as pool:
        rates = pool.starmap(bare_loop, [(model, photos, seconds)] * count)
    return {"rate": sum(rates)}


def bare_loop(model: Path, photos: Sequence[Path], seconds: float) -> float:
    config, run = open_file(model)
    data = [photo.read_bytes() for photo in photos]
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        run(read_photo(data[done % len(data)], config.input_size, config.resize_mode)[None])
        done += 1
    return done / (time.perf_counter() - start)


def starts(line: Sequence[str], environment: dict[str, str]) -> list[float]:
    """Seconds from a process's start until it answers, five times."""
    seconds = []
    for _ in range(5):
        with running(line, environment) as process:
            seconds.append(process["seconds"])
    return seconds


def resident(pid: float) -> float:
    """Memory of a process, in MB."""
    status = Path(f"/proc/{pid:.0f}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) * 1024 / 1e6


def summary(
    rounds: dict[str, list[dict[str, float]]],
    memory: dict[str, float],
    options: argparse.Namespace,
    ready: Sequence[float],
) -> dict[str, object]:
    rate = {name: statistics.median(r["rate"] for r in found) for name, found in rounds.items()}
    tail = statistics.median(r["p99"] / r["p50"] for r in rounds["gateway"])
    return {
        "connections": options.connections,
        "rounds": options.rounds,
        "seconds": options.seconds,
        "requests a second": rate,
        "errors": {name: sum(r["errors"] for r in rounds[name]) for name in ("gateway", "plain")},
        "share of the in-process limit": rate["gateway"] / rate["limit"],
        "times the plain gateway": rate["gateway"] / rate["plain"],
        "median, ms": statistics.median(r["p50"] for r in rounds["gateway"]),
        "p99 over median": tail,
        "resident memory after load, MB": memory,
        "start to ready, s": statistics.median(ready),
        "every round": rounds,
    }


if __name__ == "__main__":
    main()
