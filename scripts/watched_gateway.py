"""A gateway that runs here for a script: its address, its log, and the memory of all its processes."""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from image_classification_trash.serving.operations.supervision import memory_of

SERVE = [sys.executable, "-m", "image_classification_trash", "serve"]
START_SECONDS = 600
"""A guard against hanging: on an idle machine a gateway starts in one second."""


@dataclass(frozen=True)
class Gateway:
    """A running gateway.

    Attributes:
        port: on loopback.
        process: its first process; more may be below it.
        log: what it says on standard error.
    """

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def mebibytes(self) -> float:
        """Memory of all its processes, pages that they share counted once (PSS)."""
        return sum(map(memory_of, family(self.process.pid))) / 2**20

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


@contextlib.contextmanager
def gateway(arguments: Sequence[str], port: int = 0) -> Iterator[Gateway]:
    """Run `serve ARGUMENTS` on loopback until the block ends."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as written:
            line = [*SERVE, *arguments, "--port", str(port)]
            process = subprocess.Popen(line, stderr=written, stdout=subprocess.DEVNULL)
            try:
                yield Gateway(listening(process, log), process, log)
            finally:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(60)
                process.kill()
                process.wait()


def listening(process: subprocess.Popen[bytes], log: Path) -> int:
    """The port that a gateway says it serves at."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        found = re.search(
            r"serving .* at http://\S+:(\d+)", log.read_text(encoding="utf-8", errors="replace")
        )
        if found:
            return int(found[1])
        time.sleep(0.05)
    raise SystemExit(f"the gateway does not start:\n{log.read_text(encoding='utf-8', errors='replace')}")


def family(pid: int) -> list[int]:
    """A process and all below it."""
    children: dict[int, list[int]] = {}
    for folder in os.listdir("/proc"):  # noqa: PTH208  names are enough
        if folder.isdecimal():
            with contextlib.suppress(OSError):
                stat = Path(f"/proc/{folder}/stat").read_text(encoding="utf-8", errors="replace")
                children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(folder))
    found = [pid]
    for parent in found:
        found += children.get(parent, [])
    return found
